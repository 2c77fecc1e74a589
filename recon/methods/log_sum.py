"""The sum of the logarithms of the losses, which their units do not change; also called scale-invariant (SI).

The baseline of Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning as a Bargaining
Game", ICML 2022.

    min Σ log L_i,   update Σ g_i / L_i

Needs only the losses, which must be positive, and one backward. No state, no randomness. Sum scale, of gradients of
logarithms: where losses are far from 1, so is the length of the update. The direction is that of `gls`.
"""

from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.kinds import LossMethod
from recon.methods.base.registry import register_method


@register_method("log_sum")
class LogSum(LossMethod):
    """The sum of the logarithms of the losses."""

    scale = "sum"

    def loss_weights(self, losses: Tensor) -> Tensor:
        """Inverse losses, (K,)."""
        check_positive("log_sum", losses)
        return 1 / losses
