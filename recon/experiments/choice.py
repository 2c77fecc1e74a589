"""The choice among the settings of an entry's grid, by their scores on held-out training data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from recon.errors import number_of
from recon.experiments.entry import MethodEntry, tried_run
from recon.experiments.folder import ResultsFolder, read_result, result_file
from recon.experiments.grid import Setting, points
from recon.experiments.sweep import Proposed, before, keep_proposal, proposal, read_proposal
from recon.tasks.task import Task

Metrics = Mapping[str, Mapping[str, float]]


def scores(found: Sequence[Metrics], tasks: Sequence[Task]) -> list[float]:
    """The score of each setting: its gain over the best of each metric, in percent.

    As in delta-m, gains are averaged over each task's metrics first, and then over tasks, so that
    neither the scale of a loss nor that of a metric counts. A setting that is the best in all
    metrics scores 0, others less. A metric whose best value is zero is left out.

    >>> from recon.tasks import classification
    >>> found = [{"digit": {"accuracy": accuracy}} for accuracy in (0.8, 0.4)]
    >>> scores(found, [classification("digit", 10)])
    [0.0, -50.0]

    Args:
        found: The metrics of each setting, the means over its seeds.
        tasks: The tasks, whose metrics know which direction is better.
    """
    best = {
        task.name: {
            name: (max if higher else min)(own[task.name][name] for own in found)
            for name, higher in task.higher_is_better.items()
        }
        for task in tasks
    }
    return [100 * fmean(_gain(own[task.name], best[task.name], task) for task in tasks) for own in found]


@dataclass(frozen=True)
class Tried:
    """A setting of a grid and what came of it.

    Attributes:
        setting: Dotted key -> value.
        score: Its score (:func:`scores`); ``None`` if a run of it diverged.
        metrics: Task -> metric -> mean over seeds on the held-out data; empty without a score.
        diverged: Why a run of it diverged.
    """

    setting: Setting
    score: float | None
    metrics: Metrics
    diverged: str | None = None


@dataclass(frozen=True)
class Choice:
    """The settings that an entry's grid tried, of which the best is chosen.

    Attributes:
        held_out: The share of training on which they were compared.
        seeds: The seeds that each was trained with.
        tried: The settings, in the order of the grid.
    """

    held_out: float
    seeds: tuple[int, ...]
    tried: tuple[Tried, ...]

    @property
    def chosen(self) -> Setting:
        """The setting of the best score, the first of equal ones.

        Raises:
            ValueError: All diverged.
        """
        if self._best is None:
            raise ValueError(f"{self}: {self.tried[0].diverged}")
        return self._best

    @property
    def _best(self) -> Setting | None:
        scored = [(one.score, one.setting) for one in self.tried if one.score is not None]
        return max(scored, key=lambda one: one[0])[1] if scored else None

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON; ``chosen`` is ``None`` where all diverged."""
        return {**asdict(self), "chosen": self._best}

    def __str__(self) -> str:
        if self._best is None:
            return f"all {number_of(len(self.tried), 'setting')} of its grid diverged"
        chosen = ", ".join(f"{key.rpartition('.')[2]} = {value}" for key, value in self._best.items())
        diverged = sum(one.score is None for one in self.tried)
        return (
            f"{chosen}, the best of {number_of(len(self.tried), 'setting')} on {self.held_out:.0%} of training held out"
            + (f" (means of {len(self.seeds)} seeds)" if len(self.seeds) > 1 else "")
            + (f"; {diverged} diverged" if diverged else "")
        )


def choice_of(entry: MethodEntry, folder: ResultsFolder, tasks: Sequence[Task]) -> Choice:
    """The choice among the settings of an entry's grid, whose runs are finished.

    Args:
        entry: The entry.
        folder: Where results are kept.
        tasks: The tasks of the plan.

    Raises:
        ValueError: A run is not finished, or its result is damaged.
    """
    assert entry.held_out is not None  # an entry with a grid or a sweep has it
    return Choice(entry.held_out, entry.seeds[: entry.grid_seeds], _tried(entry, folder, tasks, range(entry.settings)))


def setting_at(entry: MethodEntry, place: int, folder: ResultsFolder, tasks: Sequence[Task]) -> Setting:
    """The setting at a place of an entry's grid or sweep.

    Args:
        entry: The entry.
        place: The place, from 0.
        folder: Where results and the settings of sweeps are kept.
        tasks: The tasks of the plan.

    Raises:
        ValueError: A run of a sweep is not finished from whose score the setting follows.
    """
    if not entry.sweep:
        return points(entry.grid)[place]
    kept = read_proposal(folder.proposal(entry.label, place), entry.sweep)
    return _proposal(entry, place, folder, tasks) if kept is None else kept.setting


def keep_setting(
    entry: MethodEntry, place: int, runs: Sequence[str], folder: ResultsFolder, tasks: Sequence[Task]
) -> None:
    """Keep the setting at a place of an entry's sweep; a grid has its settings in the plan.

    Args:
        entry: The entry.
        place: The place, from 0.
        runs: The identities of the trials from whose scores the setting follows. One that was kept
            with others is proposed anew.
        folder: Where results and the settings of sweeps are kept; it is held.
        tasks: The tasks of the plan.
    """
    if not entry.sweep:
        return
    path = folder.proposal(entry.label, place)
    kept = read_proposal(path, entry.sweep)
    if kept is None or kept.runs != tuple(runs):
        keep_proposal(path, entry.sweep, Proposed(_proposal(entry, place, folder, tasks), tuple(runs)))


def _proposal(entry: MethodEntry, place: int, folder: ResultsFolder, tasks: Sequence[Task]) -> Setting:
    """The setting that follows from the trials before a place."""
    known = [(one.setting, one.score) for one in _tried(entry, folder, tasks, before(place))]
    return proposal(entry.sweep, place, known)


def _tried(
    entry: MethodEntry, folder: ResultsFolder, tasks: Sequence[Task], places: Iterable[int]
) -> tuple[Tried, ...]:
    """The settings at places that are finished, with their scores among each other."""
    places, seeds = [*places], entry.seeds[: entry.grid_seeds]
    found = [[_result(folder, tried_run(entry, place, seed)) for seed in seeds] for place in places]
    reasons = [next((one["diverged"] for one in of_seeds if "diverged" in one), None) for of_seeds in found]
    means = [
        _mean([one["metrics"] for one in of_seeds], tasks) if reason is None else {}
        for of_seeds, reason in zip(found, reasons, strict=True)
    ]
    finite = [own for own in means if own]
    scored = iter(scores(finite, tasks) if finite else ())
    return tuple(
        Tried(setting_at(entry, place, folder, tasks), next(scored) if own else None, own, reason)
        for place, own, reason in zip(places, means, reasons, strict=True)
    )


def _result(folder: ResultsFolder, run_id: str) -> dict[str, Any]:
    result = read_result(folder.run(run_id))
    if result is None:
        raise ValueError(f"{result_file(folder.run(run_id))} is not there; the grid is not finished")
    return result


def _mean(metrics: Sequence[Metrics], tasks: Sequence[Task]) -> Metrics:
    return {
        task.name: {name: fmean(own[task.name][name] for own in metrics) for name in task.higher_is_better}
        for task in tasks
    }


def _gain(own: Mapping[str, float], best: Mapping[str, float], task: Task) -> float:
    """The mean relative gain of a task's metrics; 0 without any that could have one."""
    gains = [
        (own[name] - best[name]) / abs(best[name]) * (1 if higher else -1)
        for name, higher in task.higher_is_better.items()
        if best[name]
    ]
    return fmean(gains) if gains else 0.0
