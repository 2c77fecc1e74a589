"""The progress of a benchmark: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from recon.experiments.plan import Plan
from recon.experiments.runs import Run
from recon.progress import SILENCE, elapsed


class Progress:
    """Counts the epochs of all runs on standard error. Use as a context.

    A bar redraws its line, which would fill a log with copies. Without a terminal each run that
    ends prints a line, and the epochs between print one a minute at most. Each line estimates the
    time left, by the epochs of this call.

    Args:
        plan: The plan.
        runs: All its runs.
        finished: Ids of those that are finished.
    """

    def __init__(self, plan: Plan, runs: Sequence[Run], finished: Mapping[str, Any]) -> None:
        self._epochs = int(plan.fit["trainer"]["max_epochs"])
        self._runs = len(runs)
        self._done = dict.fromkeys(finished, self._epochs)
        self._before = dict(self._done)
        self._ended = set(finished)
        self._began = self._told = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            total = self._epochs * self._runs
            self._bar = tqdm(total=total, initial=sum(self._done.values()), unit="epoch", dynamic_ncols=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def epochs(self, run: Run, number: int) -> None:
        """Count the finished epochs of a run; at first those before it was resumed."""
        self._before.setdefault(run.id, number)
        self._done[run.id] = number
        self._show(run, time.monotonic() - self._told > SILENCE)

    def finished(self, run: Run) -> None:
        """Count a finished run."""
        self._ended.add(run.id)
        self._done[run.id] = self._epochs
        self._show(run, True)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        tell(text)

    def _show(self, run: Run, line: bool) -> None:
        state = f"{len(self._ended)}/{self._runs} runs"
        if self._bar is not None:
            self._bar.set_description(f"{state}, {run.id}", refresh=False)
            self._bar.n = sum(self._done.values())
            self._bar.refresh()
        elif line:
            self._told = time.monotonic()
            done, total, before = sum(self._done.values()), self._epochs * self._runs, sum(self._before.values())
            time_of_it = elapsed(self._told - self._began, (done - before) / max(total - before, 1))
            self.say(f"{state}, {done}/{total} epochs, {time_of_it}: {run.id} {self._doing(run)}")

    def _doing(self, run: Run) -> str:
        if run.id in self._ended:
            return "finished"
        done = self._done[run.id]
        return f"in epoch {done + 1}" if done < self._epochs else "is tested"


def tell(text: str) -> None:
    """Print a line of its own on standard error, beside a bar if there is one."""
    tqdm.write(text, file=sys.stderr)
