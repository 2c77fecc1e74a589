"""Jobs of plans, checked and carried out in this process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import torch

from recon.data import Glyphs
from recon.experiments import Plan
from recon.experiments.executors import executor
from recon.experiments.fit import Fit
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.preflight import check_before_training
from recon.experiments.run import execute
from recon.experiments.runs import Run
from recon.models import LeNet
from recon.tasks.task import Task

ALL = [{"method": "joint", "variants": ["plain", "recon", "random", "first", "last"]}, {"method": "graddrop"}]


class NothingHeldOut(Glyphs):
    """Data without an argument for held-out samples."""

    def __init__(self, train_size: int, test_size: int) -> None:
        super().__init__(train_size=train_size, test_size=test_size)


class Untraceable(LeNet):
    """A network whose forward depends on its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum() > 0 else x + 1)


def runs_of(plan: Plan) -> dict[str, Run]:
    return {run.id: run for run in plan.runs(["digit", "letter"])}


def silent(epoch: int) -> None: ...


def run_directory(out: Path, run_id: str) -> Path:
    return ResultsFolder(out).run(run_id)


def job(plan: Plan, run: Run, out: Path) -> Job:
    return Job(plan, run, Fit(plan.fit), ResultsFolder(out))


def configuration_of(plan: Plan, run: Run, out: Path) -> dict[str, Any]:
    return job(plan, run, out).own_fit().configuration


def prepare(plan: Plan, root: str | None) -> list[Task]:
    return check_before_training(plan, Fit(plan.fit, root))


def carry_out(plan: Plan, run_id: str, out: Path, on_epoch: Callable[[int], None] = silent) -> dict[str, Any]:
    return execute(job(plan, runs_of(plan)[run_id], out), on_epoch)


def weights(out: Path, run_id: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run_directory(out, run_id) / "last.ckpt")["state_dict"]
    return state


def fit(**sections: Any) -> dict[str, Any]:
    tiny: dict[str, Any] = {
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "recon.models.LeNet"}},
        "data": {"class_path": "recon.data.Glyphs", "init_args": {"train_size": 8, "test_size": 8}},
    }
    return {key: {**tiny[key], **sections.get(key, {})} for key in tiny}


class Here:
    """An executor that carries out jobs in this process, after other endings of them.

    So many jobs as it has places have begun at a time; it carries out the first. ``begun`` has the
    ids of the runs that have begun.
    """

    def __init__(self, *endings: executor.Message, places: int = 1) -> None:
        self.places = places
        self.jobs: list[Job] = []
        self.begun: list[str] = []
        self.endings = list(endings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    @property
    def free(self) -> int:
        return self.places - len(self.jobs)

    @property
    def busy(self) -> bool:
        return bool(self.jobs)

    def begin(self, job: Job) -> None:
        self.jobs.append(job)
        self.begun.append(job.run.id)

    def messages(self) -> Iterator[tuple[Job, executor.Message]]:
        job = self.jobs.pop(0)
        yield job, self.endings.pop(0) if self.endings else executor.Finished(execute(job, lambda epoch: None))
