"""Fixed preferences among the tasks, a hyperparameter of several methods."""

from collections.abc import Sequence

import numpy as np

from recon.methods.base.per_task import check_numbers
from recon.methods.solvers.gramian import Array


def check_preference(method: str, preference: Sequence[float] | None) -> list[float] | None:
    """Return the preference as a list of numbers >= 0 that are not all zero, or ``None``.

    Raises:
        ValueError: It is not such a list; the error names the method and the task.
    """
    checked = check_numbers(method, "preference", preference, low=0)
    if checked is not None and not any(checked):
        raise ValueError(f"{method}: preference must prefer at least one task, got {checked!r}")
    return checked


def preference_among(tasks: int, preference: list[float] | None, default: float) -> Array:
    """The preference of a ``PerTaskMethod`` as an array, (K,), or the default for each task."""
    return np.full(tasks, default) if preference is None else np.array(preference)
