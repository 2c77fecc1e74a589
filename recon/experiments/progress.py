"""The progress of a benchmark: a bar on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Collection, Sequence

from tqdm import tqdm

from recon.experiments.plan import Plan
from recon.experiments.runs import Run
from recon.experiments.time_left import TimeLeft
from recon.progress import SILENCE, clock

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}{postfix}]"
"""Without the time left by tqdm, which takes all epochs alike."""


class Progress:
    """Counts the epochs of all runs on standard error. Use as a context.

    A bar redraws its line, which would fill a log with copies. Without a terminal each run that
    ends prints a line, and the epochs between print one a minute at most. Each line estimates the
    time left, by what this call has measured.

    Args:
        plan: The plan.
        runs: All its runs.
        finished: Ids of those that are finished.
        tasks: Number of tasks.
        places: Runs at a time.
    """

    def __init__(self, plan: Plan, runs: Sequence[Run], finished: Collection[str], tasks: int, places: int) -> None:
        self._epochs = int(plan.fit["trainer"]["max_epochs"])
        self._runs = len(runs)
        self._done = dict.fromkeys(finished, self._epochs)
        self._left = TimeLeft([run for run in runs if run.id not in finished], self._epochs, tasks, places)
        self._ended = set(finished)
        self._began = self._told = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            total = self._epochs * self._runs
            bar = {"unit": "epoch", "dynamic_ncols": True, "bar_format": _BAR}
            self._bar = tqdm(total=total, initial=sum(self._done.values()), **bar)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def epochs(self, run: Run, number: int) -> None:
        """Count the finished epochs of a run; at first those before it was resumed."""
        now = time.monotonic()
        self._left.epochs(run, number, now)
        self._done[run.id] = number
        self._show(run, now, now - self._told > SILENCE)

    def finished(self, run: Run) -> None:
        """Count a finished run."""
        now = time.monotonic()
        self._left.finished(run, now)
        self._end(run, now)

    def diverged(self, run: Run, reason: str) -> None:
        """Count a run that diverged as finished; others will not end as early."""
        self.say(f"{run.id} diverged: {reason}")
        now = time.monotonic()
        self._left.failed(run, now)
        self._end(run, now)

    def failed(self, run: Run, reason: str) -> None:
        """Tell of a run that failed."""
        self._left.failed(run, time.monotonic())
        self.say(f"{run.id} failed: {reason}")

    def say(self, text: str) -> None:
        """Print a line of its own."""
        tell(text)

    def _end(self, run: Run, now: float) -> None:
        self._ended.add(run.id)
        self._done[run.id] = self._epochs
        self._show(run, now, True)

    def _show(self, run: Run, now: float, line: bool) -> None:
        state = f"{len(self._ended)}/{self._runs} runs"
        if self._bar is not None:
            self._bar.set_postfix_str(_about(self._left.seconds(now)), refresh=False)
            self._bar.set_description(f"{state}, {run.id}", refresh=False)
            self._bar.n = sum(self._done.values())
            self._bar.refresh()
        elif line:
            self._told = now
            epochs = f"{sum(self._done.values())}/{self._epochs * self._runs} epochs"
            times = ", ".join(text for text in (clock(now - self._began), _about(self._left.seconds(now))) if text)
            self.say(f"{state}, {epochs}, {times}: {run.id} {self._doing(run)}")

    def _doing(self, run: Run) -> str:
        if run.id in self._ended:
            return "finished"
        done = self._done[run.id]
        return f"in epoch {done + 1}" if done < self._epochs else "is tested"


def _about(seconds: float | None) -> str:
    """The time left in words; empty if nobody knows, or it is less than a second."""
    return f"about {clock(seconds)} left" if seconds is not None and seconds >= 1 else ""


def tell(text: str) -> None:
    """Print a line of its own on standard error, beside a bar if there is one."""
    tqdm.write(text, file=sys.stderr)
