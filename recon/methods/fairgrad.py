"""Fair resource allocation in multi-task learning (FairGrad).

Ban & Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, eq. 4.

    max_d Σ (g_i·d)^(1 - α) / (1 - α)  in a ball around 0
    so  G a = a^(-1/α),  a > 0   (element by element),   update J'a

α = 1 is proportional fairness, which is Nash-MTL without its limit. α = 2 minimises the potential
delay. A large α serves the worst-served task.

Needs the Gramian. No state, no randomness. As published, the equations are solved in the gradients'
own units, so the length of the update is not the gradients': for α = 1 it is always sqrt(K). It is
used at the learning rate as it is, and never multiplied by K (sum scale).

The published code searches a least-squares solution of the equations to SciPy's default tolerance.
With a_i = b_i / |g_i| the equations read C b = |g|^(1/α - 1) b^(-1/α) in the cosines C of the
gradients. We solve them by Newton's method to a relative residual of 1e-10.

At a Pareto-stationary point the equations have no solution, and the update is zero. Tasks with a
zero gradient have nothing to gain and take no part. For α != 1, gradients more than 1e6 times
shorter than the longest count as 1e6 times shorter.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.fairness import fair_weights, fair_weights_of_pairs
from recon.methods.solvers.gramian import Array


@register_method("fairgrad")
class FairGrad(GramianMethod):
    """The update that is fair in how much each task gains.

    Args:
        alpha: Kind of fairness, in [0.5, 10].

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("fairgrad")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.7435, 1.2030])
    """

    scale = "sum"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = check_number("fairgrad", "alpha", alpha, low=0.5, high=10)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Positive weights, (K,); zeros at a Pareto-stationary point.

        Raises:
            RuntimeError: The equations were not solved.
        """
        return torch.from_numpy(fair_weights(gramian.numpy(), power=1 / self.alpha))

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array | None:
        """Weights of two tasks, (N, 2), for α = 1: b_1 = b_2."""
        return fair_weights_of_pairs(norms, cosines) if self.alpha == 1 else None
