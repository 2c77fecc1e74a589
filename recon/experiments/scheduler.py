"""The order of runs: those that others need first; last and alone those whose process died."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from recon.experiments.executors.executor import Died, Epochs, Executor, Failed, Finished
from recon.experiments.job import Job
from recon.experiments.plan import Run

_TRIES = 2
"""A process may die because of others (memory runs out), so a run gets a second try alone."""


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
        self.deaths: dict[str, str] = {}

    def carry_out(self, executor: Executor) -> Iterator[tuple[Run, Epochs | Finished | Failed]]:
        """Carry out the remaining jobs; yield each run's epochs, then its result or its error."""
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
                told = self._after_death(job, message) if isinstance(message, Died) else message
                if isinstance(told, Finished):
                    self._finished.add(job.run.id)
                if told is not None:
                    yield job.run, told

    def _ready(self) -> list[Job]:
        return [job for job in self._waiting if self._finished.issuperset(job.run.waits_for)]

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
