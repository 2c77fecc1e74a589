"""Processes of this machine: how many, their threads, and what they say of a run and of their own end."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recon.experiments import Plan
from recon.experiments.executors import local
from recon.experiments.executors.executor import Died, Epochs, Failed, Finished
from recon.experiments.executors.local import default_jobs
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job


def test_jobs_are_one_a_core_and_four_at_most() -> None:
    assert 1 <= default_jobs() <= 4
    assert default_jobs(devices=4) == 1


def test_jobs_of_several_devices_are_fewer_and_take_fewer_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (default_jobs(), default_jobs(2), default_jobs(8)) == (4, 2, 1)
    assert local.LocalExecutor(devices=2).free == 2
    assert local.LocalExecutor(2, devices=2)._arguments[0] == 2


@pytest.mark.parametrize(("cores", "jobs", "allowed", "threads"), [(8, 2, 8, 4), (8, 2, 1, 1), (2, 4, 2, 1)])
def test_runs_share_the_cores_and_take_no_more_threads_than_torch_may(
    cores: int, jobs: int, allowed: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    assert local._threads(jobs) == threads


@pytest.mark.parametrize(
    ("target", "argument", "how"),
    [
        (os._exit, 3, "it ended with status 3"),
        (signal.raise_signal, signal.SIGKILL, "killed by SIGKILL, as when memory runs out"),
        (signal.raise_signal, signal.SIGTERM, "killed by SIGTERM"),
    ],
)
def test_a_dead_process_says_how_it_died(target: Callable[[int], Any], argument: int, how: str) -> None:
    context = multiprocessing.get_context("spawn")
    worker = object.__new__(local._Worker)
    worker.connection, theirs = context.Pipe()
    worker.process = context.Process(target=target, args=(argument,))
    worker.process.start()
    theirs.close()
    assert worker.receive() == Died(how)


class Connection:
    """The worker's end of a pipe, which keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


@pytest.fixture
def job(tiny: Callable[..., Plan], tmp_path: Path) -> Job:
    plan = tiny(single=False)
    (run,) = plan.runs(["digit", "letter"])
    return Job(plan, run, Fit(plan.fit), ResultsFolder(tmp_path))


def test_a_worker_tells_the_epochs_of_a_run_and_its_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(job: Job, on_epoch: Callable[[int], None]) -> dict[str, Any]:
        on_epoch(1)
        return {"id": job.run.id}

    monkeypatch.setattr(local, "execute", execute)
    connection: Any = Connection()
    assert local._carry_out(job, connection) == Finished({"id": "joint-plain-seed0"})
    assert connection.sent == [Epochs(1)]


def test_an_error_of_a_run_is_told_in_a_line_and_kept_with_its_trace(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(job: Job, on_epoch: Callable[[int], None]) -> dict[str, Any]:
        raise ArithmeticError("too large")

    monkeypatch.setattr(local, "execute", execute)
    trace = job.folder.error(job.run.id)
    connection: Any = Connection()
    assert local._carry_out(job, connection) == Failed(f"ArithmeticError: too large ({trace} shows where)")
    assert trace.read_text().startswith("Traceback")
    assert trace.read_text().endswith("ArithmeticError: too large\n")
