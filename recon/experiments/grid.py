"""The grid of an entry: settings tried on held-out training data, of which the best is trained.

Each point of the grid is trained without a share of the training data, and evaluated on that share.
The test data are never seen. The point of the best score is then trained on all training data, with
every seed and in every variant of the entry.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from recon.experiments.fit import SET_IN_MODEL, Fit

Setting = dict[str, Any]
"""A point of a grid: dotted key -> value."""


def points(grid: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """All combinations of the values of a grid; the last key changes fastest.

    >>> points({"model.optimizer.init_args.lr": [0.1, 0.2], "options.weights": [[1, 1]]})[1]
    {'model.optimizer.init_args.lr': 0.2, 'options.weights': [1, 1]}
    """
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []


def check_grid(grid: Mapping[str, Any], held_out: float | None, label: str) -> None:
    """Check the keys of a grid, and that a share of training is held out to choose on.

    Args:
        grid: Dotted key -> values.
        held_out: The share of training to choose on.
        label: The method's name, for errors.

    Raises:
        ValueError: They are not such.
    """
    if not grid:
        if held_out is not None:
            raise ValueError(f"method {label} has held_out and no grid to choose on it; give both or neither")
        return
    check_share(held_out, label, "grid")
    for key, values in grid.items():
        check_key(key, label, "grid")
        if not isinstance(values, list) or not values:
            raise ValueError(f"method {label} has a grid over {key} of {values!r}; give a list of values")
    if len(points(grid)) < 2:
        raise ValueError(f"method {label} has a grid of one point, and nothing to choose; give more values")


def check_share(held_out: float | None, label: str, kind: str) -> None:
    """Check the share of training on which an entry chooses.

    Args:
        held_out: The share.
        label: The method's name, for errors.
        kind: ``grid`` or ``sweep``, for errors.

    Raises:
        ValueError: There is none, or it is out of range.
    """
    if held_out is None:
        raise ValueError(
            f"method {label} has a {kind} and no held_out, the share of training on which to choose; "
            "give held_out: 0.1: never choose on the test data"
        )
    if not 0 < held_out <= 0.5:
        raise ValueError(f"method {label} has held_out: {held_out}; give a share of training, above 0 to 0.5")


def check_key(key: str, label: str, kind: str) -> None:
    """Check that a key is one of the optimizer, the model or the method's options.

    Args:
        key: The dotted key.
        label: The method's name, for errors.
        kind: ``grid`` or ``sweep``, for errors.

    Raises:
        ValueError: It is another one.
    """
    root, _, path = key.partition(".")
    name = path.partition(".")[0]
    if root not in ("model", "options") or not path or (root == "model" and name in (*SET_IN_MODEL, "backbone")):
        raise ValueError(
            f"method {label} has a {kind} over {key!r}; give keys such as model.optimizer.init_args.lr or "
            "options.weights, and other networks as entries of their own"
        )


def with_setting(fit: Fit, setting: Setting) -> Fit:
    """A fit with the values of a point; options of the method are ``model.method_options``.

    Raises:
        ValueError: A key leads through a value that has no keys.
    """
    section = fit.configuration
    for key, value in setting.items():
        *parents, name = re.sub("^options", "model.method_options", key).split(".")
        inner = section
        for parent in parents:
            below = inner.get(parent) or {}
            inner[parent] = {"class_path": below} if isinstance(below, str) else below
            inner = inner[parent]
            if not isinstance(inner, dict):
                raise ValueError(f"a grid goes over {key}, and {parent} is {inner!r}, which has no keys")
        inner[name] = value
    return Fit(section, fit.root)


def holding_out(fit: Fit, share: float) -> Fit:
    """A fit that trains without a share of the training data."""
    section = fit.configuration
    arguments = {**(section["data"].get("init_args") or {}), "held_out": share}
    return Fit({**section, "data": {**section["data"], "init_args": arguments}}, fit.root)
