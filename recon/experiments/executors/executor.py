"""The contract between a benchmark and the processes that carry out its runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from recon.experiments.job import Job


@dataclass(frozen=True)
class Epochs:
    """So many epochs of a run are finished, those before a resume included."""

    number: int


@dataclass(frozen=True)
class Finished:
    """A run is finished, and its result is kept in the folder."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A run failed.

    Attributes:
        reason: Why, in a line.
        died: Whether its process died, and so could not write the reason into the run's folder.
    """

    reason: str
    died: bool = False


@dataclass(frozen=True)
class Died:
    """The process of a run is gone: killed, or ended by the code that it ran."""

    how: str


@dataclass(frozen=True)
class Lost:
    """The process of a run is gone, for a reason that lies in its machine or outside of it.

    Unlike a run that died beside others, it can begin again at once, from its last checkpoint.
    """

    how: str


Message = Epochs | Finished | Failed | Died | Lost


class Executor(Protocol):
    """Carries out jobs, several at a time; the scheduler decides which and when.

    An executor is a context. It ends its processes on leaving, at once after an error. Nothing is
    lost by that: results and checkpoints are replaced whole, and a run resumes from its last epoch.

    Its processes call :func:`recon.experiments.run.execute` once per job, after the modules in
    ``job.plan.imports`` are imported. They write into ``job.folder``, so they need its file system.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    @property
    def free(self) -> int:
        """How many more jobs can begin now."""

    @property
    def busy(self) -> bool:
        """Whether any job is going on."""

    def begin(self, job: Job) -> None:
        """Begin a job; call it only while :attr:`free` is positive."""

    def messages(self) -> Iterator[tuple[Job, Message]]:
        """Wait a second at most; yield the messages that have come from the jobs.

        Every job ends with one of :class:`Finished`, :class:`Failed`, :class:`Died`, :class:`Lost`.
        """


class RunsFailed(RuntimeError):
    """Some runs of a benchmark failed; the others are finished and kept.

    The same call of :func:`recon.experiments.benchmark` tries the failed ones again.

    >>> try:
    ...     raise RunsFailed("1 of 6 runs failed (cagrad-plain-seed0)")
    ... except RunsFailed as failure:
    ...     print(failure)
    1 of 6 runs failed (cagrad-plain-seed0)
    """
