"""Processes that carry out runs, each one run at a time; one that dies takes no other with it.

Every process has a pipe of its own to the parent: a queue that all share has a lock, and a process that is killed while
it holds the lock would stop the others too.
"""

import faulthandler
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from recon.experiments.plan import Plan, Run
from recon.experiments.result import run_directory
from recon.experiments.run import execute
from recon.files.atomic import write_atomically
from recon.plugins import import_by_name, safe_path


@dataclass(frozen=True)
class Epochs:
    """So many epochs of a run are finished, those before a resume included."""

    number: int


@dataclass(frozen=True)
class Finished:
    """A run is finished, and its result kept."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A run raised an error."""

    reason: str


@dataclass(frozen=True)
class Died:
    """The process of a run is gone: killed, or ended by what it ran."""

    how: str


Message = Epochs | Finished | Failed | Died

_PATIENCE = 1.0  # seconds until processes are looked at that say nothing


class Workers:
    """Up to ``jobs`` processes, begun when they are needed. As a context they are ended, at once after an error.

    Nothing is lost by that: results and checkpoints are replaced whole, and a resumed run starts from its last epoch.

    Args:
        jobs: How many processes.
        threads: How many threads each computes with.
        imports: Modules that each imports first.
    """

    def __init__(self, jobs: int, threads: int, imports: Sequence[str]) -> None:
        self._jobs = jobs
        self._arguments = (threads, tuple(imports))
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> "Workers":
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
        """How many more runs can begin."""
        return self._jobs - len(self._busy)

    @property
    def busy(self) -> bool:
        """Whether any run is going on."""
        return bool(self._busy)

    def begin(self, plan: Plan, run: Run, out: Path, root: str | None) -> None:
        """Give a run to a free process."""
        self._idle = [worker for worker in self._idle if worker.process.is_alive()]
        worker = self._idle.pop() if self._idle else _Worker(*self._arguments)
        self._busy.append(worker)
        worker.begin(plan, run, out, root)

    def messages(self) -> Iterator[tuple[Run, Message]]:
        """What the processes have to say by now, or in a second."""
        ready = wait([worker.connection for worker in self._busy], _PATIENCE)
        for worker in list(self._busy):
            # A process that a dead one has started may hold its pipe open, so the pipe alone does not tell of a death.
            if worker.connection not in ready and worker.process.is_alive():
                continue
            message = worker.receive()
            if not isinstance(message, Epochs):
                self._busy.remove(worker)
                if not isinstance(message, Died):
                    self._idle.append(worker)
            yield worker.run, message


class _Worker:
    """The parent's side of a process."""

    run: Run

    def __init__(self, threads: int, imports: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads, imports))
        with safe_path():  # a process that starts here inherits it, this one too:
            resource_tracker.ensure_running()  # or the first start would start it, and let Ctrl-C through again
            with _without_interrupts():
                self.process.start()
        theirs.close()

    def begin(self, plan: Plan, run: Run, out: Path, root: str | None) -> None:
        self.run = run
        with suppress(OSError):  # it died while it was idle, which the next message tells
            self.connection.send((plan, run, out, root))

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
        code = self.process.exitcode or 0
        if code >= 0:
            return f"it ended with status {code}"
        reason = ", as when memory runs out" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{reason}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C. It reaches every process of the group; what becomes of the workers is for the parent to say."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the process -------------------------------------------------------------------------------------------------------


def _serve(connection: "Connection[Any, Any]", threads: int, imports: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable()  # a crash in compiled code shows where
    torch.set_num_threads(threads)
    for name in imports:
        import_by_name(name)
    while (work := connection.recv()) is not None:
        connection.send(_work(connection, *work))


def _end_with_parent() -> None:
    """A killed benchmark must not leave workers that go on writing into its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(connection: "Connection[Any, Any]", plan: Plan, run: Run, out: Path, root: str | None) -> Message:
    trace = run_directory(out, run.id) / "error.txt"
    trace.unlink(missing_ok=True)
    try:
        return Finished(execute(plan, run, out, root, lambda name, epoch: connection.send(Epochs(epoch))))
    except Exception as error:
        write_atomically(trace, traceback.format_exc())
        # Not the error itself: not every one can be sent to another process.
        return Failed(f"{type(error).__name__}: {error} ({trace} shows where)")
