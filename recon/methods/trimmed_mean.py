"""Trimmed mean.

Yin, Chen, Ramchandran & Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018, definition 2.

    in each coordinate:  the mean of the K task gradients without the t smallest and the t largest
    t = ⌊fraction K⌋

Needs the Jacobian. No state, no randomness. Mean scale. With few tasks t can be 0, which gives the
mean.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_below
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method

_BLOCK = 1 << 18


@register_method("trimmed_mean")
class TrimmedMean(JacobianMethod):
    """The mean of the task gradients without the extremes of each coordinate.

    Args:
        fraction: Share of the tasks left out at each end, in [0, 0.5). The default is a third: of
            three tasks, the middle one stays.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> jacobian = torch.tensor([[1.0, 0.0], [2.0, 5.0], [9.0, 3.0]])
        >>> create_method("trimmed_mean").combine(jacobian)
        tensor([2., 3.])
    """

    elementwise = True

    def __init__(self, fraction: float = 1 / 3) -> None:
        super().__init__()
        self.fraction = check_below("trimmed_mean", "fraction", fraction, low=0, high=0.5)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The trimmed mean of the rows of the (K, P) Jacobian, (P,)."""
        tasks = jacobian.shape[0]
        trimmed = min(int(self.fraction * tasks + 1e-9), (tasks - 1) // 2)  # 1/3 of 3 is 1; one always stays
        update = jacobian.new_empty(jacobian.shape[1])
        # Blocks keep the sorted copy small beside the Jacobian.
        for block, result in zip(jacobian.split(_BLOCK, 1), update.split(_BLOCK), strict=True):
            kept = block.sort(dim=0).values[trimmed : tasks - trimmed]
            # Row by row: the order in which torch sums over a dimension depends on the place of the
            # column.
            total = torch.zeros_like(kept[0], dtype=torch.promote_types(kept.dtype, torch.float32))
            for row in kept:
                total += row
            result.copy_(total / len(kept))
        return update
