"""The conflict map: how often the tasks fight in each shared layer, kept as a file with where it came from.

The S-conflict score of a layer (Shi et al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task
Learning", ICLR 2023) is the number of observed (step, task pair) whose gradients have a cosine strictly below the
severity S in that layer. A measured map keeps a cosine histogram per layer and task pair whose edges lie on a 0.01
grid, so it knows the scores at every S of that grid exactly; an imported map knows the scores at one S, as published.

The file is JSON, one layer a line:

    {"format": "recon-conflict-map", "version": 1, "kind": "measured",
     "provenance": {"network", "steps", "observed_steps", "every", "recon", "torch", "created", ...},
     "tasks": [K names],
     "layers": [{"name", "parameters",
                 "gradient_norms": [K means; null where the task had no gradient],
                 "pairs": [{"mean_cosine": null if never observed,
                            "first_bin": i,
                            "counts": [of the bin i/100 <= cosine < (i+1)/100, and those above it]}]}]}

    {"format": "recon-conflict-map", "version": 1, "kind": "imported", "severity": S, "provenance": {"source", ...},
     "layers": [{"name", "score"}]}

Layers are in forward order (imported: in the order of the file they came from), pairs in the order of
``itertools.combinations(tasks, 2)``. The outermost bins include the cosines that rounding puts beyond -1 and 1.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from recon.files import write_atomically
from recon.names import unknown_name
from recon.reading import NUMBER, count, field, read_object

FORMAT = "recon-conflict-map"
VERSION = 1

BIN_EDGES: tuple[float, ...] = tuple(i / 100 for i in range(-100, 101))
"""The 201 edges of the 200 histogram bins; bin b counts BIN_EDGES[b] <= cosine < BIN_EDGES[b + 1]."""

BINS = len(BIN_EDGES) - 1


def severity_in_hundredths(severity: float) -> int:
    """Return a severity on the 0.01 grid in (-1, 0] as a whole number of hundredths; up to 1e-9 off counts as on it."""
    nearest = 0.0 if math.isnan(severity) else min(max(severity, -0.99), 0.0)
    hundredths = round(nearest * 100)
    if not abs(severity - hundredths / 100) <= 1e-9:
        raise ValueError(f"severity {severity} is not on the 0.01 grid in (-1, 0]; nearest: {hundredths / 100}")
    return hundredths


def check_number_of_layers(k: int, layers: Sequence[str]) -> None:
    """Raise unless ``k`` of the layers can be selected."""
    if not 1 <= k <= len(layers):
        raise ValueError(f"k={k} layers of {len(layers)}; give a number from 1 to {len(layers)}")


class ConflictMap(ABC):
    """The conflict of each shared layer, from a search (`ConflictAnalyzer.conflict_map`) or a published file.

    Attributes:
        layers: The layer names, in forward order; of an imported map in the order of its file.
        tasks: The task names; empty when imported.
        parameters: The number of parameters of each layer; empty when imported.
        severity: The one severity at which the scores are known; None when they are known at every one.
        provenance: Where the map came from: network, dataset, steps, seed, versions, ...
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    parameters: dict[str, int]
    severity: float | None
    provenance: dict[str, Any]

    @abstractmethod
    def scores(self, severity: float) -> dict[str, int]:
        """Return the S-conflict score of each layer: its observed (step, pair) with cosine < ``severity``, strictly.

        Raises:
            ValueError: The severity is off the 0.01 grid or outside (-1, 0], or the map does not know it.
        """

    @abstractmethod
    def rates(self, severity: float) -> dict[str, float]:
        """Return the fraction of each layer's observed (step, pair) with cosine < ``severity``.

        A layer without any observation has the rate 0.0; `observations` tells it apart.

        Raises:
            ValueError: As `scores`; or the map is imported, so that the number of observations is not known.
        """

    @abstractmethod
    def _record(self) -> dict[str, Any]:
        """Return what the file holds, apart from format, version and provenance."""

    @classmethod
    @abstractmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        """Build the map that `_record` describes, or raise a ValueError that names what is wrong with it."""

    def top(self, k: int, severity: float) -> list[str]:
        """Return the ``k`` layers of highest score, highest first; ties in the order of `layers`."""
        check_number_of_layers(k, self.layers)
        scores = self.scores(severity)
        return sorted(self.layers, key=lambda layer: -scores[layer])[:k]

    def check_layers(self, layers: Iterable[str], network: str = "the network") -> None:
        """Raise a ValueError unless the map is of a network with just these shared layers.

        Args:
            layers: The shared layers of the network that the map is to be applied to.
            network: Its name, for the error.
        """
        layers = list(layers)
        absent = [layer for layer in self.layers if layer not in set(layers)]
        unscored = [layer for layer in layers if layer not in set(self.layers)]
        if not absent and not unscored:
            return
        parts = []
        if absent:
            parts += [f"{len(absent)} of its {len(self.layers)} layers are not in {network} ({_listed(absent)})"]
            parts += [str(unknown_name("layer", absent[0], layers, network))]
        if unscored:
            parts += [f"{len(unscored)} of {len(layers)} layers of {network} have no score in it ({_listed(unscored)})"]
        origin = self.provenance.get("network") or self.provenance.get("source") or "another network"
        raise ValueError(f"the conflict map of {origin} does not fit: {'; '.join(parts)}; use a map of this network")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the map to ``path``, making its folder; a crash leaves the file that was there, or the new one."""
        head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "provenance": self.provenance} | self._record()
        layers = head.pop("layers")
        lines = ",\n  ".join(json.dumps(layer, allow_nan=False) for layer in layers)
        fields = "".join(f" {json.dumps(key)}: {json.dumps(value, allow_nan=False)},\n" for key, value in head.items())
        write_atomically(Path(path), f'{{\n{fields} "layers": [\n  {lines}\n ]\n}}\n')

    @staticmethod
    def load(path: str | PathLike[str]) -> "ConflictMap":
        """Read a map that `save` wrote.

        Raises:
            ValueError: The file is no conflict map, is of another version, or is damaged.
            FileNotFoundError: There is no such file.
        """
        record = read_object(Path(path))
        if record.get("format") != FORMAT:
            raise ValueError(
                f"{path} is no conflict map: its 'format' is {record.get('format')!r}, not {FORMAT!r}; "
                "read a published file of {layer: score} with ConflictMap.import_scores"
            )
        if record.get("version") != VERSION:
            raise ValueError(
                f"{path} is a conflict map of version {record.get('version')!r}, and this recon reads version "
                f"{VERSION}; read it with the recon that wrote it, or search again"
            )
        kinds: dict[Any, type[ConflictMap]] = {"measured": MeasuredMap, "imported": ImportedMap}
        try:
            kind = field(record, "kind", (str,), "the map")
            if kind not in kinds:
                raise unknown_name("kind", kind, kinds)
            return kinds[kind]._from_record(record)
        except ValueError as error:
            raise ValueError(f"{path} is a damaged conflict map: {error}; restore it or search again") from error

    @staticmethod
    def import_scores(path: str | PathLike[str], severity: float = -0.1) -> "ConflictMap":
        """Read a published ranking, a JSON object ``{layer: score}`` in rank order.

        Args:
            path: The file.
            severity: The severity at which these scores were counted, the only one that the map can be asked for.

        Raises:
            ValueError: The file is not such an object, or the severity is off the grid.
            FileNotFoundError: There is no such file.
        """
        record = read_object(Path(path))
        if record.get("format") == FORMAT:
            raise ValueError(f"{path} is a saved conflict map, not a published one; read it with ConflictMap.load")
        try:
            scores = {layer: count(score, f"the score of layer {layer!r}") for layer, score in record.items()}
            if not scores:
                raise ValueError("it has no layers")
        except ValueError as error:
            raise ValueError(f"cannot import {path}: {error}; give a JSON object {{layer: score}}") from error
        return ImportedMap(scores, severity, {"source": Path(path).name, "created": now()})


def read_map(path: str | PathLike[str], severity: float) -> ConflictMap:
    """Read either kind of file: a saved map, or a published ranking.

    Args:
        path: The file.
        severity: The severity at which a published ranking was counted, which its file does not say.

    Raises:
        ValueError: The file is neither, or is damaged.
        FileNotFoundError: There is no such file.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no conflict map {path}; the path is relative to {Path.cwd()}")
    if "format" in read_object(Path(path)):
        return ConflictMap.load(path)
    return ConflictMap.import_scores(path, severity)


class MeasuredMap(ConflictMap):
    """The map of a search: scores and rates at every severity on the grid.

    Attributes:
        pairs: The P task pairs, in the order of ``itertools.combinations(tasks, 2)``.
        histogram: (L, P, 200) int64, the observed steps by cosine, see `BIN_EDGES`.
        mean_cosine: (L, P) float64, NaN where a pair was never observed.
        gradient_norms: (L, K) float64, mean norm of each task's gradient over the steps in which it had one, else NaN.
    """

    def __init__(
        self,
        parameters: Mapping[str, int],
        tasks: Sequence[str],
        histogram: Tensor,
        mean_cosine: Tensor,
        gradient_norms: Tensor,
        provenance: Mapping[str, Any],
    ) -> None:
        self.layers = tuple(parameters)
        self.tasks = tuple(tasks)
        self.pairs = tuple(combinations(self.tasks, 2))
        self.parameters = dict(parameters)
        self.severity = None
        self.histogram = histogram.cpu()
        self.mean_cosine = mean_cosine.cpu()
        self.gradient_norms = gradient_norms.cpu()
        self.provenance = _as_json(provenance)

    @property
    def observations(self) -> dict[str, int]:
        """The number of observed (step, pair) of each layer; a pair with a zero gradient in that layer is not one."""
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

    def __repr__(self) -> str:
        return (
            f"MeasuredMap({self.provenance.get('network')}: {len(self.layers)} layers, tasks {', '.join(self.tasks)}, "
            f"{self.provenance.get('observed_steps')} observed steps)"
        )

    def _record(self) -> dict[str, Any]:
        return {
            "kind": "measured",
            "tasks": list(self.tasks),
            "layers": [
                {
                    "name": name,
                    "parameters": parameters,
                    "gradient_norms": [_null_for_nan(norm) for norm in norms],
                    "pairs": [_pair_record(*pair) for pair in zip(cosines, histograms, strict=True)],
                }
                for (name, parameters), norms, cosines, histograms in zip(
                    self.parameters.items(),
                    self.gradient_norms.tolist(),
                    self.mean_cosine.tolist(),
                    self.histogram.tolist(),
                    strict=True,
                )
            ],
        }

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        tasks = field(record, "tasks", (list,), "the map")
        if len(tasks) < 2 or any(type(task) is not str for task in tasks) or len(set(tasks)) < len(tasks):
            raise ValueError(f"'tasks' is {tasks!r}, not two or more different names")
        parameters: dict[str, int] = {}
        norms, cosines, histograms = [], [], []
        for name, layer in _named_layers(record):
            where = f"layer {name!r}"
            parameters[name] = count(field(layer, "parameters", (int,), where), f"'parameters' of {where}")
            layer_norms = field(layer, "gradient_norms", (list,), where)
            pairs = field(layer, "pairs", (list,), where)
            if len(layer_norms) != len(tasks) or len(pairs) != math.comb(len(tasks), 2):
                raise ValueError(f"{where} has {len(layer_norms)} norms and {len(pairs)} pairs for {len(tasks)} tasks")
            norms.append([_read_mean(norm, 0, math.inf, f"a gradient norm of {where}") for norm in layer_norms])
            read = [_read_pair(pair, f"a pair of {where}") for pair in pairs]
            cosines.append([cosine for cosine, _ in read])
            histograms.append([histogram for _, histogram in read])
        return cls(
            parameters,
            tasks,
            torch.tensor(histograms),
            torch.tensor(cosines, dtype=torch.float64),
            torch.tensor(norms, dtype=torch.float64),
            field(record, "provenance", (dict,), "the map"),
        )


class ImportedMap(ConflictMap):
    """A published map: the scores at one severity, and nothing else."""

    severity: float

    def __init__(self, scores: Mapping[str, int], severity: float, provenance: Mapping[str, Any]) -> None:
        self.layers = tuple(scores)
        self.tasks = ()
        self.parameters = {}
        self.severity = severity_in_hundredths(severity) / 100
        self.provenance = _as_json(provenance)
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

    def __repr__(self) -> str:
        return f"ImportedMap({self.provenance.get('source')}: {len(self.layers)} layers, severity {self.severity})"

    def _record(self) -> dict[str, Any]:
        layers = [{"name": name, "score": score} for name, score in self._scores.items()]
        return {"kind": "imported", "severity": self.severity, "layers": layers}

    @classmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        scores = {}
        for name, layer in _named_layers(record):
            where = f"layer {name!r}"
            scores[name] = count(field(layer, "score", (int,), where), f"'score' of {where}")
        severity = field(record, "severity", NUMBER, "the map")
        return cls(scores, severity, field(record, "provenance", (dict,), "the map"))


def now() -> str:
    """Return the time as provenance states it: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _pair_record(mean_cosine: float, histogram: list[int]) -> dict[str, Any]:
    filled = [b for b, number in enumerate(histogram) if number]
    first, last = (filled[0], filled[-1]) if filled else (100, 99)
    return {
        "mean_cosine": _null_for_nan(mean_cosine),
        "first_bin": first - 100,
        "counts": histogram[first : last + 1],
    }


def _read_pair(pair: Any, where: str) -> tuple[float, list[int]]:
    first = field(pair, "first_bin", (int,), where) + 100
    counts = [count(number, f"a histogram bin of {where}") for number in field(pair, "counts", (list,), where)]
    if first < 0 or first + len(counts) > BINS:
        raise ValueError(f"the histogram of {where} has {len(counts)} bins from {first - 100}, beyond -100 to 99")
    mean = _read_mean(field(pair, "mean_cosine", (*NUMBER, type(None)), where), -1, 1, f"'mean_cosine' of {where}")
    if math.isnan(mean) == any(counts):
        raise ValueError(f"{where} has {sum(counts)} observations and the mean cosine {mean}")
    return mean, [0] * first + counts + [0] * (BINS - first - len(counts))


def _read_mean(value: Any, low: float, high: float, what: str) -> float:
    if value is None:
        return math.nan
    if type(value) not in NUMBER or not low <= value <= high or math.isinf(value):
        raise ValueError(f"{what} is {value!r}, not a number from {low} to {high}")
    return float(value)


def _named_layers(record: dict[str, Any]) -> list[tuple[str, Any]]:
    layers = field(record, "layers", (list,), "the map")
    names = [field(layer, "name", (str,), f"layer number {number}") for number, layer in enumerate(layers)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"it has {len(names)} layers with {len(set(names))} different names")
    return list(zip(names, layers, strict=True))


def _null_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _as_json(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return provenance as it will be read back, or raise now rather than when the map is saved."""
    read_back = {}
    for key, value in provenance.items():
        try:
            read_back[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"provenance {key}={value!r} is not JSON ({error}); give text or numbers") from error
    return read_back


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
