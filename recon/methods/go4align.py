"""Group optimization for multi-task alignment (GO4Align).

Shen, Wang, Xiao, Van Noord & Worring, "GO4Align: Group Optimization for Multi-Task Alignment",
NeurIPS 2024.

    p_i ← p_i exp(-η L_i), with sum 1;   γ_i = p_i Σ_j L_j / L_i
    groups of tasks by k-means of γ;   update Σ w_i g_i,  w_i = mean γ of the group of task i

p accumulates the risks of all steps, and the second factor brings all losses to one scale. Needs
only the losses, which are positive, and one backward; a task whose loss is 0 takes no part, as if
it were absent. The state is p, from 1/K. No randomness. Sum scale: for equal losses all weights are
1. In a step with some of the tasks their p keep their sum.

The published code clusters from random centres until k-means settles; we find the best clusters
exactly (see `solvers.clusters`).
"""

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_count, check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.solvers.clusters import centres
from recon.methods.solvers.simplex import among_themselves


@register_method("go4align")
class GO4Align(StatefulMethod, LossMethod):
    """The losses brought to one scale, with one weight for each group of like tasks.

    Args:
        groups: Number of groups of tasks, >= 1. The published code's 1 gives all tasks one weight;
            with K or more each task has its own.
        step_size: η, finite and >= 0. The default is the published code's.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("go4align")
        >>> method.loss_weights(torch.tensor([2.0, 1.0, 1.0]))
        tensor([0.6666, 1.3334, 1.3334])
    """

    scale = "sum"
    indicators: Tensor

    def __init__(self, groups: int = 2, step_size: float = 1e-4) -> None:
        super().__init__()
        self.groups = check_count("go4align", "groups", groups, low=1)
        self.step_size = check_number("go4align", "step_size", step_size, low=0)

    def make_state(self, tasks: int) -> None:
        """Start with equal indicators, (K,)."""
        self.register_buffer("indicators", torch.full((tasks,), 1 / tasks, dtype=torch.float64))

    def loss_weights(self, losses: Tensor) -> Tensor:
        """The mean weight of each task's group, (K,)."""
        check_positive("go4align", losses)
        left_out = losses == 0
        rows, total = among_themselves(torch.where(left_out, 0, self.indicators))
        moved = torch.where(left_out, -torch.inf, rows.log() - self.step_size * losses.to(rows)).softmax(0)
        self.indicators = torch.where(left_out, self.indicators, total * moved)
        own = torch.where(left_out, torch.inf, moved * (losses.sum() / losses).to(rows))
        return torch.where(left_out, 0, centres(own, self.groups).to(losses))
