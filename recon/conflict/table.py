"""A conflict map as a text table, one row per layer."""

import math
from collections.abc import Sequence
from itertools import accumulate

from recon.conflict.map import ConflictMap
from recon.conflict.measured import MeasuredMap
from recon.conflict.severity import first_severity

_ALIGNMENT = {"layer": "left"}  # every other column holds numbers


def describe(cmap: ConflictMap, severity: float | None = None) -> str:
    r"""Return a map as a table, highest score first.

    The columns are rank, layer and score. A measured map adds the rate, the mean cosine over all
    pairs, the layer's parameters, and the share of the shared parameters that the layers down to
    this one hold together.

    Example:
        >>> print("\n".join(describe(ConflictMap.load("nyuv2-mtan")).splitlines()[:4]))
        ImportedMap(nyuv2-mtan: 72 layers, severity -0.02), severity -0.02
        rank  layer                      score
           1  decoder_block_att.1.bn1    25646
           2  conv_block_dec.0.bn1       25118

    Args:
        cmap: The map.
        severity: The severity of the scores. An imported map defaults to its own.

    Raises:
        ValueError: The severity of a measured map is not given, or the map does not know it.
    """
    from tabulate import tabulate

    severity = first_severity((severity, cmap.severity), cmap)
    columns = _columns(cmap, severity)
    # Titles are an ordinary row, because tabulate pads headers.
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    alignment = [_ALIGNMENT.get(title, "right") for title in columns]
    table = tabulate(rows, tablefmt="plain", colalign=alignment, disable_numparse=True)
    return f"{cmap!r}, severity {severity}\n{table}"


def describe_groups(cmap: ConflictMap, layers: Sequence[str], severity: float, number: int | None = None) -> str:
    """Return the groups of tasks in some layers as a table.

    Args:
        cmap: A measured map.
        layers: The layers.
        severity: The severity at which foes part.
        number: The number of groups in each layer; ``None`` lets the severity decide.

    Raises:
        ValueError: As :meth:`recon.ConflictMap.groups`.

    Example:
        >>> import torch
        >>> from recon import ConflictAnalyzer
        >>> analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["a", "b", "c"])
        >>> gramian = torch.tensor([[1.0, -0.5, 0.25], [-0.5, 1.0, -0.25], [0.25, -0.25, 1.0]])
        >>> analyzer.observe(gramian.unsqueeze(0))
        >>> print(describe_groups(analyzer.conflict_map(), ["Linear"], severity=-0.1))
        layer   number  groups
        Linear       2  a, c | b
    """
    from tabulate import tabulate

    groups = {layer: cmap.groups(layer, severity, number) for layer in layers}
    rows = [[layer, str(len(own)), " | ".join(", ".join(group) for group in own)] for layer, own in groups.items()]
    alignment = ("left", "right", "left")
    return tabulate([["layer", "number", "groups"], *rows], tablefmt="plain", colalign=alignment, disable_numparse=True)


def _columns(cmap: ConflictMap, severity: float) -> dict[str, list[str]]:
    """Title -> the cells below it."""
    layers = cmap.top(len(cmap.layers), severity)
    scores = cmap.scores(severity)
    columns = {
        "rank": [str(rank) for rank in range(1, len(layers) + 1)],
        "layer": layers,
        "score": [str(scores[layer]) for layer in layers],
    }
    return columns | _measured_columns(cmap, layers, severity) if isinstance(cmap, MeasuredMap) else columns


def _measured_columns(cmap: MeasuredMap, layers: list[str], severity: float) -> dict[str, list[str]]:
    rates, cosines, parameters = cmap.rates(severity), cmap.layer_cosines, cmap.parameters
    cumulative = accumulate(parameters[layer] for layer in layers)
    total = max(sum(parameters.values()), 1)
    return {
        "rate": [f"{rates[layer]:.4f}" for layer in layers],
        "cosine": ["-" if math.isnan(cosines[layer]) else f"{cosines[layer]:+.3f}" for layer in layers],
        "parameters": [f"{parameters[layer]:,}" for layer in layers],
        "cumulative": [f"{part / total:.2%}" for part in cumulative],
    }
