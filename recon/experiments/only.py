"""Some runs of a plan, by their names or places, for the jobs of an array."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from recon.errors import number_of, unknown_name
from recon.experiments.runs import Run


def with_needed(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """The runs that are named, and those that they need, in the order of the plan.

    >>> from recon.experiments import Plan
    >>> methods = [{"method": "joint", "seeds": [0, 1]}]
    >>> fit = {"trainer": {"max_epochs": 1}, "model": {"backbone": {}}, "data": {"class_path": ""}}
    >>> runs = Plan.from_dict({"name": "a", "fit": fit, "methods": methods}).runs(["digit"])
    >>> [run.id for run in with_needed(runs, ["*-recon-seed1", "0"])]
    ['single-digit-seed0', 'joint-plain-seed1', 'joint-recon-seed1']

    Args:
        runs: All runs of a plan.
        only: Ids, patterns of ids with ``*``, or places in the plan from 0; none means all.

    Raises:
        ValueError: There is no such run.
    """
    if not only:
        return list(runs)
    by_id = {run.id: run for run in runs}
    chosen: set[str] = set()
    waiting = [run_id for word in only for run_id in _named(word, list(by_id))]
    while waiting:
        run_id = waiting.pop()
        if run_id not in chosen:
            chosen.add(run_id)
            waiting += by_id[run_id].waits_for
    return [run for run in runs if run.id in chosen]


def _named(word: str, ids: Sequence[str]) -> list[str]:
    """The ids that a word names."""
    if word.isdecimal():
        if int(word) >= len(ids):
            raise ValueError(f"the plan has no run {word}; it has {number_of(len(ids), 'run')}, 0 to {len(ids) - 1}")
        return [ids[int(word)]]
    named = [run_id for run_id in ids if fnmatchcase(run_id, word)]
    if not named:
        raise unknown_name("run", word, ids)
    return named
