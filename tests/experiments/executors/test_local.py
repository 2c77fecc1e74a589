"""Processes of this machine: how many, their threads, and what they say of their own end."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from recon.experiments.executors import local
from recon.experiments.executors.executor import Died
from recon.experiments.executors.local import default_jobs


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
    assert local.threads_of(jobs) == threads


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
