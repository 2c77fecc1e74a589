"""Dual-balancing multi-task learning (DB-MTL).

Lin, Jiang, Ye, Zhang, Chen, Chen, Liu & Kwok, "Dual-Balancing for Multi-Task Learning", 2023,
algorithm 1.

    m_i ← β_t m_i + (1 - β_t) g_i / L_i,   update max_j |m_j| Σ m_i / |m_i|;   β_t = β / t^decay

g_i / L_i is the gradient of log L_i. Needs the Jacobian, and positive losses. The state is m, which
starts at 0, is as large as the Jacobian, and is saved in the checkpoint. Sum scale, of gradients of
logarithms; updates are shorter in the first steps, while m grows from 0. A task that has had no
gradient yet, or whose loss is 0, takes no part. Each task counts its own steps t.

The published code trains heads by log L_i, too. Here each head is trained by its own loss, as with
all gradient methods. The published code adds 1e-8 to each loss; we refuse negative losses.
"""

import torch
from torch import Tensor

from recon.gradients.precision import widest_dtype
from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_below, check_number
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod


@register_method("db_mtl")
class DBMTL(StatefulMethod, JacobianMethod):
    """The sum of averaged gradients of log-losses, all as long as the longest.

    Args:
        beta: Share of the past in the averages, in [0, 1).
        decay: How fast that share falls over the steps, >= 0; 0 keeps it constant.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("db_mtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([0.1236, 0.2000])
    """

    scale = "sum"
    averages: Tensor
    steps: Tensor

    def __init__(self, beta: float = 0.9, decay: float = 0.0) -> None:
        super().__init__()
        self.beta = check_below("db_mtl", "beta", beta, low=0, high=1)
        self.decay = check_number("db_mtl", "decay", decay, low=0)

    def make_state(self, tasks: int) -> None:
        self.register_buffer("averages", torch.zeros(tasks, 0))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The sum of the rescaled averages, (P,)."""
        if losses is None:
            raise ValueError("db_mtl: balances the logarithms of the losses; pass losses")
        check_positive("db_mtl", losses)
        left_out = losses == 0
        self.steps += ~left_out
        widest = widest_dtype(jacobian.device)
        past = self.beta / self.steps.to(jacobian.device, widest) ** self.decay
        past, present = torch.where(left_out, 1, past), torch.where(left_out, 0, (1 - past).to(losses) / losses)
        averages = self.tracked("averages", jacobian)
        averages.mul_(past.to(jacobian)[:, None]).addcmul_(jacobian, present.to(jacobian)[:, None])
        norms = torch.where(left_out, 0, torch.linalg.vector_norm(averages, dim=1, dtype=widest))
        inverse = torch.where(norms > 0, 1 / norms, 0)
        return (inverse.to(jacobian) @ averages) * norms.max().to(jacobian)
