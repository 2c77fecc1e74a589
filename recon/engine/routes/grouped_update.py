"""The update of a Gramian method that weighs each group of layers by itself."""

from contextlib import nullcontext

import torch
from torch import Tensor

from recon.engine.groups import LayerGroups
from recon.engine.routes.route import Step
from recon.engine.routes.weights import to_host
from recon.engine.trained_groups import TrainedGroups
from recon.gradients.sharded import Gradients
from recon.methods import GramianMethod
from recon.methods.solvers.gramian import nearly_dependent_in


def grouped_update(
    step: Step, method: GramianMethod, groups: LayerGroups, gradients: Gradients, gramians: Tensor
) -> Tensor:
    """The update of the columns held here; the step's record notes the weights, (G, K).

    A group whose layers are all frozen has weights of zero, and its state stands still.

    Args:
        step: The step.
        method: Its method.
        groups: The groups of the layers.
        gradients: The gradients of the K' tasks of the step.
        gramians: (L, K', K'), of the layers.

    Returns:
        (S,), for S columns.

    Raises:
        ValueError: A gradient is not finite, or the method refuses Gramians or losses.
    """
    trained = TrainedGroups(groups, gradients)
    weights = _solved_weights(step, method, trained, gradients, gramians)
    step.info.weights = step.in_all_tasks(trained.among_all(weights))
    return trained.combine(weights)


def _solved_weights(
    step: Step, method: GramianMethod, trained: TrainedGroups, gradients: Gradients, gramians: Tensor
) -> Tensor:
    """The method's weights (G', K') at the engine's scale, like the Jacobian."""
    of_layers, losses = to_host(gramians, step.losses)
    of_groups = trained.sum(of_layers)
    step.watches.gradients.watch(step.info.step, step.in_all_tasks(of_groups.sum(0).diagonal()))
    if gradients.dtype == torch.float32 and (close := nearly_dependent_in(of_groups.numpy())):
        of_groups[close] = trained.recompute(close)
    with step.asking(), nullcontext() if trained.are_all else method.among_groups(trained.indices):
        return (method.weights_of_groups(of_groups, losses) * step.scale).to(gradients.jacobian)
