"""Autograd's graph: the leaves that a loss reaches, and the effect of a backward on a leaf."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def reached_leaves(loss: Tensor, short_of: Tensor | None = None) -> list[Tensor]:
    """The leaves, such as parameters, that a backward of a loss would give a gradient, each once.

    Args:
        loss: A tensor with a graph.
        short_of: A tensor within that graph; leaves that the loss reaches only through it are left
            out.

    Raises:
        ValueError: The network is checkpointed in a way that hides parameters from the graph.

    Example:
        >>> weight, bias = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
        >>> features = weight * 3
        >>> loss = (features + bias).sum()
        >>> len(reached_leaves(loss)), reached_leaves(loss, short_of=features)[0] is bias
        (2, True)
    """
    leaves = []
    for node in _nodes(loss, short_of):
        refuse_hidden_leaves(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
    return leaves


def leaves_in_common(losses: Sequence[Tensor]) -> dict[Tensor, list[int]]:
    """The leaves that several losses reach, with the indices of these losses.

    Leaves of a compiled function are left out: it is one node of the graph, from which every loss
    reaches them all.
    """
    reached: dict[Tensor, list[int]] = {}
    for index, loss in enumerate(losses):
        nodes = list(_nodes(loss))
        compiled = {inner for node in nodes if _is_compiled(node) for inner, _ in node.next_functions}
        for node in nodes:
            if hasattr(node, "variable") and node not in compiled:
                reached.setdefault(node.variable, []).append(index)
    return {leaf: indices for leaf, indices in reached.items() if len(indices) > 1}


def reaches(loss: Tensor, tensor: Tensor) -> bool:
    """Whether a loss depends on a tensor within its graph.

    Example:
        >>> features = torch.ones(2, requires_grad=True) * 3
        >>> reaches(features.sum(), features), reaches((features + 1).sum(), features * 1)
        (True, False)
    """
    return loss is tensor or any(node is tensor.grad_fn for node in _nodes(loss))


def computes_in_half(loss: Tensor) -> bool:
    """Whether some operation of a loss runs in float16; also if a compiled function hides them."""
    dtypes = (entry.dtype for node in _nodes(loss) for entry in node._input_metadata)
    return any(dtype == torch.float16 for dtype in dtypes) or any(map(_is_compiled, _nodes(loss)))


def _nodes(loss: Tensor, short_of: Tensor | None = None) -> Iterator[Any]:
    end = None if short_of is None else (short_of.grad_fn, short_of.output_nr)
    seen = set()
    waiting: list[tuple[Any, int]] = [(loss.grad_fn, loss.output_nr)]
    while waiting:
        edge = waiting.pop()
        node = edge[0]
        if node is None or node in seen or edge == end:
            continue
        seen.add(node)
        yield node
        waiting.extend(node.next_functions)


def refuse_hidden_leaves(node: Any) -> None:
    """Refuse a node of a graph that differentiates parameters which the graph does not show.

    Raises:
        ValueError: It is a checkpoint with ``use_reentrant=True``.
    """
    if node.name() == "CheckpointFunctionBackward":
        raise ValueError(
            "the graph does not show the parameters that torch.utils.checkpoint holds with use_reentrant=True; "
            "give it use_reentrant=False"
        )


def _is_compiled(node: Any) -> bool:
    return bool(node.name().startswith("CompiledFunction"))


def accumulate(leaf: Tensor, gradient: Tensor | None) -> None:
    """Add a gradient to ``.grad`` of a leaf, as ``backward`` does; its memory is not taken over."""
    if gradient is None:
        return
    if leaf.grad is None and not gradient.is_sparse:
        leaf.grad = torch.empty_like(leaf, requires_grad=False).copy_(gradient)
    else:
        add_to_grad(leaf, gradient.clone() if leaf.grad is None else gradient)


def add_to_grad(leaf: Tensor, gradient: Tensor) -> None:
    """Add a gradient to ``.grad`` of a leaf, which takes its memory over."""
    if leaf.grad is None:
        leaf.grad = gradient
    elif leaf.grad.is_sparse and not gradient.is_sparse:
        leaf.grad = gradient + leaf.grad
    else:
        leaf.grad.add_(gradient)


def numbers_of(gradient: Tensor) -> Tensor:
    """The numbers of a gradient; those of a sparse one, whose norm torch 2.11 cannot take.

    Example:
        >>> numbers_of(torch.tensor([0.0, 3.0]).to_sparse())
        tensor([3.])
    """
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, dense and sparse ones.

    Example:
        >>> total_norm([torch.tensor([0.0, 3.0]).to_sparse(), torch.tensor([4.0])])
        tensor(5.)
    """
    return nn.utils.get_total_norm([numbers_of(gradient) for gradient in gradients])


def drop_grad(parameters: Sequence[Tensor]) -> None:
    """Take ``.grad`` away from parameters."""
    for parameter in parameters:
        parameter.grad = None


@contextmanager
def without_grad(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Set ``.grad`` of parameters aside for a ``with`` block; at its end it is as before."""
    held = [parameter.grad for parameter in parameters]
    try:
        drop_grad(parameters)
        yield
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient
