"""Stochastic direction-oriented multi-objective gradient descent (SDMGrad).

Xiao, Ban & Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
Algorithms", NeurIPS 2023, algorithm 1.

    min_w w'G (w / 2 + λ p) over the simplex
    by a few steps of projected descent with momentum, from the last w
    update (w + λ p)'J / (1 + λ);   p_i = 1/K by default

Needs the Gramian. The state is w, from 1/K. No randomness. The update is a convex combination of
task gradients (mean scale). As in the published code, G is first divided by the square of the mean
norm of the task gradients, unless all are zero. LibMTL and TorchJD add 1e-8 to that square, the
authors' code 1e-4 to each squared norm. In a step with some of the tasks their w keep their sum.

The descent settles where lr is below 2 (1 + momentum) over the largest eigenvalue of the divided G.
That eigenvalue is 1 for gradients at right angles and of equal norms, K for equal gradients, and
larger where norms differ much. The published lr, our default, is above the bound for any gradients:
w ends near a corner of the simplex, and the objective is mostly above that of equal weights. With
lr = 0.5 the descent reaches the minimum if the eigenvalue is below 6.

In the paper G = J_1 J_2' comes from two independent batches, and the update from a third. The
gradient of w is then unbiased, at three times the cost of a step. Here all three are the batch at
hand: G is its Gramian.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count, check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.solvers.gramian import Array
from recon.methods.solvers.simplex import among_themselves, nearest_on_simplex, nearest_rows_on_simplex


@register_method("sdmgrad")
class SDMGrad(PerTaskMethod, StatefulMethod, GramianMethod):
    """A compromise of the shortest convex combination of task gradients with their mean.

    Args:
        lambda_: Pull towards the preferred combination, finite and >= 0. The default is that of the
            paper's experiments.
        lr: Learning rate of w, >= 0. The default is the published code's (LibMTL: 5), at which w
            does not settle.
        momentum: Momentum of w, in [0, 1].
        iterations: Steps of w at each update, >= 1.
        preference: A finite number >= 0 for each task, in task order; 1/K each by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("sdmgrad", lr=0.5)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5518, 1.3793])
    """

    simplex_weights: Tensor

    def __init__(
        self,
        lambda_: float = 0.3,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
        preference: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.lambda_ = check_number("sdmgrad", "lambda_", lambda_, low=0)
        self.lr = check_number("sdmgrad", "lr", lr, low=0)
        self.momentum = check_number("sdmgrad", "momentum", momentum, low=0, high=1)
        self.iterations = check_count("sdmgrad", "iterations", iterations, low=1)
        self.preference = check_preference("sdmgrad", preference)

    def make_state(self, tasks: int) -> None:
        """Start with equal weights, (K,)."""
        self.register_buffer("simplex_weights", torch.full((tasks,), 1 / tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights >= 0, (K,); they sum to one if the preference does."""
        products: Array = gramian.numpy()
        preferred = self.lambda_ * preference_among(len(products), self.preference, default=1 / len(products))
        point, total = among_themselves(self.simplex_weights.to("cpu", torch.float64))
        w: Array = point.numpy()
        mean_norm = np.sqrt(products.diagonal()).mean()
        if mean_norm > 0:
            products = products / mean_norm / mean_norm
            velocity = np.zeros_like(w)
            for _ in range(self.iterations):
                velocity = self.momentum * velocity + products @ (w + preferred)
                w = nearest_on_simplex(w - self.lr * velocity)
            self.simplex_weights = total * torch.from_numpy(w)
        return torch.from_numpy((w + preferred) / (1 + self.lambda_))

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights >= 0 in each group of layers, (G, K)."""
        products: Array = gramians.numpy()
        tasks = products.shape[1]
        preferred = self.lambda_ * preference_among(tasks, self.preference, default=1 / tasks)
        points, totals = among_themselves(self.simplex_weights.to("cpu", torch.float64))
        w: Array = points.numpy().copy()
        mean_norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2)).mean(axis=1)
        moving = mean_norms > 0
        size, moved = mean_norms[moving, None, None], w[moving]
        divided = products[moving] / size / size
        velocity = np.zeros_like(moved)
        for _ in range(self.iterations):
            velocity = self.momentum * velocity + (divided @ (moved + preferred)[:, :, None])[:, :, 0]
            moved = nearest_rows_on_simplex(moved - self.lr * velocity)
        w[moving] = moved
        self.simplex_weights = totals * torch.from_numpy(w)
        return torch.from_numpy((w + preferred) / (1 + self.lambda_))
