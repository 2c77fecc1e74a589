"""Severities and the bins of cosines, both on one 0.01 grid, so that every score is exact."""

import math
from collections.abc import Iterable

BIN_EDGES: tuple[float, ...] = tuple(i / 100 for i in range(-100, 101))
"""The 201 edges of the 200 bins: bin b counts ``BIN_EDGES[b] <= cosine < BIN_EDGES[b + 1]``."""

BINS = len(BIN_EDGES) - 1

DEFAULT_SEVERITY = -0.1
"""The severity of the paper's first experiment, the default everywhere."""


def severity_in_hundredths(severity: float) -> int:
    """Return a severity on the 0.01 grid in (-1, 0] as a whole number of hundredths.

    A severity up to 1e-9 off the grid counts as on it.

    Raises:
        ValueError: The severity is off the grid; the error names the nearest one.
    """
    nearest = 0.0 if math.isnan(severity) else min(max(severity, -0.99), 0.0)
    hundredths = round(nearest * 100)
    if not abs(severity - hundredths / 100) <= 1e-9:
        raise ValueError(f"severity {severity} is not on the 0.01 grid in (-1, 0]; nearest: {hundredths / 100}")
    return hundredths


def first_severity(candidates: Iterable[float | None], conflict_map: object) -> float:
    """Return the first severity that is given, or raise a ValueError that names the map."""
    for severity in candidates:
        if severity is not None:
            return severity
    raise ValueError(
        f"no severity given for {conflict_map!r}; give one on the 0.01 grid in (-1, 0], such as {DEFAULT_SEVERITY}"
    )
