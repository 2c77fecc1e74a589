"""Route with the task gradients in the representation, the features that all heads take.

Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, section 3.3
(MGDA-UB): K backwards through the heads give the task gradients in the features. Weighted, they go
through the shared part in one backward.
"""

import math
from collections.abc import Container, Iterable

import torch
from torch import Tensor

from recon.engine.own_gradients import spoil
from recon.engine.precision import combining, full_precision
from recon.engine.protocols import WeighsParts
from recon.engine.routes.route import Step
from recon.engine.routes.weights import solved_weights, weights_of_parts
from recon.gradients.graph import reached_leaves, reaches, without_grad
from recon.methods import GramianMethod

_WEIGHTED = "the weighted tasks"


class HeadBackwards:
    """K backwards through the heads, and one of their weighted gradients through the shared part.

    The Gramian at the representation is a sum over samples, and so over processes. An observed step
    needs the gradients in the parameters too: K more backwards.
    """

    def backward(self, step: Step) -> bool:
        if not step.at_representation:
            return False
        if step.observed:
            step.info.layer_gramians = step.in_all_tasks(_parameter_gramians(step), axes=2)
        jacobian = head_gradients(step)
        weighted = _weighted(step, jacobian)
        if weighted is None:
            spoil([*step.shared_leaves, *step.own_totals()])
        else:
            _shared_backward(step, weighted)
        return True


def head_gradients(step: Step) -> Tensor:
    """Task gradients in the representation, by one backward through each head.

    Each task's own parameters receive their gradient, as from ``loss.backward()``. The shared part
    keeps its graph.

    Returns:
        (K', N), real, in float32 at least, for the N numbers of this process's representation; zero
        for a task without a loss here. A complex number of the representation is two of N, so that
        rows have real inner products.
    """
    representation, shared = step.features, step.shared_leaves
    if representation is None:  # this process has no loss in the step
        return step.losses.new_zeros(len(step.present), 0)
    zero, rows = torch.zeros_like(representation), []
    for task in step.present:
        row = None
        if (term := step.terms.get(task)) is not None:
            own = [leaf for leaf in reached_leaves(term, short_of=representation) if leaf not in shared]
            retain = task != max(step.terms)
            with step.failing_for_all():
                row, *gradients = torch.autograd.grad(
                    term, [representation, *own], retain_graph=retain, allow_unused=True
                )
                for leaf, gradient in zip(own, gradients, strict=True):
                    step.give(task, leaf, gradient)
        rows.append(zero if row is None else row)
    stacked = torch.stack(rows) if step.failure is None else torch.full_like(torch.stack(rows), math.nan)
    jacobian = (torch.view_as_real(stacked) if stacked.is_complex() else stacked).flatten(1)
    return jacobian.to(torch.promote_types(jacobian.dtype, torch.float32)).div_(step.loss_scale or 1)


def check_heads(losses: Iterable[Tensor], representation: Tensor, shared: Container[Tensor]) -> None:
    """Refuse losses that do not pass through the representation alone.

    Raises:
        ValueError: No loss reaches the representation, or one reaches shared parameters past it.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> features = weight * 3
        >>> check_heads([features.sum(), (2 * features).sum()], features, shared={weight})
        >>> check_heads([features.sum() + weight.sum()], features, shared={weight})
        Traceback (most recent call last):
        ValueError: a loss reaches shared parameters past the representation, where its gradient ...
    """
    losses = [*losses]
    for loss in losses:
        if any(leaf in shared for leaf in reached_leaves(loss, short_of=representation)):
            raise ValueError(
                "a loss reaches shared parameters past the representation, where its gradient would be lost; "
                "hand over the only features that the heads take, or use at='parameters'"
            )
    if not any(reaches(loss, representation) for loss in losses):
        raise ValueError("no loss reaches the representation; hand over the very tensor that the heads take")


def like_representation(flat: Tensor, representation: Tensor) -> Tensor:
    """A row (N,) of :func:`head_gradients` in the shape and dtype of the representation."""
    if representation.is_complex():
        flat = torch.view_as_complex(flat.view(*representation.shape, 2))
    return flat.view(representation.shape).to(representation.dtype)


def _weighted(step: Step, jacobian: Tensor) -> Tensor | None:
    """The weighted gradient (N,) in the representation; ``None`` if a gradient has overflowed."""
    assert isinstance(step.method, GramianMethod)
    dtype = jacobian.dtype if step.features is None else step.features.dtype
    with combining(jacobian.device, dtype):
        gramian = step.processes.sum(jacobian @ jacobian.T)
        if step.overflows(gramian.diagonal(), {}):
            return None
        if isinstance(step.method, WeighsParts) and step.method.parts > 1:
            parts = part_gramians(jacobian, len(step.features) if step.features is not None else 0, step.method.parts)
            weights = weights_of_parts(step, step.method, gramian, parts)
        else:
            weights = solved_weights(step, step.method, gramian.unsqueeze(0), jacobian, step.processes.sum)
        step.info.weights = step.in_all_tasks(weights)
        return weights @ jacobian


def part_gramians(jacobian: Tensor, samples: int, parts: int) -> Tensor:
    """Inner products of the task gradients in the features of parts of the batch, (n, K', K').

    Losses are means over samples, and a part's gradients are those of its own mean.

    Args:
        jacobian: (K', N), the gradients in the features of all samples, sample by sample.
        samples: Number of samples.
        parts: Number of parts of about equally many samples, at most one for each.

    Example:
        >>> part_gramians(torch.tensor([[1.0, 0.0, 2.0, 2.0]]), samples=4, parts=2).flatten()
        tensor([ 4., 32.])
    """
    chunks = jacobian.unflatten(1, (samples, -1)).chunk(parts, dim=1)
    own = [chunk.flatten(1) * (samples / chunk.shape[1]) for chunk in chunks]
    return torch.stack([chunk @ chunk.T for chunk in own])


def _shared_backward(step: Step, weighted: Tensor) -> None:
    """The backward of the weighted gradient through the shared part."""
    features = step.features
    if step.collected is None:
        assert features is not None
        features.backward(like_representation(weighted, features), retain_graph=step.keeps_graph)
        step.watch_sum()
        return
    if features is not None:
        with step.failing_for_all(), step.collected.collecting(_WEIGHTED, reached_leaves(features)):
            features.backward(like_representation(weighted * (step.loss_scale or 1), features))
    step.put_totals()


def _parameter_gramians(step: Step) -> Tensor:
    """Layer Gramians (L, K', K') for the analyzer alone; every ``.grad`` and the graph stay."""
    gradients = step.shared.gradients
    with without_grad(gradients.parameters):
        for task in step.present:
            if task in step.terms:
                step.terms[task].backward(retain_graph=True, inputs=gradients.parameters)
            gradients.fill_row(task)
            gradients.send_row(task)
    gradients.complete(step.present)
    with full_precision(gradients.device):
        gradients.jacobian.div_(step.loss_scale or 1)
        return gradients.layer_gramians()
