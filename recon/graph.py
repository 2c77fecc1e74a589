"""What a loss reaches, read from autograd's graph without a backward; and what a backward does to a leaf."""

import torch
from torch import Tensor


def reached_leaves(loss: Tensor, short_of: Tensor | None = None) -> list[Tensor]:
    """The leaves, such as parameters, that a backward of a loss would give a gradient, each once.

    Args:
        loss: A tensor with a graph.
        short_of: A tensor within that graph; what the loss reaches only through it is left out.

    Raises:
        ValueError: A part of the network is checkpointed in a way that hides its parameters from the graph.
    """
    end = None if short_of is None else (short_of.grad_fn, short_of.output_nr)
    leaves, seen = [], set()
    waiting = [(loss.grad_fn, loss.output_nr)]
    while waiting:
        edge = waiting.pop()
        node = edge[0]
        if node is None or node in seen or edge == end:
            continue
        seen.add(node)
        if node.name() == "CheckpointFunctionBackward":
            raise ValueError(
                "the graph does not show the parameters that torch.utils.checkpoint holds with use_reentrant=True; "
                "give it use_reentrant=False"
            )
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting.extend(node.next_functions)
    return leaves


def accumulate(leaf: Tensor, gradient: Tensor | None) -> None:
    """What ``backward`` does to ``.grad`` of a leaf; the memory of an ``autograd.grad`` may not be its own."""
    if gradient is None:
        return
    if leaf.grad is None:
        leaf.grad = torch.empty_like(leaf, requires_grad=False).copy_(gradient)
    else:
        leaf.grad.add_(gradient)
