"""Gradients at the representation, the features that all heads take, in place of the shared parameters.

Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 3.3 (MGDA-UB): K backwards
through the heads give the task gradients in the features; weighted, they go through the shared part in one backward.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from recon.gradients.graph import accumulate, reached_leaves
from recon.gradients.wrappers import is_partly_shared
from recon.methods import GramianMethod, LossMethod, Method, list_methods

At = Literal["parameters", "representation"]


def check_at(at: At, shared: nn.Module, method: Method, tasks: int) -> None:
    """Refuse gradients at the representation where the method or the network has no use for them.

    A single task is trained plainly in any case.

    Raises:
        ValueError: The method needs only losses, or the Jacobian; the network is branched; or ``at`` is unknown.
    """
    if at not in get_args(At):
        raise ValueError(f"at must be 'parameters' or 'representation', got {at!r}")
    if at == "parameters" or tasks == 1:
        return
    check_weights_representations(method)
    if is_partly_shared(shared):
        raise ValueError(
            "a branched network has features for each task and no single representation; "
            "use at='parameters', or the network without branches"
        )


def check_weights_representations(method: Method) -> None:
    """Refuse a method that cannot weight tasks by their gradients at the representation; the error says which can.

    Raises:
        ValueError: The method needs only losses, or the Jacobian.
    """
    if isinstance(method, GramianMethod):
        return
    if isinstance(method, LossMethod):
        reason = "weights losses and takes one backward, where at='representation' has nothing to save"
    else:
        reason = "needs the Jacobian of the shared parameters, which at='representation' does not compute"
    raise ValueError(
        f"{type(method).__name__} {reason}; use at='parameters', or a Gramian method: "
        f"{', '.join(list_methods(GramianMethod))} or one of yours derived from recon.GramianMethod"
    )


def check_representation(representation: Any) -> Tensor:
    """The representation, if it is one tensor that the shared network has computed.

    Raises:
        TypeError: It is missing, or no tensor.
        ValueError: It has no graph.
    """
    if representation is None:
        raise TypeError(
            "at='representation' needs the features that all heads take: give them to backward as representation=..., "
            "or return (losses, features) from the closure of a step"
        )
    if not isinstance(representation, Tensor):
        raise TypeError(
            f"the representation is of type {type(representation).__name__}; it must be the one tensor that all heads "
            "take. For features of several parts, or of each task, use at='parameters'"
        )
    if representation.grad_fn is None:
        raise ValueError("the representation has no graph; hand over what the shared network returned, not detached")
    return representation


def head_gradients(losses: Sequence[Tensor], representation: Tensor, shared: AbstractSet[Tensor]) -> Tensor:
    """Task gradients in the representation, by one backward through each head; the shared part keeps its graph.

    Each task's own parameters receive their gradient in ``.grad``, as from ``loss.backward()``.

    Args:
        losses: K scalar losses with a graph.
        representation: The features that all heads take, of any shape, N numbers.
        shared: The shared parameters.

    Returns:
        (K, N), real, in float32 at least; zero for a task that does not reach the representation. A complex number of
        the representation is two of N, so that inner products of rows are the real ones.

    Raises:
        ValueError: No loss reaches the representation, or one reaches shared parameters past it.
    """
    rows: list[Tensor | None] = []
    for loss in losses:
        own = reached_leaves(loss, short_of=representation)
        if not shared.isdisjoint(own):
            raise ValueError(
                "a loss reaches shared parameters past the representation, where its gradient would be lost; "
                "hand over the only features that the heads take, or use at='parameters'"
            )
        retain = len(rows) < len(losses) - 1
        row, *gradients = torch.autograd.grad(loss, [representation, *own], retain_graph=retain, allow_unused=True)
        rows.append(row)
        for leaf, gradient in zip(own, gradients, strict=True):
            accumulate(leaf, gradient)
    if all(row is None for row in rows):
        raise ValueError("no loss reaches the representation; hand over the very tensor that the heads take")
    zero = torch.zeros_like(representation)
    stacked = torch.stack([zero if row is None else row for row in rows])
    jacobian = (torch.view_as_real(stacked) if stacked.is_complex() else stacked).flatten(1)
    return jacobian.to(torch.promote_types(jacobian.dtype, torch.float32))


def like_representation(flat: Tensor, representation: Tensor) -> Tensor:
    """A row (N,) of :func:`head_gradients` in the representation's shape and dtype."""
    if representation.is_complex():
        flat = torch.view_as_complex(flat.view(*representation.shape, 2))
    return flat.view(representation.shape).to(representation.dtype)
