"""The rows of a benchmark: their names and marks."""

from collections.abc import Mapping
from typing import Any

from recon.plot.axes import GREY
from recon.tasks.colours import OKABE_ITO

VARIANT_NAMES = {
    "single": "one network per task",
    "plain": "",
    "recon": "+ Recon",
    "random": "+ random layers",
    "random_parameters": "+ random layers, equal parameters",
    "random_flops": "+ random layers, equal FLOPs",
    "first": "+ first layers",
    "last": "+ last layers",
    "least": "+ least conflicting layers",
    "norms": "+ all norms",
    "norms_random": "+ random layers, as many as norms",
    "wide_parameters": "wider, equal parameters",
    "wide_flops": "wider, equal FLOPs",
}

CONFIDENCE = 0.95
"""Confidence of the intervals."""

# Told apart by form as well as by colour.
MARKERS = {
    "plain": ("o", GREY),
    "recon": ("s", OKABE_ITO["blue"]),
    "random": ("D", OKABE_ITO["orange"]),
    "random_parameters": ("d", OKABE_ITO["orange"]),
    "random_flops": ("P", OKABE_ITO["orange"]),
    "first": ("^", OKABE_ITO["green"]),
    "last": ("v", OKABE_ITO["purple"]),
    "least": ("X", OKABE_ITO["vermillion"]),
    "norms": ("p", OKABE_ITO["sky"]),
    "norms_random": ("h", OKABE_ITO["orange"]),
    "wide_parameters": ("<", "black"),
    "wide_flops": (">", "black"),
}
"""Variant -> the marker and the colour of its rows."""


def row_name(row: Mapping[str, Any]) -> str:
    """Name of a row in tables and figures.

    >>> row_name({"method": "cagrad", "variant": "recon"})
    'cagrad + Recon'
    """
    if row["variant"] == "single":
        return "single-task"
    return f"{row['method']} {VARIANT_NAMES[row['variant']]}".strip()
