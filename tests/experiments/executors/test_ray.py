"""Runs on a Ray cluster of this machine, with two workers."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from some_jobs import Here

from recon.cli.dispatch import main
from recon.experiments import Plan, benchmark, outcomes
from recon.experiments.executors import on_worker
from recon.experiments.executors.executor import Epochs, Failed, Lost, Message
from recon.experiments.executors.on_worker import Surroundings, carry_out, mailbox_class
from recon.experiments.executors.ray import RayExecutor
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job

PlanFactory = Callable[..., Plan]

METHODS = [
    {"method": method, "variants": ["plain", "recon"], "seeds": [0, 1]} for method in ("joint", "pcgrad")
]  # with four single-task runs: twelve


def results(out: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads((out / "results.json").read_text())["runs"]
    return [{key: value for key, value in run.items() if key not in ("seconds", "origin")} for run in runs]


@pytest.fixture
def short(tiny: PlanFactory) -> Plan:
    """Twelve runs of three epochs each; one is killed on Ray."""
    fit = tiny().fit
    data = {**fit["data"], "init_args": {"train_size": 64, "test_size": 64, "batch_size": 16}}
    model = {"backbone": {"class_path": "dying.Dying"}}
    return tiny(
        fit={"trainer": {"max_epochs": 3, "accelerator": "cpu"}, "model": model, "data": data}, methods=METHODS, top=1
    )


DYING = """
import os
import signal

import ray

from recon.models import LeNet


class Dying(LeNet):
    \"\"\"Kills the first worker that trains its third epoch.\"\"\"

    steps = 0

    def forward(self, images):
        self.steps += self.training
        if self.steps == 10 and ray.is_initialized() and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)
"""


class Watched(RayExecutor):
    """Remembers the messages of the run that is lost."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.lost: list[str] = []
        self.epochs_after: list[int] = []

    def messages(self) -> Iterator[tuple[Job, Message]]:
        for job, message in super().messages():
            if isinstance(message, Lost):
                self.lost.append(job.run.id)
            elif isinstance(message, Epochs) and job.run.id in self.lost:
                self.epochs_after.append(message.number)
            yield job, message


@pytest.mark.slow
def test_twelve_runs_on_two_workers_of_which_one_is_killed_give_the_local_results(
    short: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray")
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    benchmark(short, Path("local"), executor=Here())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        executor = Watched(short)
        benchmark(short, Path("ray"), executor=executor)
    finally:
        ray.shutdown()
        torch.set_num_threads(threads)
    (lost,) = executor.lost
    assert f"{lost} is lost, because its worker died; it resumes from its last epoch" in capfd.readouterr().err
    assert executor.epochs_after[0] >= 2
    assert len(results(tmp_path / "local")) == 12
    assert results(tmp_path / "ray") == results(tmp_path / "local")
    assert (tmp_path / "ray" / "table.md").read_text() == (tmp_path / "local" / "table.md").read_text()


LEAVING = """
import os
import time

import ray

from recon.models import LeNet


class Leaving(LeNet):
    \"\"\"Names the machine that trains the first third epoch, and waits for its end.\"\"\"

    steps = 0

    def forward(self, images):
        self.steps += self.training
        if self.steps == 10 and ray.is_initialized() and not os.path.exists("machine"):
            with open("name", "w") as file:
                file.write(ray.get_runtime_context().get_node_id())
            os.rename("name", "machine")
            time.sleep(600)
        return super().forward(images)
"""


def end_machine(cluster: Any, name: Path) -> None:
    """End the machine that a file names, once it is there."""
    while not name.exists():
        time.sleep(0.1)
    (machine,) = [one for one in cluster.worker_nodes if one.node_id == name.read_text()]
    cluster.remove_node(machine, allow_graceful=False)


@pytest.mark.slow
def test_the_run_of_a_machine_that_ends_resumes_on_another_to_the_local_results(
    short: Plan,
    tiny_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(outcomes, "draw_figures", lambda *arguments: [])
    fit = {**short.fit, "model": {"backbone": {"class_path": "leaving.Leaving"}}}
    path = tiny_file(tmp_path, fit=fit, methods=[{"method": "joint"}], top=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        benchmark(Plan.load(path), Path("local"), executor=Here())
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        Thread(target=end_machine, args=(cluster, tmp_path / "machine"), daemon=True).start()
        main(["benchmark", str(path), "--out", "ray", "--executor", "ray", "--address", cluster.address])
    finally:
        cluster.shutdown()
        torch.set_num_threads(threads)
    assert "is lost, because its machine is gone; it resumes from its last epoch" in capfd.readouterr().err
    assert len(results(tmp_path / "local")) == 4
    assert results(tmp_path / "ray") == results(tmp_path / "local")
    assert (tmp_path / "ray" / "table.md").read_text() == (tmp_path / "local" / "table.md").read_text()


def test_without_ray_the_cure_is_named(short: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"ray is not installed; .*\[ray\]"):
        RayExecutor(short)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "127.0.0.1:1"], "recon: --address is for a Ray cluster; add --executor ray, or leave it out"),
        (["--executor", "ray", "--gpus=-1"], "recon: the executor has gpus: -1.0; give a number from 0"),
        (["--executor", "ray", "--jobs=0"], "recon: jobs must be at least 1, got 0"),
        (["--executor", "ray", "--address", "127.0.0.1:1"], "recon: no Ray cluster answers at 127.0.0.1:1 "),
        (["--executor", "ray", "--address", "head"], "recon: 'head' is no address of a Ray cluster; give HOST:PORT"),
    ],
)
def test_bad_options_are_told_before_anything_begins(
    options: list[str], message: str, tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["benchmark", str(tiny_file(tmp_path)), "--out", str(tmp_path / "out"), *options])
    assert str(end.value.code).startswith(message)
    assert not (tmp_path / "out").exists()


class Told:
    """A method of an actor, which is called at once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.remote = function


def box() -> Any:
    """A mailbox that is no actor."""
    mailbox = mailbox_class()()
    mailbox.tell = Told(mailbox.tell)
    return mailbox


@pytest.fixture
def job(short: Plan, tmp_path: Path) -> Job:
    return Job(short, short.runs(["digit", "letter"])[0], Fit(short.fit), ResultsFolder(tmp_path))


def test_a_worker_has_the_surroundings_of_the_benchmark(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(job: Job, on_epoch: Callable[[int], None]) -> Failed:
        on_epoch(1)
        on_epoch(2)
        return Failed(" ".join([os.getcwd(), sys.path[-1], str("SLURM_NTASKS" in os.environ)]))

    monkeypatch.setattr(on_worker, "attempt", attempt)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir("/")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    (tmp_path / ".lock").touch()
    mailbox = box()
    threads = torch.get_num_threads()
    ended = carry_out(job, Surroundings(str(tmp_path), (*sys.path, "/own/modules")), threads, mailbox, 7)
    assert ended == Failed(f"{tmp_path} /own/modules False")
    assert (mailbox.take(), mailbox.take()) == ({7: 2}, {})


@pytest.mark.parametrize("missing", ["folder", "results"])
def test_a_machine_that_does_not_share_the_files_says_so(
    job: Job, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    folder = tmp_path / "gone" if missing == "folder" else tmp_path
    ended = carry_out(job, Surroundings(str(folder), ()), 1, box(), 0)
    assert isinstance(ended, Failed)
    assert ended.reason.startswith(f"{folder} is not on ")
    assert "on a file system that all machines share" in ended.reason
