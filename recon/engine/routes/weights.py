"""Weights of a method in a step: solved on the host, or slopes of an objective."""

from collections.abc import Callable

import torch
from torch import Tensor

from recon.engine.protocols import WeighsParts
from recon.engine.routes.route import Step
from recon.methods import GramianMethod, LossMethod
from recon.methods.solvers.gramian import gramian_of, nearly_dependent


def solved_weights(
    step: Step, method: GramianMethod, gramians: Tensor, jacobian: Tensor, summed: Callable[[Tensor], Tensor]
) -> Tensor:
    """The method's weights at the engine's scale.

    Args:
        step: The step.
        method: Its method.
        gramians: (N, K', K'), whose sum is the Gramian of all gradients.
        jacobian: (K', P), the gradients or columns of them, for a Gramian in higher precision if
            they nearly depend on each other.
        summed: Sums products of columns over the processes that hold the others.

    Returns:
        (K',), in the dtype and on the device of the Jacobian.

    Raises:
        ValueError: A gradient is not finite, or the method refuses the Gramian or the losses.
    """
    gramian, losses = _watched(step, gramians)
    if jacobian.dtype == torch.float32 and nearly_dependent(gramian.numpy()):
        gramian = summed(gramian_of(jacobian)).cpu()
    with step.asking():
        return (method.weights(gramian, losses) * step.scale).to(jacobian)


def weights_of_parts(step: Step, method: WeighsParts, gramian: Tensor, parts: Tensor) -> Tensor:
    """As :func:`solved_weights`, for a method that weighs by parts of the batch.

    Args:
        step: The step.
        method: Its method.
        gramian: (K', K'), of the whole batch.
        parts: (n, K', K'), of each part.
    """
    (whole, *of_parts), losses = to_host(torch.cat([gramian.unsqueeze(0), parts]), step.losses)
    step.watches.gradients.watch(step.info.step, step.in_all_tasks(whole.diagonal()))
    with step.asking():
        return (method.weights_of_parts(torch.stack(of_parts), losses) * step.scale).to(gramian)


def weights_of_exact(step: Step, method: GramianMethod, gramians: Tensor) -> Tensor:
    """As :func:`solved_weights`, from products that need no higher precision.

    Args:
        step: The step.
        method: Its method.
        gramians: (N, K', K'), whose products were summed in float64 where the device has it.

    Returns:
        (K',), in float64 on the host.

    Raises:
        ValueError: As :func:`solved_weights`.
    """
    gramian, losses = _watched(step, gramians)
    with step.asking():
        return method.weights(gramian, losses) * step.scale


def loss_weights(step: Step, method: LossMethod) -> Tensor:
    """Slopes (K',) of a method's objective in the losses; the method's parameters get theirs.

    They are NaN where a loss overflows float16, so that the step is skipped.
    """
    if step.loss_scale is not None and not step.losses.isfinite().all():
        return torch.full_like(step.losses, float("nan"))
    leaves = step.losses.clone().requires_grad_()
    with step.asking():
        (method.objective(leaves) * step.scale).backward()
    assert leaves.grad is not None
    return leaves.grad


def to_host(gramians: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """The (N, K, K) Gramians and the (K,) losses, float64 on the host, in one transfer."""
    tasks = len(losses)
    packed = torch.cat([gramians.flatten(), losses]).cpu().double()
    return packed[:-tasks].view(-1, tasks, tasks), packed[-tasks:]


def _watched(step: Step, gramians: Tensor) -> tuple[Tensor, Tensor]:
    """The summed Gramian (K', K'), whose diagonal is noted, and the losses (K',), on the host."""
    parts, losses = to_host(gramians, step.losses)
    gramian = parts.sum(0)
    step.watches.gradients.watch(step.info.step, step.in_all_tasks(gramian.diagonal()))
    return gramian, losses
