"""The files that describe the repository agree with the package: citation, workflow, templates, hooks."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

import recon

ROOT = Path(__file__).parents[1]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def read(name: str) -> dict[Any, Any]:
    content = yaml.safe_load((ROOT / name).read_text())
    assert isinstance(content, dict)
    return content


def requirements(extra: str) -> set[str]:
    return {re.split(r"[>\[]", line)[0] for line in SETUP["options.extras_require"][extra].split()}


def test_citation_names_this_version_and_the_paper() -> None:
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["version"] == recon.__version__
    assert citation["license"] == SETUP["metadata"]["license"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert [author["family-names"] for author in paper["authors"]] == ["Shi", "Li", "Zhang", "Chen", "Wu"]
    assert {paper["url"], paper["repository-code"]} == set(re.findall(r"https:\S+", SETUP["metadata"]["project_urls"]))


def test_workflow_tries_every_python_and_the_oldest_and_newest_torch() -> None:
    matrix = read(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", SETUP["options"]["python_requires"])
    assert bounds is not None
    assert matrix["python"] == [f"3.{minor}" for minor in range(*map(int, bounds.groups()))]
    lowest = dict(re.findall(r"^(torch|torchvision)>=(\S+)$", SETUP["options"]["install_requires"], re.MULTILINE))
    wheels = {entry["torch"]: entry["wheels"] for entry in matrix["include"]}
    assert matrix["torch"] == list(wheels) == [lowest["torch"], "newest"]
    assert wheels[lowest["torch"]] == f"torch=={lowest['torch']}.* torchvision=={lowest['torchvision']}.*"
    assert wheels["newest"] == "torch torchvision"


def test_workflow_runs_the_commands_of_make() -> None:
    workflow = read(".github/workflows/tests.yml")
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML takes the key `on` for true
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    called = {run.split()[1] for run in steps if run.startswith("make ")}
    assert {"lint", "test"} <= called <= targets


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issue_form_asks_each_question_once(form: Path) -> None:
    content = read(str(form.relative_to(ROOT)))
    assert {"name", "description", "body"} <= set(content)
    questions = content["body"]
    assert len({question["id"] for question in questions}) == len(questions)
    assert all(question["type"] in ("input", "textarea", "dropdown") for question in questions)
    assert all(question["attributes"]["label"] for question in questions)
    assert any(question.get("validations", {}).get("required") for question in questions)


def test_there_are_forms_for_bugs_features_and_methods() -> None:
    assert [form.stem for form in FORMS] == ["bug", "feature", "method"]


def test_local_hooks_are_tools_of_the_environment() -> None:
    (local,) = [repo for repo in read(".pre-commit-config.yaml")["repos"] if repo["repo"] == "local"]
    tools = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert tools == {"ruff", "mypy"}
    assert tools <= requirements("test")
    assert all(hook["language"] == "system" for hook in local["hooks"])
