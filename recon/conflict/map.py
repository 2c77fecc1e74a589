"""The conflict map: how often the tasks fight in each shared layer, kept as a file with where it came from.

The S-conflict score of a layer (Shi et al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task
Learning", ICLR 2023) is the number of observed (step, task pair) whose gradients have a cosine strictly below the
severity S in that layer. A measured map keeps a cosine histogram per layer and task pair whose edges lie on a 0.01
grid, so it knows the scores at every S of that grid exactly; an imported map knows the scores at one S, as published.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from recon.conflict.provenance import ASSUMED, now
from recon.conflict.published_rankings import map_file
from recon.conflict.record import check_sealed, read_ranking, read_record, write_record
from recon.conflict.selection import check_number_of_layers
from recon.conflict.severity import DEFAULT_SEVERITY
from recon.errors import unknown_name
from recon.files.reading import read_object, require


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

    _kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["ConflictMap"]]] = {}

    def __init_subclass__(cls, *, kind: str, **options: Any) -> None:
        """Register what the file calls ``kind``."""
        super().__init_subclass__(**options)
        cls._kind = kind
        ConflictMap._kinds[kind] = cls

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
        """Return what the file holds, apart from format, version, kind, provenance and checksum."""

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
        write_record(Path(path), {"provenance": self.provenance, "kind": self._kind, **self._record()})

    @staticmethod
    def load(path: str | PathLike[str]) -> "ConflictMap":
        """Read a map that `save` wrote, or a ranking that was published with the paper.

        >>> ConflictMap.load("nyuv2-mtan").top(3, severity=-0.02)
        ['decoder_block_att.1.bn1', 'conv_block_dec.0.bn1', 'decoder_block_att.1.conv1']

        Args:
            path: The file, or the name of a published ranking, see `recon.conflict.published_rankings`.

        Raises:
            ValueError: The file is no conflict map, is of another version, or is damaged.
            FileNotFoundError: There is no such file.
        """
        path = map_file(path)
        record = read_record(path)
        try:
            kind = require(record, "kind", (str,), "the map")
            if kind not in ConflictMap._kinds:
                raise unknown_name("kind", kind, ConflictMap._kinds)
            conflict_map = ConflictMap._kinds[kind]._from_record(record)
            check_sealed(record)
        except ValueError as error:
            raise ValueError(f"{path} is a damaged conflict map: {error}; restore it or search again") from error
        return conflict_map

    @staticmethod
    def import_scores(path: str | PathLike[str], severity: float | None = DEFAULT_SEVERITY) -> "ConflictMap":
        """Read a published ranking, a JSON object ``{layer: score}`` in rank order.

        Args:
            path: The file.
            severity: The severity at which these scores were counted, the only one that the map can be asked for. None
                assumes `DEFAULT_SEVERITY`, and the map says that it is assumed.

        Raises:
            ValueError: The file is not such an object, or the severity is off the grid.
            FileNotFoundError: There is no such file.
        """
        if severity is None:
            return _import(Path(path), DEFAULT_SEVERITY, severity=ASSUMED)
        return _import(Path(path), severity)


def read_map(path: str | PathLike[str], severity: float | None) -> ConflictMap:
    """Read either kind of file: a saved map, or a published ranking ``{layer: score}``.

    Args:
        path: The file, or the name of a ranking that was published with the paper.
        severity: The severity at which a ranking was counted, as `ConflictMap.import_scores` takes it.

    Raises:
        ValueError: The file is neither, or is damaged.
        FileNotFoundError: There is no such file.
    """
    path = map_file(path)
    if "format" in read_object(path):
        return ConflictMap.load(path)
    return ConflictMap.import_scores(path, severity)


def _import(path: Path, at_severity: float, **provenance: str) -> ConflictMap:
    layers = [{"name": layer, "score": score} for layer, score in read_ranking(path).items()]
    source = {"source": path.name, "created": now(), **provenance}
    return ConflictMap._kinds["imported"]._from_record(
        {"severity": at_severity, "layers": layers, "provenance": source}
    )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
