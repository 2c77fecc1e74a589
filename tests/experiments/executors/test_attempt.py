"""What is told of an attempt at a run, and kept of its error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recon.experiments import Plan
from recon.experiments.executors import attempt as module
from recon.experiments.executors.attempt import attempt
from recon.experiments.executors.executor import Died, Failed, Finished
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.launching.ends import ProcessDied

OnEpoch = Callable[[int], None]


@pytest.fixture
def job(tiny: Callable[..., Plan], tmp_path: Path) -> Job:
    plan = tiny(single=False)
    (run,) = plan.runs(["digit", "letter"])
    return Job(plan, run, Fit(plan.fit), ResultsFolder(tmp_path))


def test_the_epochs_of_a_run_and_its_result_are_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(job: Job, on_epoch: OnEpoch) -> dict[str, Any]:
        on_epoch(1)
        return {"id": job.run.id}

    monkeypatch.setattr(module, "execute", execute)
    epochs: list[int] = []
    assert attempt(job, epochs.append) == Finished({"id": "joint-plain-seed0"})
    assert epochs == [1]


def test_an_error_of_a_run_is_told_in_a_line_and_kept_with_its_trace(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(job: Job, on_epoch: OnEpoch) -> dict[str, Any]:
        raise ArithmeticError("too large")

    monkeypatch.setattr(module, "execute", execute)
    trace = job.folder.error(job.run.id)
    assert attempt(job, lambda epoch: None) == Failed(f"ArithmeticError: too large ({trace} shows where)")
    assert trace.read_text().startswith("Traceback")
    assert trace.read_text().endswith("ArithmeticError: too large\n")


def test_the_death_of_a_process_that_trained_with_others_is_no_error_of_the_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(job: Job, on_epoch: OnEpoch) -> dict[str, Any]:
        raise ProcessDied("process 2 of 2", "killed by SIGKILL")

    monkeypatch.setattr(module, "execute", execute)
    assert attempt(job, lambda epoch: None) == Died("killed by SIGKILL")
    assert not job.folder.error(job.run.id).exists()
