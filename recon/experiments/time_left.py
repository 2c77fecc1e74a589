"""An estimate of the time that the rest of a benchmark takes, by what has been measured so far."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from recon.experiments.entry import UNBRANCHED
from recon.experiments.makespan import makespan
from recon.experiments.runs import Run


@dataclass(frozen=True)
class _Mark:
    """So many epochs of a run were finished at a time."""

    epochs: int
    time: float


@dataclass
class _Pace:
    """Epochs that were measured, the seconds that they took, and their sum of relative costs."""

    seconds: float = 0.0
    epochs: int = 0
    cost: float = 0.0


class TimeLeft:
    """Estimates the time left, run by run.

    An epoch of a run takes as long as those measured of its entry and variant, else of its variant.
    Until there are such, it is taken from all measured ones by a ratio of costs: with K tasks an
    epoch of a branched network costs K times that of a single task, and in between lie others, with
    one forward and K backwards. Start and test of a run are counted once for each, as measured of
    others; the start of the first processes is not, as it comes once.

    Args:
        runs: The runs that are not finished.
        epochs: Epochs of each run.
        tasks: Number of tasks.
        places: Runs at a time.
    """

    def __init__(self, runs: Sequence[Run], epochs: int, tasks: int, places: int) -> None:
        self._left = {run.id: run for run in runs}
        self._epochs, self._tasks, self._places = epochs, tasks, places
        self._marks: dict[str, _Mark] = {}
        self._paces: defaultdict[Hashable, _Pace] = defaultdict(_Pace)
        self._lengths: dict[str, int] = {}  # variant -> epochs of a run that ended before the last
        self._free: list[float] = []  # when places became free that nobody has taken
        self._starts: list[float] = []
        self._tests: list[float] = []

    def epochs(self, run: Run, number: int, now: float) -> None:
        """Take note of a run's number of finished epochs; at first those before it was resumed."""
        mark = self._marks.get(run.id)
        if mark is None and self._free:
            self._starts.append(now - self._free.pop())
        if mark is not None and number > mark.epochs:
            self._measure(run, number - mark.epochs, now - mark.time)
        if mark is None or number != mark.epochs:
            self._marks[run.id] = _Mark(number, now)

    def finished(self, run: Run, now: float) -> None:
        """Take note of a run that is finished, or copied from one that is."""
        mark = self._marks.get(run.id)
        if mark is not None:
            self._tests.append(now - mark.time)
            self._lengths[run.variant] = mark.epochs
        self.failed(run, now)

    def failed(self, run: Run, now: float) -> None:
        """Take note of a run that failed or diverged: it tells nothing of the length of others."""
        self._left.pop(run.id, None)
        if self._marks.pop(run.id, None) is not None:
            self._free.append(now)

    def seconds(self, now: float) -> float | None:
        """The time left; ``None`` before the first epoch is finished."""
        if not self._paces:
            return None
        needed = {run_id for run in self._left.values() for run_id in run.waits_for}
        order = sorted(self._left, key=lambda run_id: (run_id not in self._marks, run_id not in needed))
        return makespan(
            {run_id: self._rest(self._left[run_id], now) for run_id in order},
            {run_id: self._left[run_id].waits_for for run_id in order},
            self._places,
        )

    def _measure(self, run: Run, epochs: int, seconds: float) -> None:
        for kind in (*_kinds(run), None):
            pace = self._paces[kind]
            pace.seconds += seconds
            pace.epochs += epochs
            pace.cost += epochs * self._cost(run)

    def _rest(self, run: Run, now: float) -> float:
        """The time that a run still takes."""
        mark = self._marks.get(run.id)
        length = self._lengths.get(run.variant, self._epochs)
        if mark is None:
            return _mean(self._starts) + length * self._epoch(run) + _mean(self._tests)
        return max(0.0, (length - mark.epochs) * self._epoch(run) + _mean(self._tests) - (now - mark.time))

    def _epoch(self, run: Run) -> float:
        """The time of an epoch of a run."""
        for kind in _kinds(run):
            if kind in self._paces:
                return self._paces[kind].seconds / self._paces[kind].epochs
        every = self._paces[None]
        return every.seconds / every.cost * self._cost(run)

    def _cost(self, run: Run) -> float:
        """The cost of an epoch relative to one of a single task; a backward costs two forwards."""
        if run.variant == "single":
            return 1.0
        return (1 + 2 * self._tasks) / 3 if run.variant in UNBRANCHED else float(self._tasks)


def _kinds(run: Run) -> tuple[Hashable, ...]:
    """What runs have in common that take about as long, the nearest first."""
    return (run.label, run.variant), run.variant


def _mean(times: Sequence[float]) -> float:
    return fmean(times) if times else 0.0
