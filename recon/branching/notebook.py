"""A branched network in notebooks: its layers from the input on, each shared or with its copies."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from html import escape

from torch import nn

from recon.gradients.layers import all_layers

_SHARED, _COPY = "background:#e4e4e4", "background:#0072b2;color:white"


class InNotebooks(ABC):
    """The part of a branched network that notebooks show.

    Attributes:
        groups: Branched layer -> the groups of tasks that share a copy.
        tasks: The tasks.
    """

    groups: Mapping[str, Sequence[Sequence[str]]]
    tasks: tuple[str, ...]

    @abstractmethod
    def _network(self, task: str) -> nn.Module:
        """The network of one task."""

    def _repr_html_(self) -> str:
        layers = all_layers(self._network(self.tasks[0]))
        rows = "".join(
            f'<tr><td style="text-align:left">{escape(layer)}</td>{self._cells(layer)}</tr>' for layer in layers
        )
        heads = "".join(f"<th>{escape(task)}</th>" for task in self.tasks)
        head = "".join(f"<p>{escape(line)}</p>" for line in repr(self).splitlines()[:1])
        table = (
            f'<table><thead><tr><th style="text-align:left">layer</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        )
        return f'<div>{head}<div style="max-height:24em;overflow:auto">{table}</div></div>'

    def _cells(self, layer: str) -> str:
        """One cell across all tasks if they share the layer, else one for each copy or its name."""
        if layer not in self.groups:
            return f'<td colspan="{len(self.tasks)}" style="{_SHARED};text-align:center">shared</td>'
        keeper = {task: group[0] for group in self.groups[layer] for task in group}
        named = {task: "own copy" if keeper[task] == task else f"copy of {keeper[task]}" for task in self.tasks}
        return "".join(f'<td style="{_COPY};text-align:center">{escape(named[task])}</td>' for task in self.tasks)
