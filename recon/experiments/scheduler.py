"""The order of runs: those that others need first; last and alone those whose process died."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from recon.experiments.executors.executor import Died, Epochs, Executor, Failed, Finished, Lost, Message
from recon.experiments.job import Job
from recon.experiments.plan import Run

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

    Attributes:
        deaths: Run -> how often its process died, and how at last.
    """

    def __init__(
        self, jobs: Sequence[Job], finished: Collection[str], begin: Callable[[Job], dict[str, Any] | None]
    ) -> None:
        needed = {run_id for job in jobs for run_id in job.run.waits_for}
        left = [job for job in jobs if job.run.id not in finished]
        self._waiting = sorted(left, key=lambda job: job.run.id not in needed)
        self._suspects: list[Job] = []
        self._finished = set(finished)
        self._begin = begin
        self._times: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self.deaths: dict[str, str] = {}

    def carry_out(self, executor: Executor) -> Iterator[tuple[Run, Epochs | Finished | Failed | Lost]]:
        """Carry out the remaining jobs; yield what is told of each run, its end last."""
        while self._waiting or self._suspects or executor.busy:
            for job in self._ready()[: executor.free]:
                self._waiting.remove(job)
                result = self._begin(job)
                if result is None:
                    executor.begin(job)
                else:
                    self._finished.add(job.run.id)
                    yield job.run, Finished(result)
            if self._ready() and executor.free:
                continue
            if not executor.busy:
                if not self._suspects:
                    yield from self._in_vain()
                    return
                executor.begin(self._suspects.pop(0))
            for job, message in executor.messages():
                told = self._told(job, message)
                if isinstance(told, Finished):
                    self._finished.add(job.run.id)
                if told is not None:
                    yield job.run, told

    def _ready(self) -> list[Job]:
        return [job for job in self._waiting if self._finished.issuperset(job.run.waits_for)]

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
