"""The sweep of an entry: settings that Optuna proposes one after another, by their scores.

Like the points of a grid, each setting is trained without a share of the training data and scored
on that share. The test data are never seen. Optuna's TPE proposes the next setting from the scores
of those before it (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011).

A proposal depends on nothing else: the sampler of a trial is seeded by the trial's number. So a
sweep that is killed goes on as if it had not been. If the plan has changed, trials before it are
other runs with other scores, and it is made anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recon.conflict.severity import severity_in_hundredths
from recon.experiments.grid import Setting, check_key, check_share
from recon.files.atomic import write_json
from recon.files.checksum import check_seal, sealed
from recon.files.reading import read_object
from recon.plugins import needs

OF_PLAN = ("top", "severity")
"""Keys of a setting that are the plan's: the number of branched layers, and S of their ranking."""

AT_A_TIME = 4
"""Trials that may go at a time: each waits for all before it but the last three."""

_BOUNDS = {"low", "high", "log"}

_HUNDREDTHS = 2  # decimals of a severity


class Proposed(NamedTuple):
    """The setting of a trial as it was proposed.

    Attributes:
        setting: The setting.
        runs: The identities of the runs from whose scores it was proposed. With other ones, such as
            those of a changed plan, it would have been another setting.
    """

    setting: Setting
    runs: tuple[str, ...]


def check_sweep(space: Mapping[str, Any], trials: int | None, held_out: float | None, label: str) -> None:
    """Check the ranges of a sweep, its number of trials and the share to choose on.

    Args:
        space: Dotted key -> a list of values, or a range ``{low, high, log}``.
        trials: The number of settings to try.
        held_out: The share of training to choose on.
        label: The method's name, for errors.

    Raises:
        ValueError: They are not such.
    """
    check_share(held_out, label, "sweep")
    if trials is None or trials < 2:
        raise ValueError(f"method {label} has a sweep and trials: {trials}; give 2 trials or more")
    for key, values in space.items():
        if key not in OF_PLAN:
            check_key(key, label, "sweep")
        _check_values(key, values, f"method {label} has a sweep over {key} of {values!r}")


def highest(values: Any) -> Any:
    """The highest value of a list or of a range.

    >>> highest([5, 30, 10]), highest({"low": 5, "high": 20})
    (30, 20)
    """
    return max(values) if isinstance(values, list) else values["high"]


def before(number: int) -> range:
    """The trials from whose scores a trial is proposed.

    >>> before(3), before(6)
    (range(0, 0), range(0, 3))
    """
    return range(max(0, number - AT_A_TIME + 1))


def proposal(space: Mapping[str, Any], number: int, before: Sequence[tuple[Setting, float | None]]) -> Setting:
    """The setting of a trial.

    >>> space = {"options.c": {"low": 0.1, "high": 0.9}, "top": {"low": 1, "high": 9}}
    >>> sorted(proposal(space, 0, []))
    ['options.c', 'top']

    Args:
        space: The ranges (:func:`check_sweep`).
        number: The number of the trial, from 0, which seeds the sampler.
        before: Settings of trials before it, with their scores; ``None`` for one that diverged.

    Raises:
        PackageMissingError: Optuna is not installed.
    """
    with needs("optuna", extra="optuna"):
        import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(optuna, values) for key, values in space.items()}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(n_startup_trials=AT_A_TIME, seed=number)
    )
    for setting, score in before:
        state = optuna.trial.TrialState.PRUNED if score is None else optuna.trial.TrialState.COMPLETE
        parameters = {key: _told(space[key], value) for key, value in setting.items()}
        study.add_trial(
            optuna.trial.create_trial(state=state, value=score, params=parameters, distributions=distributions)
        )
    asked = study.ask(distributions).params
    return {key: _value(key, space[key], asked[key]) for key in space}


def read_proposal(path: Path, space: Mapping[str, Any]) -> Proposed | None:
    """A setting that was proposed before; ``None`` if there is none from this space.

    Args:
        path: The file of the trial.
        space: The ranges.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.exists():
        return None
    record = read_object(path)
    try:
        check_seal(record)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; remove it to propose the setting again") from error
    return Proposed(record["setting"], tuple(record.get("runs", ()))) if record["space"] == space else None


def keep_proposal(path: Path, space: Mapping[str, Any], proposed: Proposed) -> None:
    """Keep the setting of a trial, so that another version of Optuna cannot change it."""
    path.parent.mkdir(exist_ok=True)
    write_json(path, sealed({"space": dict(space), **proposed._asdict()}))


def _check_values(key: str, values: Any, what: str) -> None:
    if isinstance(values, list):
        if len(values) < 2:
            raise ValueError(f"{what}; give two values or more, or a range {{low: ..., high: ...}}")
        _check_of_plan(key, values, what)
        return
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= _BOUNDS:
        raise ValueError(f"{what}; give a list of values, or a range {{low: ..., high: ..., log: true}}")
    low, high, log = values["low"], values["high"], values.get("log", False)
    if not all(type(bound) in (int, float) for bound in (low, high)) or not low < high or type(log) is not bool:
        raise ValueError(f"{what}; low and high are numbers, the first the smaller, and log is true or false")
    if log and low <= 0:
        raise ValueError(f"{what}; a range in the logarithm is above 0")
    _check_of_plan(key, (low, high), what)


def _check_of_plan(key: str, values: Sequence[Any], what: str) -> None:
    """Check values of the plan's own keys, or the bounds of their range."""
    if key == "top" and not all(type(value) is int and value > 0 for value in values):
        raise ValueError(f"{what}; give whole numbers of layers, from 1")
    if key == "severity":
        for value in values:
            if type(value) not in (int, float):
                raise ValueError(f"{what}; give numbers such as -0.1")
            severity_in_hundredths(value)


def _distribution(optuna: Any, values: Any) -> Any:
    distributions = optuna.distributions
    if isinstance(values, list):
        return distributions.CategoricalDistribution(range(len(values)))  # a value may be a list
    whole = type(values["low"]) is int and type(values["high"]) is int
    kind = distributions.IntDistribution if whole else distributions.FloatDistribution
    return kind(values["low"], values["high"], log=values.get("log", False))


def _told(values: Any, value: Any) -> Any:
    """A value of a setting as Optuna knows it."""
    return values.index(value) if isinstance(values, list) else value


def _value(key: str, values: Any, asked: Any) -> Any:
    """A value of Optuna as the setting has it."""
    if isinstance(values, list):
        return values[asked]
    return round(asked, _HUNDREDTHS) if key == "severity" else asked
