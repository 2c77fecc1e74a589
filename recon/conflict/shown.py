"""The part of a conflict map that people look at: a picture, a data frame, a table in notebooks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recon.conflict.severity import DEFAULT_SEVERITY
from recon.errors import number_of
from recon.notebooks.table import bar, table
from recon.plugins import needs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SHOWN = 10
"""Layers that a notebook shows."""


class Shown(ABC):
    """The part of a conflict map that people look at.

    Attributes:
        layers: The layer names.
        parameters: The number of parameters of each layer; empty when imported.
        severity: The one severity at which the scores are known; None when they are known at every
            one.
    """

    layers: tuple[str, ...]
    parameters: dict[str, int]
    severity: float | None

    @abstractmethod
    def scores(self, severity: float) -> dict[str, int]:
        """Return the S-conflict score of each layer."""

    @abstractmethod
    def rates(self, severity: float) -> dict[str, float]:
        """Return the fraction of each layer's observed (step, pair) with cosine < ``severity``."""

    @abstractmethod
    def top(self, k: int, severity: float) -> list[str]:
        """Return the ``k`` layers of highest score."""

    def plot(self, severity: float | None = None, branched: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
        """Draw the conflict of each layer: its rate, or its score if the map is imported.

        :mod:`recon.plot` has the other pictures: cosines, pairs of tasks, maps beside each other.

        Args:
            severity: Severity S; by default the map's own, else -0.1.
            branched: Layers that are branched, which get a mark of their own.
            ax: Axes of matplotlib to draw on; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            ValueError: The map does not know the severity.

        Example:
            >>> import recon
            >>> axes = recon.ConflictMap.load("cityscapes-segnet").plot()
            >>> axes.get_yticklabels()[0].get_text()
            'decoder_block.0.bn1'
        """
        from recon.plot.axes import as_it_is
        from recon.plot.layers import conflict_by_layer

        axes = conflict_by_layer(self, self._asked(severity), [branched] if branched else (), ax=ax)
        axes.set_title(as_it_is(repr(self)), fontsize=9, wrap=True)
        return axes

    def to_frame(self, severity: float | None = None) -> "pd.DataFrame":
        """Return the map as a data frame of pandas, one row a layer in the map's order.

        Every map has the column ``score``. A measured map adds ``rate``, ``observations``, the mean
        ``cosine`` over all pairs, and ``parameters``. Each pair of tasks adds its mean cosine, such
        as ``cosine seg/depth``, and each task the mean norm of its gradient, such as ``norm seg``.

        Args:
            severity: Severity S of scores and rates; by default the map's own, else -0.1.

        Raises:
            ValueError: The map does not know the severity.
            PackageMissingError: pandas is not installed; the extra ``pandas`` brings it.

        Example:
            >>> import recon
            >>> frame = recon.ConflictMap.load("cityscapes-segnet").to_frame()
            >>> frame["score"].idxmax()
            'decoder_block.0.bn1'
        """
        with needs("pandas", extra="pandas"):
            import pandas as pd

        columns = {"score": self.scores(self._asked(severity)), **self._columns(self._asked(severity))}
        return pd.DataFrame(columns, index=pd.Index(self.layers, name="layer"))

    def _repr_html_(self) -> str:
        severity = self._asked(None)
        scores, top = self.scores(severity), self.top(min(_SHOWN, len(self.layers)), severity)
        highest = max(1, scores[top[0]])
        rows = [[layer, scores[layer], bar(scores[layer] / highest)] for layer in top]
        header = ["layer", f"score at S = {severity}", ""]
        more = len(self.layers) - len(top)
        return table(repr(self), header, rows, f"and {number_of(more, 'layer')} of lower score" if more else "")

    def _columns(self, severity: float) -> dict[str, dict[str, Any]]:
        """Title -> layer -> value, of columns beside the score."""
        return {}

    def _asked(self, severity: float | None) -> float:
        if severity is not None:
            return severity
        return DEFAULT_SEVERITY if self.severity is None else self.severity
