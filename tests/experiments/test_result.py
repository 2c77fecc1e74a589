"""Results are taken for what they were when they were written, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recon.experiments.entry import MethodEntry
from recon.experiments.folder import ResultsFolder
from recon.experiments.runs import Run
from recon.files.checksum import sealed
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import normals

TASKS = [classification("digit", 10), normals("normals")]
RUN = Run("joint-plain-seed0", "joint", "plain", 0, MethodEntry("joint"))
SINGLE = Run("single-digit-seed0", "single", "single", 0, MethodEntry("joint"), task="digit")
ANGLES = {"mean_angle": 30.0, "median_angle": 20.5, "within_11_25": 0.25, "within_22_5": 0.5, "within_30": 0.75}
RESULT: dict[str, Any] = {
    "id": "joint-plain-seed0",
    "method": "joint",
    "variant": "plain",
    "seed": 0,
    "metrics": {"digit": {"accuracy": 0.9}, "normals": ANGLES},
    "parameters": 110,
    "parameters_base": 110,
    "flops": 1000,
    "conflict_by_layer": {"a": 0.25, "b": 0.75},
    "conflict_rate": 0.5,
    "seconds": 30.0,
}


def kept(out: Path, content: str) -> Path:
    path = ResultsFolder(out).run(RUN.id) / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert ResultsFolder(tmp_path).finished(RUN, TASKS) is None
    ResultsFolder(tmp_path).keep(RESULT)
    assert ResultsFolder(tmp_path).finished(RUN, TASKS) == RESULT


def test_a_result_of_a_single_task_has_its_metrics_alone(tmp_path: Path) -> None:
    single = {
        **RESULT,
        "id": SINGLE.id,
        "method": "single",
        "variant": "single",
        "metrics": {"digit": {"accuracy": 0.9}},
        "conflict_by_layer": {},
        "conflict_rate": None,
    }
    ResultsFolder(tmp_path).keep(single)
    assert ResultsFolder(tmp_path).finished(SINGLE, TASKS) == single


def test_a_result_of_an_earlier_version_has_no_checksum_and_is_taken(tmp_path: Path) -> None:
    kept(tmp_path, json.dumps(RESULT))
    assert ResultsFolder(tmp_path).finished(RUN, TASKS) == RESULT


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[1, 2]",
        lambda text: text.replace("joint-plain-seed0", "joint-plain-seed1"),
        lambda text: text.replace("0.9", "0.8"),
        lambda text: text.replace("checksum", "checksun"),
    ],
    ids=["truncated", "no object", "another run", "another value", "no checksum"],
)
def test_a_damaged_file_is_refused(damage: Callable[[str], str], tmp_path: Path) -> None:
    kept(tmp_path, damage(json.dumps(sealed(RESULT))))
    with pytest.raises(ValueError, match=r"result\.json .*remove it to repeat the run"):
        ResultsFolder(tmp_path).finished(RUN, TASKS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "its seed is 1, not 0"),
        ({"seed": False}, "its seed is False, not 0"),
        ({"flops": 2**62}, "its flops is 4611686018427387904, not a count"),
        ({"flops": -1}, "its flops is -1, not a count"),
        ({"parameters": 111}, "111 parameters, not 110, and no branch"),
        ({"parameters": 109}, "109 parameters, fewer than 110"),
        ({"metrics": {"digit": {"accuracy": 0.9}}}, "its metrics are of digit, not of digit, normals"),
        ({"metrics": {"digit": {"accuracx": 0.9}, "normals": ANGLES}}, "of digit are accuracx, not accuracy"),
        ({"metrics": {"digit": {"accuracy": -9e18}, "normals": ANGLES}}, "digit/accuracy is -9e[+]18, not"),
        ({"metrics": {"digit": {"accuracy": 1.5}, "normals": ANGLES}}, "digit/accuracy is 1.5, not"),
        ({"metrics": {"digit": {"accuracy": True}, "normals": ANGLES}}, "digit/accuracy is True, not"),
        ({"metrics": {"digit": {"accuracy": 0.5}, "normals": {**ANGLES, "mean_angle": 181}}}, "mean_angle is 181"),
        ({"conflict_by_layer": {"a": 0.25, "b": 1.75}}, "conflict rate of b is 1.75, not a number from 0 to 1"),
        ({"conflict_rate": 0.6}, "conflict_rate is 0.6"),
        ({"conflict_rate": None}, "conflict_rate is None, over 2 layers"),
        ({"seconds": -1.0}, "seconds is -1.0"),
        ({"more": 1}, "its keys are"),
    ],
)
def test_without_a_checksum_values_are_held_against_each_other(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    kept(tmp_path, json.dumps({**RESULT, **change}))
    with pytest.raises(ValueError, match=message):
        ResultsFolder(tmp_path).finished(RUN, TASKS)
