"""Multi-task learning as a bargaining game (Nash-MTL).

Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning as a Bargaining
Game", ICML 2022, algorithm 1.

    max_d Σ log(g_i·d)  in a ball around 0
    so  G a = 1/a,  a > 0   (element by element; G is the Gramian),   update J'a

Needs the Gramian. No state, no randomness. Multiplied by a_i, each equation reads a_i g_i·d = 1, so
the update is sqrt(K) long, whatever the length of the gradients. It is then cut to the length
`max_norm`: with the default limit of 1 its length is exactly 1 at every step. It is used at the
learning rate as it is, and never multiplied by K (sum scale).

The published code divides G by its Frobenius norm for the solver and multiplies it back in the
constraints, so its weights are those of G itself. It takes up to 20 steps of a convex-concave
procedure, each a cone program, and keeps the last weights where the solver fails.

With a_i = b_i / |g_i| the equations read C b = 1/b in the cosines C of the gradients. We solve them
by Newton's method to a relative residual of 1e-10. At a Pareto-stationary point no step serves all
tasks and the equations have no solution: the update is zero. Tasks with a zero gradient have
nothing to gain and take no part. To keep weights for several steps, wrap this method in ``psmgd``.
"""

from math import sqrt

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method
from recon.methods.solvers.fairness import fair_weights, fair_weights_of_pairs
from recon.methods.solvers.gramian import Array


@register_method("nash_mtl")
class NashMTL(GramianMethod):
    """The bargaining solution: no other update gains more on the tasks in relative terms.

    Args:
        max_norm: Length of the longest update, >= 0; ``None`` for no limit. The default is the
            published code's.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("nash_mtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5257, 0.8507])
    """

    scale = "sum"

    def __init__(self, max_norm: float | None = 1.0) -> None:
        super().__init__()
        self.max_norm = None if max_norm is None else check_number("nash_mtl", "max_norm", max_norm, low=0)

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Positive weights, (K,); zeros at a Pareto-stationary point.

        Raises:
            RuntimeError: The equations were not solved.
        """
        weights = fair_weights(gramian.numpy(), power=1)
        return torch.from_numpy(weights * self._factor(int(np.count_nonzero(weights))))

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2): b_1 = b_2."""
        return fair_weights_of_pairs(norms, cosines) * self._factor(tasks=2)

    def _factor(self, tasks: int) -> float:
        """The factor that cuts an update to the longest; that of the tasks is sqrt(tasks) long."""
        length = sqrt(tasks)
        return 1.0 if self.max_norm is None or length <= self.max_norm else self.max_norm / length
