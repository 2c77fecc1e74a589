"""Weights of a Gramian method in a step, solved on the host."""

import torch
from torch import Tensor

from recon.engine.routes.route import Step
from recon.methods import GramianMethod
from recon.methods.solvers.gramian import gramian_of, nearly_dependent


def solved_weights(step: Step, method: GramianMethod, gramians: Tensor, jacobian: Tensor) -> Tensor:
    """The method's weights at the engine's scale.

    Args:
        step: The step.
        method: Its method.
        gramians: (N, K, K), whose sum is the Gramian of all gradients.
        jacobian: (K, P), the gradients, for a Gramian in higher precision if they nearly depend on
            each other.

    Returns:
        (K,), in the dtype and on the device of the Jacobian.

    Raises:
        ValueError: A gradient is not finite, or the method refuses the Gramian or the losses.
    """
    gramian, losses = _to_host(gramians, step.detached_losses())
    step.watches.gradients.watch(step.info.step, gramian.diagonal())
    if jacobian.dtype == torch.float32 and nearly_dependent(gramian.numpy()):
        gramian = gramian_of(jacobian).cpu()
    with step.naming():
        return (method.weights(gramian, losses) * step.scale).to(jacobian)


def _to_host(gramians: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """The summed (K, K) Gramian and the (K,) losses, float64 on the host, in one transfer."""
    tasks = len(losses)
    packed = torch.cat([gramians.flatten(), losses]).cpu().double()
    return packed[:-tasks].view(-1, tasks, tasks).sum(0), packed[-tasks:]
