import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_folders import folder, runs

from recon.experiments.report.html.source import Source, check_comparable

Record = dict[str, Any]


def changed(path: Path, change: Callable[[Record], object]) -> Path:
    """The folder, whose results are changed."""
    record = json.loads((path / "results.json").read_text())
    change(record)
    (path / "results.json").write_text(json.dumps(record))
    return path


def test_a_folder_gives_its_maps_curves_and_predictions(tmp_path: Path) -> None:
    source = Source.read(folder(tmp_path / "tiny"))
    assert (list(source.before), list(source.after)) == ([0, 1], [0, 1])
    assert source.logged(source.runs[0]) == {"loss/digit": [(0.0, 1.0), (1.0, 0.5)]}
    for version in (2, 10):  # of two resumes
        logs = source.path / "runs" / source.runs[0]["id"] / "logs" / f"version_{version}"
        logs.mkdir()
        (logs / "metrics.csv").write_text(f"epoch,step,loss/digit\n1,1,{version}\n")
    assert source.logged(source.runs[0]) == {"loss/digit": [(0.0, 1.0), (1.0, 10.0)]}
    assert list(source.predictions) == ["joint + Recon"]
    assert source.unfinished == ""


def test_a_plan_of_an_earlier_version_lacks_keys_that_have_defaults(tmp_path: Path) -> None:
    path = folder(tmp_path / "tiny")
    record = json.loads((path / "plan.json").read_text())
    del record["every"], record["methods"][0]["options"]
    (path / "plan.json").write_text(json.dumps(record))
    assert Source.read(path).unfinished == ""


def test_the_choice_of_a_grid_is_told(tmp_path: Path) -> None:
    tried = [{"setting": {"options.c": c}, "score": -c, "metrics": {}, "diverged": None} for c in (0.2, 0.4)]
    grids = {"cagrad": {"held_out": 0.1, "seeds": [0], "tried": tried, "chosen": {"options.c": 0.2}}}
    path = changed(folder(tmp_path / "tiny"), lambda record: record.update(grids=grids))
    assert Source.read(path).choices == {"cagrad": "c = 0.2, the best of 2 settings on 10% of training held out"}


def test_an_unfinished_folder_says_in_a_line_how_to_finish_it(tmp_path: Path) -> None:
    path = changed(folder(tmp_path / "tiny"), lambda record: record["runs"].pop())
    assert Source.read(path).unfinished == (
        f"{path} is unfinished: 1 of 8 runs without a result (joint-recon-seed1); "
        f"`recon benchmark PLAN --out {path}` goes on from what is finished"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["runs"][4].pop("flops"), "another version: the run single-digit-seed1 has no 'flops'"),
        (lambda record: record["runs"][0].update(variant="sorted"), "of the variant 'sorted', which this version"),
        (lambda record: record["plan"].update(sweep={}), "another version: .*sweep"),
        (lambda record: record["plan"].update(severity=-0.2), r"is of another plan than plan.json .*severity differ"),
        (lambda record: record.update(runs=[]), "it has no runs"),
        (lambda record: record.update(grids={"cagrad": {"seeds": [0]}}), "a grid cannot be read"),
        (lambda record: record["runs"][0].update(id="../../there"), r"the id of a run is '\.\./\.\./there'"),
        (
            lambda record: record["runs"][2]["metrics"]["digit"].update(accuracy="high"),
            "'accuracy' of digit of the run",
        ),
    ],
)
def test_results_of_another_plan_or_version_are_refused_with_the_cure(
    change: Callable[[Record], object], message: str, tmp_path: Path
) -> None:
    path = changed(folder(tmp_path / "tiny"), change)
    with pytest.raises(ValueError, match=message) as caught:
        Source.read(path)
    assert f"`recon benchmark PLAN --out {path}` goes on" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_results_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no results\.json; give folders that `recon benchmark` wrote"):
        Source.read(tmp_path / "nothing")
    path = folder(tmp_path / "tiny")
    log = path / "runs" / "joint-plain-seed0" / "logs" / "version_0" / "metrics.csv"
    log.write_text("epoch,loss/digit\n0,high\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged .*; remove it, or repeat the run"):
        Source.read(path).logged({"id": "joint-plain-seed0"})
    (path / "results.json").write_text('{"plan": ')
    with pytest.raises(ValueError, match="is truncated or not JSON"):
        Source.read(path)
    (path / "results.json").unlink()
    with pytest.raises(ValueError, match="is unfinished: no run has a result yet; `recon benchmark PLAN --out"):
        Source.read(path)


def test_folders_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    other = json.loads(json.dumps(runs()).replace("letter", "colour"))
    sources = [Source.read(folder(tmp_path / "one")), Source.read(folder(tmp_path / "two", results=other))]
    with pytest.raises(ValueError, match=r"different tasks or metrics \(digit, letter; digit, colour\); report each"):
        check_comparable(sources)
