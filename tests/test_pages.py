"""What the README and the pages under docs/ name is there: commands and their options, files, extras, Python names."""

import re
import runpy
import shlex
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from pkgutil import resolve_name
from typing import NoReturn

import pytest
import pytorch_lightning.loggers
import yaml
from pytorch_lightning import Callback

import recon
from recon.cli.dispatch import COMMANDS, TRAINING
from recon.cli.listing import names_of
from recon.configuration import CommandParser
from recon.conflict import published_rankings
from recon.experiments import Plan
from recon.training.branch_options import BranchOptions
from recon.training.command import TrainingCLI

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"```(\w*)\n(.*?)```", flags=re.DOTALL)
SOURCES = [path for folder in ("recon", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
FOLDERS = [ROOT / name for name in ("recon", "tests", "docs", "configs", "benchmarks")]
NAMES = {path.name for folder in FOLDERS for path in folder.rglob("*")} | {path.name for path in ROOT.iterdir()}
SUFFIXES = "py|yaml|json|md|csv|png|svg|pdf|ckpt|mat|html"
CPU_WHEELS = ["install", "torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu"]
USERS_OWN = {"mine.py", "found_elsewhere.json"}

over_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def commands(page: Path, program: str) -> list[list[str]]:
    """The words of every command of a program on a page, in blocks without a language and in running text."""
    lines = [line for language, block in FENCE.findall(page.read_text()) if not language for line in block.splitlines()]
    found = [line for line in [*lines, *inline_code(page)] if line.split()[:1] == [program]]
    words = [shlex.split(line, comments=True)[1:] for line in found]
    return [[word for word in command if word not in ("...", "[--json]")] for command in words]


LANGUAGES = {
    "": "commands, parsed here",
    "text": "an output or a format",
    "diff": "the README's, applied in test_readme.py",
    "python": "run in test_docs.py, the README's in test_readme.py",
    "yaml": "a file of test_docs.py, or read below",
}
"""What becomes of a block."""

PROGRAMS = {"make", "pip", "python", "python3", "recon", "torchrun"}


@over_pages
def test_every_block_is_of_a_kind_that_is_tried(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text()):
        assert language in LANGUAGES, f"{language!r} is none of {sorted(LANGUAGES)}"
        if not language:
            lines = re.sub(r"^(OMP_NUM_THREADS=1 |\.venv/bin/)", "", block.replace("\\\n", " "), flags=re.MULTILINE)
            first = {line.split()[0] for line in lines.splitlines() if line.split()}
            assert first <= PROGRAMS, "commands, or ```text"


def without_imports(words: list[str]) -> list[str]:
    return words[2:] if words[:1] == ["--import"] else words


def split(words: list[str]) -> tuple[str, list[str]]:
    """The name of a command, all of its words if there is none of that name, and its arguments."""
    known = [name for name in (*COMMANDS, *TRAINING) if words[: len(name.split())] == name.split()]
    name = known[0] if known else " ".join(words)
    return name, words[len(name.split()) :]


def written_maps() -> set[str]:
    """The files that the searches of the pages write."""
    searches = [words for words in OF_RECON if "--map_path" in words]
    return {words[words.index("--map_path") + 1] for words in searches}


OF_RECON = {tuple(without_imports(words)): None for page in PAGES for words in commands(page, "recon")}
over_commands = pytest.mark.parametrize(("name", "arguments"), [split(list(words)) for words in OF_RECON if words])


@over_commands
def test_commands_and_their_options_are_known(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in (*COMMANDS, *TRAINING)
    monkeypatch.chdir(ROOT)
    if not arguments or "my_fit.yaml" in arguments:  # it is only mentioned; or run, with its files, in test_docs.py
        return
    if name in COMMANDS:
        parser = CommandParser(prog=name, exit_on_error=False)
        parser.add_command(resolve_name(COMMANDS[name]))
        parser.parse_args(arguments)
        return

    class Parsed(Exception):
        """Everything was accepted, and nothing is built."""

    def stop(_: TrainingCLI) -> NoReturn:
        raise Parsed

    monkeypatch.setattr(TrainingCLI, "before_instantiate_classes", stop)
    with pytest.raises(Parsed):
        TrainingCLI(args=[name, *arguments])


@over_commands
def test_maps_in_commands_are_files_placeholders_or_published_rankings(name: str, arguments: list[str]) -> None:
    if name in ("map show", "map compare", "map apply", "map select"):
        for argument in arguments[: 2 if name == "map compare" else 1]:
            assert "/" in argument or argument.isupper() or argument in {*written_maps(), *published_rankings()}


def fragments(page: str) -> list[str]:
    """The blocks of YAML on a page that are no files."""
    blocks = FENCE.findall((ROOT / "docs" / page).read_text())
    return [block for language, block in blocks if language == "yaml" and not block.startswith("# my_")]


FRAGMENTS = ["branching.md", "clusters.md", "live-view.md", "plans.md", "several-devices.md"]
"""The pages with fragments; the five tests that follow read them."""


def test_no_other_page_has_a_fragment() -> None:
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if fragments(page)] == FRAGMENTS


def test_ways_of_branching_are_options_of_the_module() -> None:
    (text,) = fragments("branching.md")
    options = [BranchOptions(**yaml.safe_load(line)["branch"]) for line in text.splitlines()]
    assert len(options) == 4


def test_the_live_view_and_loggers_are_those_of_a_trainer_and_of_a_plan() -> None:
    fit, of_plan = (yaml.safe_load(text) for text in fragments("live-view.md"))
    observed, view = fit["trainer"]["callbacks"]
    assert issubclass(resolve_name(view), Callback)
    resolve_name(observed["class_path"])(**observed["init_args"])
    plan = yaml.safe_load((ROOT / "configs" / "multi_fashion_mnist" / "narrow.yaml").read_text())
    plan["fit"]["trainer"] |= of_plan["fit"]["trainer"]
    Plan.from_dict(plan).check()
    loggers = [fit["trainer"]["logger"], *of_plan["fit"]["trainer"]["logger"]]
    assert all(hasattr(pytorch_lightning.loggers, logger["class_path"]) for logger in loggers)


def test_entries_with_sweeps_and_resources_are_those_of_a_plan() -> None:
    plan = yaml.safe_load((ROOT / "configs" / "multi_fashion_mnist" / "narrow.yaml").read_text())
    for text in fragments("clusters.md"):
        (entry,) = yaml.safe_load(text)
        others = [{"method": "joint", "seeds": [0, 1, 2]}]
        Plan.from_dict({**plan, "methods": [*others, {"seeds": [0], **entry}]}).check()


def test_a_plan_for_several_devices_is_one() -> None:
    (text,) = fragments("several-devices.md")
    plan = yaml.safe_load((ROOT / "configs" / "multi_fashion_mnist" / "narrow.yaml").read_text())
    trainer = yaml.safe_load(text)["fit"]["trainer"]
    plan["fit"]["trainer"] |= trainer
    Plan.from_dict(plan).check()
    assert trainer == {"devices": 2, "strategy": "ddp"}


def test_the_plan_is_one_with_a_real_fit_in_it() -> None:
    text, searches, tuned = fragments("plans.md")
    shown = yaml.safe_load(re.sub(r"^# (?=map: )", "", text, flags=re.MULTILINE))
    real = yaml.safe_load((ROOT / "configs" / "multi_fashion_mnist" / "narrow.yaml").read_text())
    assert list(shown["fit"]) == list(real["fit"])
    searched = {key: value for key, value in shown.items() if key != "map"} | yaml.safe_load(searches)
    for content in (shown, searched, {**shown, "methods": yaml.safe_load(tuned)}):
        Plan.from_dict({**content, "fit": real["fit"]}).check()
    plan = Plan.from_dict({**shown, "fit": real["fit"]})
    assert (
        plan.to_dict().items() >= {key: shown[key] for key in ("name", "top", "severity", "statistics", "map")}.items()
    )


CORE = {"torch", "numpy", "scipy", "threadpoolctl", "tqdm"}
PACKAGES = {  # as the table calls them
    "torchvision": "torchvision",
    "Pillow": "PIL",
    "Lightning": "pytorch_lightning",
    "torchmetrics": "torchmetrics",
    "PyYAML": "yaml",
    "matplotlib": "matplotlib",
    "jsonargparse": "jsonargparse",
    "filelock": "filelock",
    "tabulate": "tabulate",
    "platformdirs": "platformdirs",
    "h5py": "h5py",
    "timm": "timm",
    "TorchJD": "torchjd",
    "wandb": "wandb",
}


def test_imports_load_no_more_packages_than_the_table_says() -> None:
    table = (ROOT / "docs" / "start.md").read_text().partition("| import |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    assert len(rows) == 5
    names = ["; ".join(re.findall(r"`([\w.]+)`", imports)) for imports, _ in rows]
    # Each row may load the packages of the row before: one process imports them in turn.
    code = f"import sys, recon; {'; '.join(f'{name}; print(*sys.modules)' for name in names)}"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before = CORE
    for (imports, packages), loaded in zip(rows, process.stdout.splitlines(), strict=True):
        said = CORE | {PACKAGES[package] for package in packages.split(", ") if package}
        assert before <= said
        assert {*CORE, *PACKAGES.values()} & set(loaded.split()) <= said, imports
        before = said


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/comparison.md"])
def test_number_of_methods_is_that_of_the_registry(name: str) -> None:
    ours = [method for method in recon.list_methods() if method != "torchjd"]
    assert re.findall(r"(?<=methods \| )\d+|\d+(?= methods)", (ROOT / name).read_text())[0] == str(len(ours))


@pytest.mark.parametrize("name", ["README.md", "docs/comparison.md"])
def test_number_of_architectures_is_that_of_the_registry(name: str) -> None:
    assert re.findall(r"(\d+) built in", (ROOT / name).read_text()) == [str(len(recon.list_architectures()))]


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("methods", "methods.md"),
        ("architectures", "architectures.md"),
        ("backbones", "backbones.md"),
        ("data", "data.md"),
        ("tasks", "tasks.md"),
    ],
)
def test_all_that_recon_lists_is_on_its_page(kind: str, page: str) -> None:
    rows = re.findall(r"^\| \[?`(\w+)", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    assert {name.rpartition(".")[2] for name in names_of(kind)} <= set(rows)


DEMO = ("joint", "joint + Recon", "joint + random layers, equal parameters")
"""Rows of the table of the demo."""


def cells(page: Path) -> dict[str, list[str]]:
    """The rows of a page's tables, by their first cell."""
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in page.read_text().splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_tables_of_the_demo_are_its_results() -> None:
    results = runpy.run_path(str(ROOT / "benchmarks" / "pages.py"))["Results"](ROOT / "docs" / "results" / "demo")
    assert list(results.rows) == ["single-task", *DEMO]
    for name in DEMO:
        shown = [results.delta_m(name), results.growth(name), results.flops_growth(name)]
        assert cells(ROOT / "README.md")[name] == shown


WRITTEN = [page for page in PAGES if page.name not in ("methods.md", "ends.md")]
"""The pages that people write."""


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_and_paragraphs_are_short(page: Path) -> None:
    text = page.read_text()
    prose = FENCE.sub("\n\n", text)
    lines = (prose if "results" in page.parts else text).splitlines()  # results show outputs as they are
    assert [line for line in lines if len(line) > 100 and not line.startswith("|") and "](" not in line] == []
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*[*-] |\||#)", prose)
    assert [paragraph for paragraph in paragraphs if len(paragraph.strip("\n").splitlines()) > 5] == []


@over_pages
def test_targets_of_make_and_extras_of_pip_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {words[0] for words in commands(page, "make") if words} <= targets
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for words in commands(page, "pip"):
        assert words[:2] == ["install", "-e"] or words == CPU_WHEELS, "Recon is on no index"
    for extras in re.findall(r"\[([\w,]+)\]'", page.read_text()):
        assert set(extras.split(",")) <= set(setup.options("options.extras_require"))


def test_extras_in_messages_are_there_and_nothing_is_asked_of_an_index() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for path in SOURCES:
        text = path.read_text()
        assert "recon-mtl[" not in text, path
        assert set(re.findall(r'extra="(\w+)"', text)) <= set(setup.options("options.extras_require")), path


def program(words: list[str]) -> Path:
    """The file that python runs: ``FILE``, ``-m MODULE`` or ``-m PACKAGE``."""
    if words[0] == "-P":  # keeps the working folder off the path
        return program(words[1:])
    if words[0] != "-m":
        return ROOT / words[0]
    module = ROOT.joinpath(*words[1].split("."))
    return module / "__main__.py" if module.is_dir() else module.with_suffix(".py")


@over_pages
def test_programs_of_python_are_there_with_their_options(page: Path) -> None:
    for words in commands(page, "python"):
        module = program(words)
        assert module.is_file(), words
        for option in (word for word in words[2:] if word.startswith("--")):
            assert re.search(rf"\b{option[2:]}\b", module.read_text()), option


def made_by_recon(name: str) -> bool:
    """Whether the code names a file, or a figure without the suffixes of its formats."""
    stem = re.escape(name.removesuffix(".png"))
    return any(re.search(rf'\b({re.escape(name)}|{stem})["`]', path.read_text()) for path in SOURCES)


@over_pages
def test_files_are_there_or_made_by_recon_or_the_users_own(page: Path) -> None:
    own = USERS_OWN | set(re.findall(r"^# (\S+\.(?:py|yaml))$", page.read_text(), flags=re.MULTILINE))
    own |= {words[words.index("--map_path") + 1] for words in commands(page, "recon") if "--map_path" in words}
    words = [word for command in commands(page, "recon") + commands(page, "python") for word in command]
    for word in [*words, *inline_code(page)]:
        if not re.fullmatch(rf"[\w./~-]+\.(?:{SUFFIXES})", word) or word in own:
            continue
        folder, _, name = word.rpartition("/")
        if folder and not re.match(r"DIR|DATA|recon-demo", folder):
            assert (ROOT / word).is_file() or (page.parent / word).is_file(), word
        else:
            assert name in NAMES or made_by_recon(name), word


@over_pages
def test_folders_of_the_checkout_are_there(page: Path) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"(?:recon|tests|docs|configs|benchmarks)/[\w/]*", code):
            assert (ROOT / code).is_dir(), code


@over_pages
def test_names_of_python_are_there(page: Path) -> None:
    for code in inline_code(page):
        if name := re.match(r"recon(\.[A-Za-z_]\w*)+", code):
            resolve_name(name[0])
