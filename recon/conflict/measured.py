"""The map of a search: a histogram of cosines for each layer and task pair."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from recon.conflict.groups import Joins, check_layer
from recon.conflict.map import ConflictMap
from recon.conflict.pairs import Pairs
from recon.conflict.provenance import as_json
from recon.conflict.record import named_layers
from recon.conflict.severity import BINS, severity_in_hundredths
from recon.conflict.stretches import Stretches
from recon.errors import number_of
from recon.files.reading import NUMBER, require, require_count
from recon.gradients.layers import number_of_layers


class MeasuredMap(ConflictMap, kind="measured"):
    """The map of a search: scores and rates at every severity on the grid.

    Attributes:
        pairs: The P task pairs, in the order of ``itertools.combinations(tasks, 2)``.
        histogram: (L, P, 200) int64, the observed steps by cosine, see ``BIN_EDGES``.
        mean_cosine: (L, P) float64, NaN where a pair was never observed.
        gradient_norms: (L, K) float64, the mean norm of each task's gradient over the steps in
            which it had one, else NaN.
        stretches: The conflicts in stretches of steps (:mod:`recon.conflict.stretches`); ``None``
            in maps of older versions.

    Example:
        >>> import torch
        >>> from recon import ConflictAnalyzer
        >>> analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["seg", "depth"])
        >>> analyzer.observe(torch.tensor([[[1.0, -0.5], [-0.5, 1.0]]]))  # cosine -0.5
        >>> cmap = analyzer.conflict_map()
        >>> cmap.scores(severity=-0.49), cmap.scores(severity=-0.5)
        ({'Linear': 1}, {'Linear': 0})
        >>> cmap.layer_cosines
        {'Linear': -0.5}
    """

    def __init__(
        self,
        parameters: Mapping[str, int],
        tasks: Sequence[str],
        histogram: Tensor,
        mean_cosine: Tensor,
        gradient_norms: Tensor,
        provenance: Mapping[str, Any],
        stretches: Stretches | None = None,
    ) -> None:
        self.layers = tuple(parameters)
        self.tasks = tuple(tasks)
        self.pairs = tuple(combinations(self.tasks, 2))
        self.parameters = dict(parameters)
        self.severity = None
        self.histogram = histogram.cpu()
        self.mean_cosine = mean_cosine.cpu()
        self.gradient_norms = gradient_norms.cpu()
        self.provenance = as_json(provenance)
        self.stretches = stretches

    @property
    def observations(self) -> dict[str, int]:
        """The number of observed (step, pair) of each layer.

        A pair with a zero gradient in that layer is not observed.
        """
        return dict(zip(self.layers, self.histogram.sum(dim=(1, 2)).tolist(), strict=True))

    @property
    def layer_cosines(self) -> dict[str, float]:
        """The mean cosine of each layer over all its observed (step, pair); NaN without any."""
        counts = self.histogram.sum(dim=2)
        sums = (self.mean_cosine.nan_to_num() * counts).sum(dim=1)
        return dict(zip(self.layers, (sums / counts.sum(dim=1)).tolist(), strict=True))

    def scores(self, severity: float) -> dict[str, int]:
        below = severity_in_hundredths(severity) + 100
        return dict(zip(self.layers, self.histogram[:, :, :below].sum(dim=(1, 2)).tolist(), strict=True))

    def rates(self, severity: float) -> dict[str, float]:
        observations = self.observations
        return {layer: score / max(observations[layer], 1) for layer, score in self.scores(severity).items()}

    def joins(self, layer: str) -> Joins:
        check_layer(layer, self.layers)
        return Joins.of(self.tasks, self.mean_cosine[self.layers.index(layer)].numpy())

    def _columns(self, severity: float) -> dict[str, dict[str, Any]]:
        def by_layer(values: Tensor) -> dict[str, float]:
            return dict(zip(self.layers, values.tolist(), strict=True))

        return {
            "rate": self.rates(severity),
            "observations": self.observations,
            "cosine": self.layer_cosines,
            "parameters": self.parameters,
            **{f"cosine {a}/{b}": by_layer(self.mean_cosine[:, place]) for place, (a, b) in enumerate(self.pairs)},
            **{f"norm {task}": by_layer(self.gradient_norms[:, place]) for place, task in enumerate(self.tasks)},
        }

    def __repr__(self) -> str:
        return (
            f"MeasuredMap({self.provenance.get('network')}: {number_of_layers(self.layers)}, "
            f"tasks {', '.join(self.tasks)}, {number_of(self.provenance.get('observed_steps', 0), 'observed step')})"
        )

    def _record(self) -> dict[str, Any]:
        norms = self.gradient_norms.tolist()
        return {
            "tasks": list(self.tasks),
            **({} if self.stretches is None else {"stretches": self.stretches.record()}),
            "layers": [
                {
                    "name": name,
                    "parameters": parameters,
                    "gradient_norms": [None if math.isnan(norm) else norm for norm in norms[layer]],
                    "pairs": Pairs.of(self.mean_cosine[layer].numpy(), self.histogram[layer].numpy()).record(),
                }
                for layer, (name, parameters) in enumerate(self.parameters.items())
            ],
        }

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        tasks = require(record, "tasks", (list,), "the map")
        if len(tasks) < 2 or any(type(task) is not str for task in tasks) or len(set(tasks)) < len(tasks):
            raise ValueError(f"'tasks' is {tasks!r}, not two or more different names")
        provenance = require(record, "provenance", (dict,), "the map")
        parameters: dict[str, int] = {}
        norms: list[list[float]] = []
        pairs: list[Pairs] = []
        for name, layer in named_layers(record):
            where = f"layer {name!r}"
            parameters[name] = require_count(require(layer, "parameters", (int,), where), f"'parameters' of {where}")
            norms.append(_read_norms(layer, len(tasks), where))
            pairs.append(_read_pairs(layer, len(tasks), where))
            _check_observations(pairs[-1], provenance, where)
        histogram = torch.zeros(len(pairs), math.comb(len(tasks), 2), BINS, dtype=torch.int64)
        for own, layer_pairs in zip(histogram.numpy(), pairs, strict=True):
            own.reshape(-1)[layer_pairs.filled] = layer_pairs.counts
        return cls(
            parameters,
            tasks,
            histogram,
            torch.from_numpy(np.stack([layer_pairs.mean_cosines for layer_pairs in pairs])),
            torch.tensor(norms, dtype=torch.float64),
            provenance,
            _read_stretches(record, provenance, histogram),
        )


def _read_norms(layer: dict[str, Any], tasks: int, where: str) -> list[float]:
    norms = require(layer, "gradient_norms", (list,), where)
    pairs = require(layer, "pairs", (list, dict), where)
    if len(norms) != tasks or (type(pairs) is list and len(pairs) != math.comb(tasks, 2)):
        raise ValueError(
            f"{where} has {number_of(len(norms), 'norm')} and {number_of(len(pairs), 'pair')} for {tasks} tasks"
        )
    for norm in norms:
        if norm is not None and (type(norm) not in NUMBER or not 0 <= norm < math.inf):
            raise ValueError(f"a gradient norm of {where} is {norm!r}, not a number from 0 up")
    return [math.nan if norm is None else float(norm) for norm in norms]


def _read_pairs(layer: dict[str, Any], tasks: int, where: str) -> Pairs:
    return Pairs.read(require(layer, "pairs", (list, dict), where), math.comb(tasks, 2), where)


def _read_stretches(record: dict[str, Any], provenance: dict[str, Any], histogram: Tensor) -> Stretches | None:
    if "stretches" not in record:
        return None
    stretches = Stretches.read(require(record, "stretches", (dict,), "the map"), histogram.numpy())
    if sum(stretches.steps) > provenance.get("observed_steps", math.inf):
        raise ValueError(
            f"its stretches have {sum(stretches.steps)} steps of {provenance['observed_steps']} observed ones"
        )
    return stretches


def _check_observations(pairs: Pairs, provenance: dict[str, Any], where: str) -> None:
    """Raise a ValueError if a pair was observed in more steps than the provenance states.

    A map without that number passes.
    """
    steps = provenance.get("observed_steps")
    if steps is None:
        return
    steps = require_count(steps, "'observed_steps' of the provenance")
    most = int(pairs.observations.max())
    if most > steps:
        raise ValueError(
            f"a pair of {where} has {number_of(most, 'observation')} in {number_of(steps, 'observed step')}"
        )
