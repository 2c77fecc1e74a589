"""Robust multi-task learning with excess risks (ExcessMTL).

He, Zhou, Zhang, Yun, Chen, Zeng, Chilimbi & Zhao, "Robust Multi-Task Learning with Excess Risks",
ICML 2024, algorithm 1.

    e_i = g_i'H_i⁻¹g_i,  H_i = diag √(Σ_τ g_i,τ²);   w_i ∝ w_i exp(η e_i / e_i,0)
    update Σ w_i g_i

e_i estimates how far task i is from its best loss, and e_i,0 is its mean in the first steps. Needs
the Jacobian. The state is √(Σ g²), w and e_0. The root is as large as the Jacobian and is saved in
the checkpoint. The weights sum to 1 (mean scale).

The published code keeps 1e-7 under the root and makes the weights sum to K. We keep no constant
(0/0 is 0) and follow the paper's sum. A task without gradient in the first steps has no e_0; its
e_i / e_i,0 counts as 1. In a step with some of the tasks their weights keep their sum.
"""

import torch
from torch import Tensor

from recon.gradients.precision import widest_dtype
from recon.methods.base.hyperparameters import check_above, check_count
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod


@register_method("excess_mtl")
class ExcessMTL(StatefulMethod, JacobianMethod):
    """The task gradients, weighted by how far each task is from its best loss.

    Args:
        step_size: η > 0. The default is the published code's.
        warmup_steps: Number of a task's first steps in which its weight stands still, >= 1; e_0 is
            taken over them. The published code takes one step, the paper three epochs.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("excess_mtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([1.5000, 1.0000])
    """

    sizes: Tensor
    log_weights: Tensor
    first_risk: Tensor
    steps: Tensor

    def __init__(self, step_size: float = 0.01, warmup_steps: int = 1) -> None:
        super().__init__()
        self.step_size = check_above("excess_mtl", "step_size", step_size, low=0)
        self.warmup_steps = check_count("excess_mtl", "warmup_steps", warmup_steps, low=1)

    def make_state(self, tasks: int) -> None:
        self.register_buffer("sizes", torch.zeros(tasks, 0))
        self.register_buffer("log_weights", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("first_risk", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,)."""
        risks = self._excess_risks(jacobian)
        warm = self.steps < self.warmup_steps
        self.steps += 1
        self.first_risk += torch.where(warm, risks / self.warmup_steps, 0)
        relative = torch.where(self.first_risk > 0, risks / self.first_risk, 1)
        self._grow(self.step_size * relative, warm)
        return self.log_weights.softmax(0).to(jacobian) @ jacobian

    def _grow(self, exponents: Tensor, warm: Tensor) -> None:
        """Let the weights grow, but for tasks in their first steps; the others keep their sum."""
        before = torch.where(warm, -torch.inf, self.log_weights)
        grown = (before + exponents).log_softmax(0)
        if self._present is not None:
            grown = grown + before.logsumexp(0)
        self.log_weights = torch.where(warm, self.log_weights, grown)

    def _excess_risks(self, jacobian: Tensor) -> Tensor:
        sizes = self.tracked("sizes", jacobian)
        torch.hypot(sizes, jacobian, out=sizes)
        risks = [
            torch.where(size > 0, gradient / size, 0).mul_(gradient).sum(dtype=widest_dtype(jacobian.device))
            for size, gradient in zip(sizes, jacobian, strict=True)
        ]
        return torch.stack(risks).to(self.first_risk)
