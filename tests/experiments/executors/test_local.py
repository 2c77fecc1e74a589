import pytest
import torch

from recon.experiments.executors import local
from recon.experiments.executors.local import default_jobs


def test_jobs_are_one_a_core_and_four_at_most() -> None:
    assert 1 <= default_jobs() <= 4


@pytest.mark.parametrize(("cores", "jobs", "allowed", "threads"), [(8, 2, 8, 4), (8, 2, 1, 1), (2, 4, 2, 1)])
def test_runs_share_the_cores_and_take_no_more_threads_than_torch_may(
    cores: int, jobs: int, allowed: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    assert local._threads(jobs) == threads
