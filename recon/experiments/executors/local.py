"""The executor of this machine: processes that carry out one job at a time.

The death of one leaves the others alone. For that, every process has a pipe of its own to the
parent: a shared queue has a lock, and a process that is killed while it holds the lock would stop
the others too.
"""

import faulthandler
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Self

import torch

from recon.experiments.executors.attempt import attempt
from recon.experiments.executors.executor import Died, Epochs, Message
from recon.experiments.job import Job
from recon.launching.ends import how_it_ended
from recon.launching.group import without_interrupts
from recon.plugins import import_by_name, safe_path

MAX_DEFAULT_JOBS = 4

_PATIENCE = 1.0  # seconds until processes are looked at that say nothing


def default_jobs(devices: int = 1) -> int:
    """Jobs at a time: one on an accelerator, otherwise one a core, at most four processes.

    Each process holds its own data, hence the limit.

    Args:
        devices: The number of processes of each job.
    """
    return 1 if torch.cuda.is_available() else max(1, min(_cores(), MAX_DEFAULT_JOBS) // devices)


class LocalExecutor:
    """Up to ``jobs`` processes, started when they are needed; an :class:`Executor`.

    Args:
        jobs: How many processes; by default :func:`default_jobs`.
        imports: Modules that each process imports first.
        devices: The number of processes that each job starts for its training.

    Raises:
        ValueError: ``jobs`` is less than one.
    """

    def __init__(self, jobs: int | None = None, imports: Sequence[str] = (), devices: int = 1) -> None:
        self._jobs = default_jobs(devices) if jobs is None else jobs
        if self._jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self._arguments = (threads_of(self._jobs * devices), tuple(imports))
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        workers = [*self._idle, *self._busy]
        for worker in workers:
            worker.ask_to_end() if kind is None else worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.connection.close()

    @property
    def free(self) -> int:
        """How many more jobs can begin now."""
        return self._jobs - len(self._busy)

    @property
    def busy(self) -> bool:
        """Whether any job is going on."""
        return bool(self._busy)

    def begin(self, job: Job) -> None:
        """Give a job to a free process."""
        self._idle = [worker for worker in self._idle if worker.process.is_alive()]
        worker = self._idle.pop() if self._idle else _Worker(*self._arguments)
        self._busy.append(worker)
        worker.begin(job)

    def messages(self) -> Iterator[tuple[Job, Message]]:
        """Wait a second at most; yield the messages that have come from the jobs."""
        ready = wait([worker.connection for worker in self._busy], _PATIENCE)
        for worker in list(self._busy):
            # The child of a dead process may hold its pipe open, so the pipe alone tells no death.
            if worker.connection not in ready and worker.process.is_alive():
                continue
            message = worker.receive()
            if not isinstance(message, Epochs):
                self._busy.remove(worker)
                self._idle.append(worker)
            yield worker.job, message


class _Worker:
    """The parent's side of a process."""

    job: Job

    def __init__(self, threads: int, imports: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads, imports))
        with safe_path():  # the tracker and the process inherit it
            # A process would start the tracker too, and let Ctrl-C through again.
            resource_tracker.ensure_running()
            with without_interrupts():
                self.process.start()
        theirs.close()

    def begin(self, job: Job) -> None:
        self.job = job
        with suppress(OSError):  # it died while it was idle, which the next message tells
            self.connection.send(job)

    def receive(self) -> Message:
        try:
            if self.connection.poll():
                message: Message = self.connection.recv()
                return message
        except (EOFError, OSError):
            pass
        return Died(self._how_it_died())

    def ask_to_end(self) -> None:
        with suppress(OSError):
            self.connection.send(None)

    def _how_it_died(self) -> str:
        self.process.join(10)
        self.process.kill()  # if it only closed its pipe
        self.process.join()
        self.connection.close()
        return how_it_ended(self.process.exitcode or 0)


def _cores() -> int:
    """Cores that this process may use; a container may allow fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def threads_of(jobs: int) -> int:
    """Threads of a job: its share of the cores, or fewer if OMP_NUM_THREADS limits torch."""
    return max(1, min(_cores() // jobs, torch.get_num_threads()))


# In the process -----------------------------------------------------------------------------------


def _serve(connection: "Connection[Any, Any]", threads: int, imports: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable()  # a crash in compiled code shows where
    torch.set_num_threads(threads)
    for name in imports:
        import_by_name(name)
    while (job := connection.recv()) is not None:
        connection.send(attempt(job, lambda epoch: connection.send(Epochs(epoch))))


def _end_with_parent() -> None:
    """End with the parent: a killed benchmark must leave no workers that write into its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
