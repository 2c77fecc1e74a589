"""Processes of this machine that train together: started, listened to, and ended together.

The process that starts them takes no part in the training. So it can tell which of them failed
first, and can end the others while they wait for one that is gone.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

import torch

from recon.launching.ends import ProcessDied, ProcessFailed, how_it_ended
from recon.launching.member import Done, Failed, Target, Told, take_part
from recon.plugins import safe_path

_PATIENCE = 10.0  # seconds for the cause of a broken connection to show
_MEETING = timedelta(minutes=30)  # the longest wait of a process for the others
_HOST = "127.0.0.1"


def train_together(
    count: int, target: Target, threads: int | None = None, heard: Callable[[Any], None] | None = None
) -> Any:
    """Run a function in several new processes of this machine, which Lightning's DDP connects.

    Args:
        count: Number of processes.
        target: The function, one that can be pickled. It is called with a function that passes on a
            message of the first process. Its trainer has ``devices=count``.
        threads: Threads of each process; ``None`` for Lightning's own choice, the cores shared.
        heard: Takes the messages of the first process.

    Returns:
        The value that the first process returns.

    Raises:
        ProcessFailed: A process raised an error; all are ended.
        ProcessDied: A process died; all are ended.
    """
    with _Group(count, target, threads) as group:
        return group.result(heard)


class _Group:
    def __init__(self, count: int, target: Target, threads: int | None) -> None:
        # It chooses a free port and keeps it, which a port that is only looked for is not.
        distributed: Any = torch.distributed
        self._store = distributed.TCPStore(
            _HOST, 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=5)
        )
        common = {"MASTER_ADDR": _HOST, "MASTER_PORT": str(self._store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        if threads is not None:
            common["OMP_NUM_THREADS"] = str(threads)
        self._members: list[_Member] = []
        self._going: list[_Member] = []
        try:
            for rank in range(count):
                own = {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(count)}
                self._members.append(_Member(rank, count, target, {**common, **own}))
                self._going.append(self._members[-1])
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def result(self, heard: Callable[[Any], None] | None) -> Any:
        """The value of the first process, when all are done."""
        value = None
        while self._going:
            for member, message in self._messages():
                if isinstance(message, Told):
                    if heard is not None:
                        heard(message.message)
                elif isinstance(message, Done):
                    value = message.value if member.rank == 0 else value
                else:
                    raise self._cause(message)
        return value

    def _messages(self) -> "Iterator[tuple[_Member, Told | Done | Failed | ProcessDied]]":
        """Wait a second at most; yield the messages that have come.

        Every message but ``Told`` is the last of its process.
        """
        ready = wait([member.connection for member in self._going], 1.0)
        for member in list(self._going):
            # A child of a dead process may hold its pipe open, so the pipe alone tells no death.
            if member.connection not in ready and member.process.is_alive():
                continue
            message = member.receive()
            if not isinstance(message, Told):
                self._going.remove(member)
            yield member, message

    def _cause(self, first: Failed | ProcessDied) -> RuntimeError:
        """The error of the process that failed, where others only found that it is gone."""
        deadline = time.monotonic() + _PATIENCE
        while isinstance(first, Failed) and first.secondary and self._going and time.monotonic() < deadline:
            for _, message in self._messages():
                if isinstance(message, ProcessDied) or (isinstance(message, Failed) and not message.secondary):
                    first = message
        if isinstance(first, ProcessDied):
            return first
        error = ProcessFailed(first.reason)
        error.__cause__ = _Trace(first.trace)
        return error

    def _end(self) -> None:
        for member in self._going:
            member.process.kill()
        for member in self._members:
            member.process.join(_PATIENCE)
            member.process.kill()  # if it does not end by itself
            member.process.join()
            member.connection.close()


class _Member:
    """A process of the group, from the outside."""

    def __init__(self, rank: int, count: int, target: Target, environment: Mapping[str, str]) -> None:
        self.rank = rank
        self._count = count
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=take_part, args=(theirs, rank, target))
        with safe_path(), _environment(environment):
            # A process would start the tracker too, and let Ctrl-C through again.
            resource_tracker.ensure_running()
            with without_interrupts():
                self.process.start()
        theirs.close()

    def receive(self) -> Told | Done | Failed | ProcessDied:
        """The next message of a process that has sent one, or has ended."""
        try:
            if self.connection.poll():
                message: Told | Done | Failed = self.connection.recv()
                return message
        except (EOFError, OSError):
            pass
        self.process.join(_PATIENCE)
        how = how_it_ended(self.process.exitcode or 0)
        return ProcessDied(f"process {self.rank + 1} of {self._count}", how)


class _Trace(Exception):
    """The traceback of another process, as the cause of the error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, which the processes started in this context inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C, which reaches every process of the group; the parent ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
