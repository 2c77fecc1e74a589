"""Gradient vaccine (GradVac).

Wang, Tsvetkov, Firat & Cao, "Gradient Vaccine: Investigating and Improving Multi-task Optimization
in Massively Multilingual Models", ICLR 2021, algorithm 1, on the whole model.

    p_i = g_i
    for every other task j in random order, with φ = cos(p_i, g_j) and the target t = t_ij:
        if φ < t:   p_i += |p_i| (t sqrt(1 - φ²) - φ sqrt(1 - t²)) / (|g_j| sqrt(1 - t²)) g_j
                    (now cos(p_i, g_j) = t)
        t_ij = (1 - β) t + β φ
    update Σ p_i

Needs the Gramian, because each p_i is a combination of task gradients. The state is the targets t,
(K, K), which start at zero (PCGrad's target), and the generator of the orders, one permutation per
task. The update is a sum over tasks (sum scale).

A turned gradient is sqrt((1 - φ²) / (1 - t²)) times as long as before. Many steps of agreeing
gradients leave a target near 1, and the next disagreement then lengthens the update greatly, as
published. Example: after 10 steps of two equal gradients at β = 0.5, two gradients of that length
at right angles give an update 33 times as long as either.

As published, every target moves at each step. TorchJD does the same, and LibMTL since its authors
corrected it in 2024; older versions move only the targets that were missed. We add no constants to
denominators: zero gradients meet no target and move none, and a target stops just short of 1, which
no finite multiple of g_j reaches.
"""

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.solvers.gramian import Array, norms_and_cosines
from recon.methods.solvers.orders import orders_of_others
from recon.methods.solvers.resolution import resolution

_HIGHEST_TARGET = 1 - 1e-9
# Of two opposed gradients, rounding leaves a turned one shorter than this, relative to before.
_VANISHED = 1e-7


@register_method("gradvac")
class GradVac(RandomMethod, StatefulMethod, GramianMethod):
    """The sum of the task gradients, each turned until it agrees with the others as well as before.

    Args:
        beta: Share of the present cosine in the next target, in [0, 1]. The default is LibMTL's and
            TorchJD's.
        seed: Seed of the order in which the other tasks are visited.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("gradvac")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([3.2000, 3.6000])
    """

    scale = "sum"
    pairwise = ("targets",)
    targets: Tensor

    def __init__(self, beta: float = 0.5, seed: int = 0) -> None:
        super().__init__(seed)
        self.beta = check_number("gradvac", "beta", beta, low=0, high=1)

    def make_state(self, tasks: int) -> None:
        """Start with targets of zero, (K, K)."""
        self.register_buffer("targets", torch.zeros(tasks, tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the original task gradients in the sum of the turned ones, (K,)."""
        products: Array = gramian.numpy()
        weights = np.ones(len(products))
        nonzero = np.flatnonzero(products.diagonal() > 0)
        if len(nonzero):
            among = np.ix_(nonzero, nonzero)
            norms, cosines = norms_and_cosines(products[among])
            targets = self.targets.to("cpu", torch.float64).numpy().copy()
            turned, moved = self._turn(cosines[None], targets[among][None])
            targets[among] = moved[0]
            weights[nonzero] = norms @ turned[0] / norms
            self.targets = torch.from_numpy(targets)
        return torch.from_numpy(weights)

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same for all groups of layers at once, (G, K), unless a gradient is zero."""
        products: Array = gramians.numpy()
        norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
        if not norms.all():  # a zero gradient draws no order
            return super().weights_of_groups(gramians, losses)
        cosines = products / norms[:, :, None] / norms[:, None, :]
        turned, targets = self._turn(cosines, self.targets.to("cpu", torch.float64).numpy().copy())
        self.targets = torch.from_numpy(targets)
        return torch.from_numpy((norms[:, None, :] @ turned)[:, 0] / norms)

    def _turn(self, cosines: Array, targets: Array) -> tuple[Array, Array]:
        """The turned gradients and the next targets, in each of G groups.

        Args:
            cosines: (G, K, K).
            targets: (G, K, K), which are overwritten.

        Returns:
            (G, K, K), row i of a group: p_i / |g_i| in terms of the gradients' directions; and the
            targets, (G, K, K).
        """
        groups, tasks, _ = cosines.shape
        vanished = max(_VANISHED, resolution())
        directions = cosines.reshape(-1, tasks)  # row (group, task i): of direction i with each of the group
        moved = targets.reshape(-1, tasks)
        row = np.arange(len(directions))
        first = row - row % tasks
        turned, products = np.tile(np.eye(tasks), (groups, 1)), directions.copy()  # products: of each p_i / |g_i|
        for other in orders_of_others(groups, tasks, self.generator).reshape(len(row), tasks - 1).T:
            length = np.sqrt(np.maximum(np.vecdot(turned, products), 0.0))
            exists = length > vanished
            cosine = np.minimum(np.maximum(products[row, other] / np.where(exists, length, 1.0), -1.0), 1.0)
            target = np.minimum(moved[row, other], _HIGHEST_TARGET)
            factor = length * (target * np.sqrt((1 - cosine**2) / (1 - target**2)) - cosine)
            factor[~exists | (cosine >= target)] = 0.0
            turned[row, other] += factor
            products += factor[:, None] * directions[first + other]
            moved[row, other] += np.where(exists, self.beta * (cosine - target), 0.0)
        return turned.reshape(cosines.shape), moved.reshape(cosines.shape)
