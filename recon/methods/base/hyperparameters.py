"""Checks of hyperparameters when a method is created."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any


def check_number(method: str, name: str, value: float, low: float, high: float = math.inf) -> float:
    """Return the hyperparameter as a float if it is a finite number in [low, high].

    Raises:
        ValueError: It is not; the error names the method, the hyperparameter, the allowed range and
            the value.
    """
    if not _is_finite_number(value) or not low <= value <= high:
        raise ValueError(f"{method}: {name} must be {_allowed(low, high)}, got {value!r}")
    return float(value)


def check_above(method: str, name: str, value: float, low: float) -> float:
    """Return the hyperparameter as a float if it is a finite number > low, else raise an error."""
    if not _is_finite_number(value) or not value > low:
        raise ValueError(f"{method}: {name} must be a finite number > {low:g}, got {value!r}")
    return float(value)


def check_below(method: str, name: str, value: float, low: float, high: float) -> float:
    """Return the hyperparameter as a float if it lies in [low, high), else raise an error."""
    if not _is_finite_number(value) or not low <= value < high:
        raise ValueError(f"{method}: {name} must be a number in [{low:g}, {high:g}), got {value!r}")
    return float(value)


def check_count(method: str, name: str, value: int, low: int) -> int:
    """Return the hyperparameter if it is a whole number >= low.

    Raises:
        ValueError: It is not; the error names the method, the hyperparameter, the allowed range and
            the value.
    """
    if type(value) is not int or value < low:
        raise ValueError(f"{method}: {name} must be a whole number >= {low}, got {value!r}")
    return value


def check_options(method: str, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the hyperparameters of a wrapped method as a dictionary; ``None`` stays ``None``.

    Raises:
        ValueError: They are not a mapping; the error names the wrapping method and the value.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise ValueError(f"{method}: method_options must map names of hyperparameters to values, got {options!r}")
    return dict(options)


def _allowed(low: float, high: float) -> str:
    if math.isfinite(high):
        return f"a number in [{low:g}, {high:g}]"
    return f"a finite number >= {low:g}" if math.isfinite(low) else "a finite number"


def _is_finite_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
