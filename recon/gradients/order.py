"""The order of a backward: where it reaches each leaf, and the edges that all its paths cross."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from recon.gradients.graph import refuse_hidden_leaves


@dataclass(frozen=True)
class Reach:
    """The part of a backward that gives a leaf its gradient.

    Attributes:
        leaf: A leaf of the graph, such as a parameter.
        first: Position of the first operation that passes it a gradient.
        last: Position of the last one; the gradient is then complete.
    """

    leaf: Tensor
    first: int
    last: int


@dataclass(frozen=True)
class Bottleneck:
    """An edge that all paths from the losses to later leaves cross.

    A gradient at this edge is all that the later part of a backward needs.

    Attributes:
        position: Position of the first operation behind it.
        edge: The edge itself, which ``torch.autograd.grad`` takes as an input and as an output.
    """

    position: int
    edge: GradientEdge


@dataclass(frozen=True)
class BackwardOrder:
    """One order in which a backward of several losses can run.

    Attributes:
        length: Number of operations; positions count them from 0.
        reaches: The leaves, in the order in which their gradients are complete.
        bottlenecks: The bottlenecks, from the losses to the leaves.
    """

    length: int
    reaches: list[Reach]
    bottlenecks: list[Bottleneck]


def backward_order(losses: Sequence[Tensor]) -> BackwardOrder:
    """The order of a backward of all losses together.

    Args:
        losses: Scalars with a graph.

    Returns:
        The order of the union of their graphs.

    Raises:
        ValueError: The network is checkpointed in a way that hides parameters from the graph.

    Example:
        >>> import torch
        >>> first, second = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> features = (first * 2).sin()
        >>> order = backward_order([(features * second).sum(), features.sum()])
        >>> [reach.leaf is leaf for reach, leaf in zip(order.reaches, [second, first])]
        [True, True]
        >>> [bottleneck.edge.node.name() for bottleneck in order.bottlenecks]
        ['SinBackward0', 'MulBackward0']
    """
    roots = [(edge.node, edge.output_nr) for edge in map(get_gradient_edge, losses)]
    edges = {node: [edge for edge in node.next_functions if edge[0] is not None] for node in _nodes(roots)}
    coming = dict.fromkeys(edges, 0)
    for node, _ in (edge for out in (roots, *edges.values()) for edge in out):
        coming[node] += 1
    return _Sweep(coming).along(roots, edges)


class _Sweep:
    """A pass over the operations, which keeps the edges between those before it and those behind.

    Args:
        coming: Node -> number of edges into it.
    """

    def __init__(self, coming: dict[Any, int]) -> None:
        self._coming = coming
        self._open: dict[Any, set[int]] = {}  # operations ahead -> their inputs with a gradient
        self._partial: set[Any] = set()  # leaves with a part of their gradient
        self._reaches: dict[Any, Reach] = {}

    def along(self, roots: list[Any], edges: dict[Any, list[Any]]) -> BackwardOrder:
        operations = [node for node in edges if not _is_leaf(node)]
        bottlenecks = []
        self._cross(roots, 0)
        for position, node in enumerate(operations):
            if self._open.keys() == {node} and len(self._open[node]) == 1 and not self._partial:
                (number,) = self._open[node]
                bottlenecks.append(Bottleneck(position, GradientEdge(node, number)))
            del self._open[node]
            self._cross(edges[node], position)
        reaches = sorted(self._reaches.values(), key=lambda reach: reach.last)
        return BackwardOrder(len(operations), reaches, bottlenecks)

    def _cross(self, edges: list[Any], position: int) -> None:
        for node, number in edges:
            self._coming[node] -= 1
            if not _is_leaf(node):
                self._open.setdefault(node, set()).add(number)
                continue
            first = self._reaches[node].first if node in self._reaches else position
            self._reaches[node] = Reach(node.variable, first, position)
            (self._partial.add if self._coming[node] else self._partial.discard)(node)


def _nodes(roots: list[Any]) -> Iterator[Any]:
    """The nodes of a graph, each one after all nodes that pass it a gradient."""
    seen: set[Any] = set()
    finished = []
    waiting: list[tuple[Any, Iterator[Any]]] = [(None, iter(roots))]
    while waiting:
        following = next((n for n, _ in waiting[-1][1] if n is not None and n not in seen), None)
        if following is None:
            finished.append(waiting.pop()[0])
            continue
        refuse_hidden_leaves(following)
        seen.add(following)
        waiting.append((following, iter(following.next_functions)))
    return reversed(finished[:-1])


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "variable")
