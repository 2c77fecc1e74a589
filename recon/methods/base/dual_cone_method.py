"""Methods that project onto the dual cone of the task gradients, where an update harms no task."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from recon.methods.base.kinds import GramianMethod
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.preference import check_preference, preference_among
from recon.methods.base.registry import registered_name
from recon.methods.solvers.gramian import Array, softened_factor


class DualConeMethod(PerTaskMethod, GramianMethod):
    """Base of methods that lift a preferred mean of the task gradients into their dual cone.

    Subclasses write :meth:`lift`. Zero gradients constrain nothing.

    Args:
        preference: A finite number >= 0 for each task, in task order; 1/K each by default.
    """

    def __init__(self, preference: Sequence[float] | None = None) -> None:
        super().__init__()
        self.preference = check_preference(registered_name(type(self)), preference)

    @abstractmethod
    def lift(self, norms: Array, directions: Array, preference: Array) -> Array:
        """Weights to add to the preference.

        Args:
            norms: (K,), norms of the nonzero task gradients.
            directions: (K, K), their directions in columns, see ``softened_factor``.
            preference: (K,), their preference.

        Returns:
            (K,), all >= 0.
        """

    @abstractmethod
    def lift_pairs(self, norms: Array, cosines: Array, preference: Array) -> Array:
        """The same for many pairs of tasks, by a formula.

        Args:
            norms: (N, 2).
            cosines: (N,).
            preference: (2,).

        Returns:
            (N, 2), all >= 0.
        """

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,), none below its preference."""
        products: Array = gramian.numpy()
        weights = preference_among(len(products), self.preference, default=1 / len(products))
        nonzero = products.diagonal() > 0
        if nonzero.any():
            norms, directions = softened_factor(products[nonzero][:, nonzero])
            weights[nonzero] += self.lift(norms, directions, weights[nonzero])
        return torch.from_numpy(weights)

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array:
        """Weights of two tasks, (N, 2), none below its preference."""
        preference = preference_among(2, self.preference, default=1 / 2)
        return preference + self.lift_pairs(norms, cosines, preference)
