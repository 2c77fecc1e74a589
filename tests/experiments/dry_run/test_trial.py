from collections.abc import Callable
from pathlib import Path

import pytest
from some_jobs import job, runs_of

from recon.conflict import ConflictMap
from recon.experiments import Plan
from recon.experiments.dry_run.trial import MEASURED, WARM_UP, _peak_of, _Stopwatch, try_out

PlanFactory = Callable[..., Plan]


def test_a_trial_tells_what_the_run_costs_and_leaves_a_map(tiny: PlanFactory, tmp_path: Path) -> None:
    plan = tiny()
    trial = try_out(job(plan, runs_of(plan)["joint-plain-seed0"], tmp_path))
    assert (trial.layers, trial.batches, trial.epochs, trial.test_batches) == (0, 6, 2, 1)
    assert 0 < trial.batch < trial.seconds
    assert trial.checkpoint > 4 * trial.parameters
    assert trial.memory is None or trial.memory > 10**8
    found = ConflictMap.load(tmp_path / "runs" / "joint-plain-seed0" / "conflict_map.json")
    assert found.provenance["steps"] == 6  # two epochs of 48 samples are fewer than a trial would take
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["conflict_map.json"]


def test_steps_that_observe_count_as_often_as_the_plan_observes() -> None:
    watch = _Stopwatch()
    watch.training = [100.0] * WARM_UP + [1.0, 3.0] * (MEASURED // 2)  # the fourth batch is not observed
    assert watch.batch(every=10) == pytest.approx(1 + 2 / 10)
    assert watch.batch(every=1) == pytest.approx(2)
    watch.training = [7.0]
    assert watch.batch(every=10) == 7.0


def test_the_peak_of_memory_is_read_as_linux_tells_it() -> None:
    assert _peak_of("Name:\tpython\nVmPeak:\t  90 kB\nVmHWM:\t    50 kB\n") == 51200
    assert _peak_of("Name:\tpython\n") is None
