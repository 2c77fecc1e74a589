"""Parts of a plan, carried out in folders of their own as the jobs of an array do, and joined."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from some_jobs import Here, fit

from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.dry_run.preview import preview
from recon.experiments.only import with_needed

PlanFactory = Callable[..., Plan]


@pytest.fixture
def plan(tiny: PlanFactory) -> Plan:
    return tiny(fit=fit(), methods=[{"method": "joint"}, {"method": "pcgrad"}], top=1)


def ids(plan: Plan, *only: str) -> list[str]:
    return [run.id for run in with_needed(plan.runs(["digit", "letter"]), only)]


def test_runs_are_named_by_id_pattern_or_place_with_those_that_they_need(plan: Plan) -> None:
    assert ids(plan, "joint-plain-seed0") == ["joint-plain-seed0"]
    assert ids(plan, "single-*", "2") == ["single-digit-seed0", "single-letter-seed0", "joint-plain-seed0"]
    assert ids(plan, "pcgrad-recon-seed0") == ["joint-plain-seed0", "pcgrad-recon-seed0"]
    assert len(ids(plan)) == 6


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("6", "the plan has no run 6; it has 6 runs, 0 to 5"),
        ("pcgrad-recon-sed0", "unknown run 'pcgrad-recon-sed0'; nearest: 'pcgrad-recon-seed0'"),
        ("cagrad-*", "unknown run 'cagrad-"),
    ],
)
def test_a_run_that_is_not_there_is_refused(plan: Plan, word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        ids(plan, word)


def test_the_parts_of_an_array_join_into_the_whole_without_training_again(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    begun: list[str] = []

    def part(*only: str, reuse: tuple[Path, ...] = ()) -> Path:
        executor, out = Here(), tmp_path / f"part{'-'.join(only)}"
        benchmark(plan, out, executor=executor, reuse=reuse, only=only)
        begun.extend(executor.begun)
        return out

    first = [part(str(place)) for place in (0, 1, 2)]
    second = [part(str(place), reuse=(first[2],)) for place in (3, 4, 5)]
    whole = part(reuse=(*first, *second))
    assert sorted(begun) == sorted(run.id for run in plan.runs(["digit", "letter"]))
    found: dict[str, Any] = json.loads((whole / "results.json").read_text())
    assert [run["id"] for run in found["runs"]] == ids(plan)
    assert all(run["delta_m"] is not None for run in found["runs"] if run["variant"] != "single")


def test_only_the_named_runs_and_those_that_they_need_are_copied(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    whole = tmp_path / "whole"
    benchmark(plan, whole, executor=Here())
    for word in ("single-digit-seed0", "pcgrad-recon-seed0"):
        out, executor = tmp_path / word, Here()
        told = preview(plan, out, jobs=1, reuse=[whole], only=[word]).lines
        assert list(told) == [f"copied from {whole}: {run_id}" for run_id in ids(plan, word)]
        benchmark(plan, out, executor=executor, reuse=[whole], only=[word])
        assert executor.begun == []
        assert sorted(path.name for path in (out / "runs").iterdir()) == sorted(ids(plan, word))
        again = Here()
        benchmark(plan, out, executor=again, reuse=[whole])
        assert again.begun == []
        assert len(list((out / "runs").iterdir())) == 6


def test_the_rest_of_a_folder_stays_where_it_is(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    benchmark(plan, tmp_path, executor=Here(), only=["0"])
    executor = Here()
    benchmark(plan, tmp_path, executor=executor, only=["joint-plain-seed0"])
    assert executor.begun == ["joint-plain-seed0"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["joint-plain-seed0", "single-digit-seed0"]
    assert "1/1 runs" in capsys.readouterr().err
