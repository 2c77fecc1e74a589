"""The conflict map: how often the tasks conflict in each shared layer, and where the map came from.

The S-conflict score of a layer (Shi et al., "Recon: Reducing Conflicting Gradients from the Root
for Multi-Task Learning", ICLR 2023) is the number of observed (step, task pair) whose gradients
have a cosine strictly below the severity S in that layer.

A measured map keeps a cosine histogram per layer and task pair. The edges of the bins lie on a 0.01
grid, so it knows the scores at every S of that grid exactly. An imported map knows the scores at
one S, as published.
"""

from abc import abstractmethod
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from recon.conflict.groups import TaskGroups
from recon.conflict.provenance import ASSUMED, now
from recon.conflict.published_rankings import map_file
from recon.conflict.ranking import top_layers
from recon.conflict.record import check_sealed, read_ranking, read_record, write_record
from recon.conflict.selecting import Selecting
from recon.conflict.severity import DEFAULT_SEVERITY
from recon.conflict.shown import Shown
from recon.errors import unknown_name
from recon.files.reading import read_object, require


class ConflictMap(TaskGroups, Selecting, Shown):
    """The conflict of each shared layer, from a search or a published file.

    A search makes its map by :meth:`recon.ConflictAnalyzer.conflict_map`.

    Attributes:
        layers: The layer names, in forward order; the file's order in an imported map.
        tasks: The task names; empty when imported.
        parameters: The number of parameters of each layer; empty when imported.
        severity: The one severity at which the scores are known; None when they are known at every
            one.
        provenance: Where the map came from: network, dataset, steps, seed, versions, ...

    Example:
        >>> import recon
        >>> cmap = recon.ConflictMap.load("cityscapes-segnet")
        >>> cmap.top(2, severity=0.0)
        ['decoder_block.0.bn1', 'conv_block_dec.1.bn1']
        >>> cmap.provenance["source"]
        'cityscapes-segnet'
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    parameters: dict[str, int]
    severity: float | None
    provenance: dict[str, Any]

    _kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["ConflictMap"]]] = {}

    def __init_subclass__(cls, *, kind: str, **options: Any) -> None:
        """Register the kind of map that a file calls ``kind``."""
        super().__init_subclass__(**options)
        cls._kind = kind
        ConflictMap._kinds[kind] = cls

    @abstractmethod
    def scores(self, severity: float) -> dict[str, int]:
        """Return the S-conflict score of each layer.

        The score is the number of observed (step, pair) with cosine < ``severity``, strictly.

        Raises:
            ValueError: The severity is off the 0.01 grid or outside (-1, 0], or the map does not
                know it.

        Example:
            >>> ConflictMap.load("multi-fashion-mnist-resnet18").scores(severity=-0.1)["conv1"]
            1944
        """

    @abstractmethod
    def rates(self, severity: float) -> dict[str, float]:
        """Return the fraction of each layer's observed (step, pair) with cosine < ``severity``.

        A layer without any observation has the rate 0.0; ``observations`` tells it apart.

        Raises:
            ValueError: As in :meth:`scores`; or the map is imported and has no number of
                observations.

        Example:
            >>> import torch
            >>> from recon import ConflictAnalyzer
            >>> analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["seg", "depth"])
            >>> for product in (-0.5, 0.5):  # of two unit gradients
            ...     analyzer.observe(torch.tensor([[[1.0, product], [product, 1.0]]]))
            >>> analyzer.conflict_map().rates(severity=-0.1)
            {'Linear': 0.5}
        """

    @abstractmethod
    def _record(self) -> dict[str, Any]:
        """Return the content of the file without format, version, kind, provenance and checksum."""

    @classmethod
    @abstractmethod
    def _from_record(cls, record: dict[str, Any]) -> Self:
        """Build the map from its record, or raise a ValueError that names the fault."""

    def top(self, k: int, severity: float) -> list[str]:
        """Return the ``k`` layers of highest score, highest first; ties in the order of ``layers``.

        Args:
            k: The number of layers.
            severity: The severity of the scores.

        Raises:
            ValueError: ``k`` is not from 1 to the number of layers, or the map does not know the
                severity.

        Example:
            >>> ConflictMap.load("multi-fashion-mnist-resnet18").top(3, severity=-0.1)
            ['bn1', 'layer1.0.bn1', 'layer1.1.bn1']
        """
        scores = self.scores(severity)
        return top_layers({layer: scores[layer] for layer in self.layers}, k)

    def check_layers(self, layers: Iterable[str], network: str = "the network") -> None:
        """Raise a ValueError unless a network has just the layers of this map.

        Args:
            layers: The shared layers of the network to which the map is to be applied.
            network: Name of the network, for the error.

        Example:
            >>> from recon import ConflictMap
            >>> cmap = ConflictMap.load("nyuv2-mtan")
            >>> cmap.check_layers(cmap.layers)  # passes
        """
        layers = list(layers)
        absent = [layer for layer in self.layers if layer not in set(layers)]
        unscored = [layer for layer in layers if layer not in set(self.layers)]
        if not absent and not unscored:
            return
        parts = []
        if absent:
            parts += [f"{network} lacks {len(absent)} of its {len(self.layers)} layers ({_listed(absent)})"]
            parts += [str(unknown_name("layer", absent[0], layers, network))]
        if unscored:
            parts += [f"it has no score of {len(unscored)} of {len(layers)} layers of {network} ({_listed(unscored)})"]
        origin = self.provenance.get("network") or self.provenance.get("source") or "another network"
        raise ValueError(f"the conflict map of {origin} does not fit: {'; '.join(parts)}; use a map of this network")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the map to ``path``, and make its folder.

        A crash leaves the old file or the new one, never a part.

        Args:
            path: The file.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> cmap = ConflictMap.load("nyuv2-mtan")
            >>> with TemporaryDirectory() as folder:
            ...     cmap.save(Path(folder) / "map.json")
            ...     ConflictMap.load(Path(folder) / "map.json")
            ImportedMap(nyuv2-mtan: 72 layers, severity -0.02)
        """
        write_record(Path(path), {"provenance": self.provenance, "kind": self._kind, **self._record()})

    @staticmethod
    def load(path: str | PathLike[str]) -> "ConflictMap":
        """Read a map that :meth:`save` wrote, or a ranking that was published with the paper.

        Args:
            path: The file, or the name of a published ranking, see
                :func:`recon.conflict.published_rankings`.

        Raises:
            ValueError: The file is no conflict map, has another version, or is damaged.
            FileNotFoundError: There is no such file.

        Example:
            >>> ConflictMap.load("nyuv2-mtan").top(3, severity=-0.02)
            ['decoder_block_att.1.bn1', 'conv_block_dec.0.bn1', 'decoder_block_att.1.conv1']
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
            severity: The severity at which these scores were counted, the only one that the map
                knows. None assumes ``DEFAULT_SEVERITY``, and the map says that it is assumed.

        Raises:
            ValueError: The file is not such an object, or the severity is off the grid.
            FileNotFoundError: There is no such file.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder:
            ...     path = Path(folder) / "scores.json"
            ...     _ = path.write_text('{"conv1": 120, "fc": 7}')
            ...     ConflictMap.import_scores(path, severity=-0.1).scores(-0.1)
            {'conv1': 120, 'fc': 7}
        """
        if severity is None:
            return _import(Path(path), DEFAULT_SEVERITY, severity=ASSUMED)
        return _import(Path(path), severity)


def read_map(path: str | PathLike[str], severity: float | None) -> ConflictMap:
    """Read either kind of file: a saved map, or a published ranking ``{layer: score}``.

    Args:
        path: The file, or the name of a ranking that was published with the paper.
        severity: The severity at which a ranking was counted, as :meth:`ConflictMap.import_scores`
            takes it.

    Raises:
        ValueError: The file is neither, or is damaged.
        FileNotFoundError: There is no such file.

    Example:
        >>> read_map("nyuv2-mtan", severity=None)
        ImportedMap(nyuv2-mtan: 72 layers, severity -0.02)
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
