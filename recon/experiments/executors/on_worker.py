"""A run on a worker of a Ray cluster, which may be another machine."""

import os
import sys
from dataclasses import dataclass
from typing import Any

import torch

from recon.errors import in_one_line
from recon.experiments.executors.attempt import attempt
from recon.experiments.executors.executor import Died, Failed, Finished
from recon.experiments.job import Job
from recon.plugins import import_by_name


@dataclass(frozen=True)
class Surroundings:
    """What a run finds around it, as it is where the benchmark was started.

    Attributes:
        folder: The working folder, from which relative paths lead.
        path: The folders of modules.
    """

    folder: str
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> "Surroundings":
        """Those of this process."""
        return cls(os.getcwd(), tuple(sys.path))

    def enter(self) -> None:
        """Make a worker's surroundings the same.

        Raises:
            ValueError: The working folder is not there.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise ValueError(_not_shared(self.folder)) from error
        sys.path += [folder for folder in self.path if folder not in sys.path]
        # Lightning would take the run for one process of the SLURM job in which Ray was started.
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            del os.environ[name]


def mailbox_class() -> type[Any]:
    """The class of an actor that keeps the numbers of finished epochs until they are asked for.

    Its method ``tell`` takes the number of an attempt and that of its finished epochs; ``take``
    gives those that have come since the last time.
    """

    # Ray sends a class of a function as it is. One of a module would load this package, and torch.
    class Mailbox:
        def __init__(self) -> None:
            self._epochs: dict[int, int] = {}

        def tell(self, number: int, epoch: int) -> None:
            self._epochs[number] = epoch

        def take(self) -> dict[int, int]:
            epochs, self._epochs = self._epochs, {}
            return epochs

    return Mailbox


def carry_out(
    job: Job, surroundings: Surroundings, threads: int, mailbox: Any, number: int
) -> Finished | Failed | Died:
    """Carry out a job on a worker.

    Args:
        job: The job.
        surroundings: Those of the benchmark.
        threads: Threads of torch.
        mailbox: The actor that takes the numbers of finished epochs.
        number: Number of the attempt.
    """
    try:
        surroundings.enter()
        if not (job.folder.path / ".lock").exists():
            raise ValueError(_not_shared(str(job.folder.path)))
        torch.set_num_threads(threads)
        for name in job.plan.imports:
            import_by_name(name)
    except ValueError as error:
        return Failed(in_one_line(error))
    return attempt(job, lambda epoch: mailbox.tell.remote(number, epoch))


def _not_shared(folder: str) -> str:
    return (
        f"{folder} is not on {os.uname().nodename}, a machine of the cluster; runs read and write the folder of the "
        "benchmark, so give one on a file system that all machines share"
    )
