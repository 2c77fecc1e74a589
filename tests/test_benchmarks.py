"""The scripts in benchmarks/ run; what they measure is in docs/results."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_step_cost_prints_a_ratio_a_kind_of_step(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(BENCHMARKS / "step_cost.py"))["main"](width=2, batch=2, rounds=2)
    rows = capsys.readouterr().out.splitlines()[2:]
    names = {row[:34].strip() for row in rows}
    assert {"joint", "pcgrad", "cagrad + analyzer", "mgda", "TorchJD MGDA, chunk 1"} <= names
    assert all(float(row[34:].split()[0]) > 0 for row in rows)


def test_solvers_prints_times_and_residuals_beside_torchjd(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(BENCHMARKS / "solvers.py"))["main"](tasks=(2, 3), rounds=1)
    table = capsys.readouterr().out
    for method in ("mgda", "cagrad", "nash_mtl", "upgrad"):
        assert table.count(f"{method} ") >= 2
