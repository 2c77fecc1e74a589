"""The order of runs: first those that others need, then interrupted ones, then those of the plan.

Those whose process died come last and alone. Of runs that are the same, one is trained, and the
others wait for it; it is an interrupted one, if there is such.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from recon.experiments.executors.executor import Died, Epochs, Executor, Failed, Finished, Lost, Message
from recon.experiments.job import Job
from recon.experiments.runs import Run

_TRIES = 2
"""A process may die because of others (memory runs out), so a run gets a second try alone."""

_LOSSES = 5
"""How often a run may be lost, since its own code may be the reason why its process ends."""


class Scheduler:
    """Gives the unfinished jobs of a plan to an executor, each when it can run.

    Args:
        jobs: All jobs of the plan.
        finished: Ids of the runs that are finished.
        begin: Prepares a job that is about to begin; returns its result if it need not begin. The
            runs that it needs are finished then, and not before.
        identity: The hash of what a job is, once the runs that it needs are finished; ``None`` if
            nobody knows. While a job is going on, those of the same hash wait for it.

    Attributes:
        deaths: Run -> how often its process died, and how at last.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        finished: Collection[str],
        begin: Callable[[Job], dict[str, Any] | None],
        identity: Callable[[Job], str | None],
    ) -> None:
        needed = {run_id for job in jobs for run_id in job.run.waits_for}
        left = [job for job in jobs if job.run.id not in finished]
        self._interrupted = {job.run.id for job in left if job.folder.checkpoint(job.run.id).exists()}
        self._waiting = sorted(left, key=lambda job: (job.run.id not in needed, job.run.id not in self._interrupted))
        self._suspects: list[Job] = []
        self._finished = set(finished)
        self._begin = begin
        self._identity = identity
        self._going: set[str] = set()  # hashes of jobs that have begun, and have not ended
        self._failed: dict[str, str] = {}  # hash -> the run that failed
        self._times: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self.deaths: dict[str, str] = {}

    def carry_out(self, executor: Executor) -> Iterator[tuple[Run, Epochs | Finished | Failed | Lost]]:
        """Carry out the remaining jobs; yield what is told of each run, its end last."""
        while self._waiting or self._suspects or executor.busy:
            while executor.free and (job := self._next()):
                yield from self._begun(job, executor)
            if not executor.busy:
                if not self._suspects:
                    yield from self._in_vain()
                    return
                executor.begin(self._suspects.pop(0))
            for job, message in executor.messages():
                told = self._told(job, message)
                if isinstance(told, Finished | Failed | Lost):
                    self._end(job, told)
                if told is not None:
                    yield job.run, told

    def _next(self) -> Job | None:
        """The next job that needs no unfinished run, and is not the same as one that goes on."""
        for job in self._waiting:
            if self._is_ready(job) and self._identity(job) not in self._going:
                return self._interrupted_twin(job) or job
        return None

    def _is_ready(self, job: Job) -> bool:
        return self._finished.issuperset(job.run.waits_for)

    def _interrupted_twin(self, job: Job) -> Job | None:
        """An interrupted job that is the same: it is trained on, and the other has its result."""
        identity = None if job.run.id in self._interrupted else self._identity(job)
        if identity is None:
            return None
        begun = (one for one in self._waiting if one.run.id in self._interrupted and self._is_ready(one))
        return next((one for one in begun if self._identity(one) == identity), None)

    def _begun(self, job: Job, executor: Executor) -> Iterator[tuple[Run, Finished | Failed]]:
        """Begin a job, unless its end is known by now."""
        self._waiting.remove(job)
        identity = self._identity(job)
        if identity is not None and identity in self._failed:  # it would fail too, after as long a time
            yield job.run, Failed(f"{self._failed[identity]}, which is the same run, failed")
            return
        result = self._begin(job)
        if result is not None:
            self._finished.add(job.run.id)
            yield job.run, Finished(result)
            return
        if identity is not None:
            self._going.add(identity)
        executor.begin(job)

    def _end(self, job: Job, told: Finished | Failed | Lost) -> None:
        """Let those go on that wait for a job."""
        identity = self._identity(job)
        if identity is not None:
            self._going.discard(identity)
        if isinstance(told, Finished):
            self._finished.add(job.run.id)
        elif isinstance(told, Failed) and identity is not None:
            self._failed[identity] = job.run.id

    def _told(self, job: Job, message: Message) -> Epochs | Finished | Failed | Lost | None:
        """What is told of a message, after what it means for the job's run."""
        if isinstance(message, Died):
            return self._after_death(job, message)
        return self._after_loss(job, message) if isinstance(message, Lost) else message

    def _after_loss(self, job: Job, message: Lost) -> Lost | Failed:
        """Begin a lost run again as the next one, unless that has been in vain."""
        self._losses[job.run.id] += 1
        if (times := self._losses[job.run.id]) == _LOSSES:
            return Failed(f"it was lost {times} times, at last because {message.how}", died=True)
        self._waiting.insert(0, job)
        return message

    def _after_death(self, job: Job, message: Died) -> Failed | None:
        """Suspect a run after the death of its process; after a death alone it has failed."""
        run = job.run.id
        self._times[run] += 1
        times = self._times[run]
        self.deaths[run] = f"its process died {'once' if times == 1 else f'{times} times'} ({message.how})"
        if times < _TRIES:
            self._suspects.append(job)
            return None
        return Failed(f"{self.deaths[run]}, at last with no other run beside it", died=True)

    def _in_vain(self) -> Iterator[tuple[Run, Failed]]:
        for job in self._waiting:
            lacking = next(run_id for run_id in job.run.waits_for if run_id not in self._finished)
            what = "conflict map" if lacking == job.run.needs else "validation score"
            yield job.run, Failed(f"{lacking}, whose {what} it needs, failed")
