"""A published map: a ranking of layers by their score at one severity."""

from collections.abc import Mapping
from typing import Any, Self

from recon.conflict.groups import Joins
from recon.conflict.map import ConflictMap
from recon.conflict.provenance import ASSUMED, as_json
from recon.conflict.record import named_layers
from recon.conflict.severity import severity_in_hundredths
from recon.files.reading import NUMBER, require, require_count
from recon.gradients.layers import number_of_layers


class ImportedMap(ConflictMap, kind="imported"):
    """A published map: the scores at one severity, without the number of observations.

    Example:
        >>> cmap = ConflictMap.load("multi-fashion-mnist-resnet18")
        >>> cmap
        ImportedMap(multi-fashion-mnist-resnet18: 41 layers, severity -0.1)
        >>> cmap.top(2, severity=-0.1)
        ['bn1', 'layer1.0.bn1']
    """

    severity: float

    def __init__(self, scores: Mapping[str, int], severity: float, provenance: Mapping[str, Any]) -> None:
        self.layers = tuple(scores)
        self.tasks = ()
        self.parameters = {}
        self.severity = severity_in_hundredths(severity) / 100
        self.provenance = as_json(provenance)
        self._scores = dict(scores)

    def scores(self, severity: float) -> dict[str, int]:
        if severity_in_hundredths(severity) / 100 != self.severity:
            raise ValueError(
                f"severity {severity} of a map imported at severity {self.severity}, which knows no other; "
                f"ask for {self.severity}, or search with a ConflictAnalyzer"
            )
        return dict(self._scores)

    def rates(self, severity: float) -> dict[str, float]:
        raise ValueError(
            f"no rates at severity {severity}: an imported map has scores without the number of observations; "
            "search with a ConflictAnalyzer"
        )

    def joins(self, layer: str) -> Joins:
        raise ValueError(
            f"no groups of tasks in layer {layer!r}: an imported map has scores without the cosines of task pairs; "
            "search with a ConflictAnalyzer"
        )

    @property
    def severity_is_assumed(self) -> bool:
        """Whether the severity of the scores is assumed, because it was not given."""
        return self.provenance.get("severity") == ASSUMED

    def __repr__(self) -> str:
        assumed = " (assumed)" if self.severity_is_assumed else ""
        source = self.provenance.get("source")
        return f"ImportedMap({source}: {number_of_layers(self.layers)}, severity {self.severity}{assumed})"

    def _record(self) -> dict[str, Any]:
        layers = [{"name": name, "score": score} for name, score in self._scores.items()]
        return {"severity": self.severity, "layers": layers}

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        scores = {}
        for name, layer in named_layers(record):
            where = f"layer {name!r}"
            scores[name] = require_count(require(layer, "score", (int,), where), f"'score' of {where}")
        severity = require(record, "severity", NUMBER, "the map")
        return cls(scores, severity, require(record, "provenance", (dict,), "the map"))
