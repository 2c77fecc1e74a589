"""Route with the task gradients in the representation, the features that all heads take.

Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 3.3
(MGDA-UB): K backwards through the heads give the task gradients in the features. Weighted, they go
through the shared part in one backward.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from recon.engine.precision import combining, full_precision
from recon.engine.routes.route import Step
from recon.engine.routes.weights import solved_weights
from recon.gradients.buffer import TaskGradients
from recon.gradients.graph import accumulate, reached_leaves, without_grad
from recon.methods import GramianMethod


class HeadBackwards:
    """K backwards through the heads, and one of their weighted gradients through the shared part.

    An observed step needs the gradients in the parameters too: K more backwards.
    """

    def backward(self, step: Step) -> bool:
        method, representation = step.method, step.features
        if representation is None:
            return False
        assert isinstance(method, GramianMethod)
        if step.observed:
            step.info.layer_gramians = _parameter_gramians(step.shared.gradients, step.losses)
        jacobian = head_gradients(step.losses, representation, step.shared.trainable())
        with combining(jacobian.device, representation.dtype):
            gramians = (jacobian @ jacobian.T).unsqueeze(0)
            step.info.weights = solved_weights(step, method, gramians, jacobian)
            weighted = step.info.weights @ jacobian
        representation.backward(like_representation(weighted, representation))
        step.watch_sum()
        return True


def head_gradients(losses: Sequence[Tensor], representation: Tensor, shared: AbstractSet[Tensor]) -> Tensor:
    """Task gradients in the representation, by one backward through each head.

    Each task's own parameters receive their gradient in ``.grad``, as from ``loss.backward()``. The
    shared part keeps its graph.

    Args:
        losses: K scalar losses with a graph.
        representation: The features that all heads take, of any shape, N numbers.
        shared: The shared parameters.

    Returns:
        (K, N), real, in float32 at least; zero for a task that does not reach the representation. A
        complex number of the representation is two of N, so that rows have real inner products.

    Raises:
        ValueError: No loss reaches the representation, or one reaches shared parameters past it.

    Example:
        >>> features = torch.ones(1, 2, requires_grad=True) * 3
        >>> losses = [features.sum(), (2 * features[0, 0]).square()]
        >>> head_gradients(losses, features, shared=set())
        tensor([[ 1.,  1.],
                [24.,  0.]])
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
    """A row (N,) of :func:`head_gradients` in the shape and dtype of the representation."""
    if representation.is_complex():
        flat = torch.view_as_complex(flat.view(*representation.shape, 2))
    return flat.view(representation.shape).to(representation.dtype)


def _parameter_gramians(gradients: TaskGradients, losses: Sequence[Tensor]) -> Tensor:
    """Layer Gramians (L, K, K) for the analyzer alone; every ``.grad`` and the graph stay."""
    with without_grad(gradients.parameters):
        for row, loss in enumerate(losses):
            loss.backward(retain_graph=True, inputs=gradients.parameters)
            gradients.fill_row(row)
    with full_precision(gradients.jacobian.device):
        return gradients.layer_gramians()
