"""Which run is next: what others need first, and what has killed its process last and alone."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recon.experiments.executors.local import Died, Epochs, Failed, Finished, Workers
from recon.experiments.plan import Plan, Run

_TRIES = 2
"""A process may die of what others do (memory runs out, and the kernel kills one); so once more, with no other."""


class Schedule:
    """The runs that are left, and what became of them.

    Args:
        runs: All runs of the plan.
        finished: Ids of those that are finished.

    Attributes:
        deaths: How often a run's process died, and how at last.
    """

    def __init__(self, runs: Sequence[Run], finished: Mapping[str, Any]) -> None:
        needed = {run.needs for run in runs}
        left = [run for run in runs if run.id not in finished]
        self._waiting = sorted(left, key=lambda run: run.id not in needed)
        self._suspects: list[Run] = []
        self._finished = set(finished)
        self._times: Counter[str] = Counter()
        self.deaths: dict[str, str] = {}

    def carry_out(
        self, workers: Workers, plan: Plan, out: Path, root: str | None
    ) -> Iterator[tuple[Run, Epochs | Finished | Failed]]:
        """Run what is left; yield what becomes of each run: epochs, and in the end its result or its error."""
        while self._waiting or self._suspects or workers.busy:
            for run in self._ready()[: workers.free]:
                self._waiting.remove(run)
                workers.begin(plan, run, out, root)
            if not workers.busy:
                if not self._suspects:
                    yield from self._in_vain()
                    return
                workers.begin(plan, self._suspects.pop(0), out, root)
            for run, message in workers.messages():
                told = self._after_death(run, message) if isinstance(message, Died) else message
                if isinstance(told, Finished):
                    self._finished.add(run.id)
                if told is not None:
                    yield run, told

    def _ready(self) -> list[Run]:
        return [run for run in self._waiting if run.needs is None or run.needs in self._finished]

    def _after_death(self, run: Run, message: Died) -> Failed | None:
        """Suspect a run whose process died; one that died alone has failed."""
        self._times[run.id] += 1
        times = self._times[run.id]
        self.deaths[run.id] = f"its process died {'once' if times == 1 else f'{times} times'} ({message.how})"
        if times < _TRIES:
            self._suspects.append(run)
            return None
        return Failed(f"{self.deaths[run.id]}, at last with no other run beside it")

    def _in_vain(self) -> Iterator[tuple[Run, Failed]]:
        for run in self._waiting:
            yield run, Failed(f"{run.needs}, whose conflict map it needs, failed")
