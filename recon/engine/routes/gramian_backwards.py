"""Route that never holds the Jacobian: Gramians first, then one backward of the weighted losses.

:mod:`recon.gradients.tiles` tells how the Gramians come about, and at which price.
"""

import torch
from torch import Tensor

from recon.engine.own_gradients import CollectedGradients, put, spoil
from recon.engine.precision import combining
from recon.engine.routes.route import Step
from recon.engine.routes.weights import loss_weights, weights_of_exact
from recon.gradients.graph import total_norm
from recon.gradients.tiles import tiled_gramians
from recon.methods import GramianMethod, LossMethod


class GramianBackwards:
    """Layer Gramians by tiles of task gradients, and a weighted backward of the shared part.

    The tasks' own parameters receive their gradients by the way, in full.
    """

    def backward(self, step: Step) -> bool:
        if step.memory != "gramian":
            return False
        if isinstance(step.method, LossMethod) and step.collected is None:
            step.collected = CollectedGradients()  # its heads are weighted too
        gramians = _layer_gramians(step)
        if not _skips(step, gramians):
            step.info.layer_gramians = step.in_all_tasks(gramians, axes=2)
            weights = _weights(step, gramians)
            step.info.weights = step.in_all_tasks(weights)
            _weighted_backward(step, weights)
        put(step.own_totals())
        return True


def _layer_gramians(step: Step) -> Tensor:
    """Layer Gramians (L, K', K'); the tasks' own parameters receive their gradients."""
    terms = [step.terms[task] for task in step.present]

    def give(row: int, leaf: Tensor, gradient: Tensor) -> None:
        step.give(step.present[row], leaf, gradient)

    layout = step.shared.layout
    with combining(layout.device, layout.precision):
        return tiled_gramians(terms, layout.by_layer, give).div_((step.loss_scale or 1) ** 2)


def _skips(step: Step, squares: Tensor) -> bool:
    """Whether a gradient has overflowed in float16; the scaler then finds that in ``.grad``."""
    own = step.own_totals()
    if not step.overflows(squares, own):
        return False
    spoil([*step.shared_leaves, *own])
    return True


def _weights(step: Step, gramians: Tensor) -> Tensor:
    """The method's weights (K',) of the task gradients, at the engine's scale."""
    method = step.method
    if isinstance(method, LossMethod):
        assert step.collected is not None
        step.watches.watch_gradients(step.info.step, step.in_all_tasks(gramians, axes=2))
        weights = loss_weights(step, method)
        for task, weight in zip(step.present, weights, strict=True):
            step.collected.scale(task, weight)
        return weights
    if not isinstance(method, GramianMethod):
        raise TypeError(
            f"{type(method).__name__} is neither a loss, a Gramian nor a Jacobian method; derive it from one of those"
        )
    layout = step.shared.layout
    with combining(layout.device, layout.precision):
        return weights_of_exact(step, method, gramians).to(layout.device, layout.dtype)


def _weighted_backward(step: Step, weights: Tensor) -> None:
    """Add the weighted sum of the task gradients to ``.grad`` of the shared parameters."""
    terms = torch.stack([step.terms[task] for task in step.present])
    if leaves := [*step.shared_leaves]:
        (weights * terms).sum().backward(inputs=leaves, retain_graph=step.keeps_graph)
    norm = total_norm([leaf.grad for leaf in leaves if leaf.grad is not None])
    if not _skips(step, norm):
        step.watches.update.watch(step.info.step, norm.reshape(1))
