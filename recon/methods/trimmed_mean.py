"""Trimmed mean.

Yin, Chen, Ramchandran & Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML
2018, definition 2.

    in each coordinate:  the mean of the K task gradients without the t smallest and the t largest,  t = ⌊fraction K⌋

Needs the Jacobian. No state, no randomness. Mean scale. With few tasks t can be 0: that is the mean.
"""

from torch import Tensor

from recon.methods.base.hyperparameters import check_below
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method

_BLOCK = 1 << 18


@register_method("trimmed_mean")
class TrimmedMean(JacobianMethod):
    """The mean of the task gradients without the extremes of each coordinate.

    Args:
        fraction: Share of the tasks left out at each end, in [0, 0.5). By default a third: of three, the middle one.
    """

    def __init__(self, fraction: float = 1 / 3) -> None:
        super().__init__()
        self.fraction = check_below("trimmed_mean", "fraction", fraction, low=0, high=0.5)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The trimmed mean of the rows of the (K, P) Jacobian, (P,)."""
        tasks = jacobian.shape[0]
        trimmed = min(int(self.fraction * tasks + 1e-9), (tasks - 1) // 2)  # 1/3 of 3 is 1; one always stays
        update = jacobian.new_empty(jacobian.shape[1])
        # In blocks, which keeps the sorted copy small beside the Jacobian.
        for block, result in zip(jacobian.split(_BLOCK, 1), update.split(_BLOCK), strict=True):
            result.copy_(block.sort(dim=0).values[trimmed : tasks - trimmed].mean(dim=0))
        return update
