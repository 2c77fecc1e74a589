"""Uncertainty weights (UW).

Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
and Semantics", CVPR 2018, equation 7 for regression, in the log-variances s_i of section 3.2.

    min ½ Σ exp(-s_i) L_i + s_i,   update Σ ½ exp(-s_i) g_i;   s_i is learned along with the network

Needs only the losses, and one backward. The state is the K learned log-variances, one parameter per
task. The network's optimizer trains them, so give it the method's parameters too, as
:class:`recon.MultiTaskModule` does. Sum scale, with weights of ½ at first.

All losses take the regression form, as in the code that comparisons in the field use. The paper has
no ½ before classification losses, which only shifts s_i by a constant. The paper finds equal
results for starts from -2 to 5; ours is 0.
"""

from torch import Tensor

from recon.methods.base.registry import register_method
from recon.methods.base.scaled_losses import ScaledLossMethod


@register_method("uw")
class UW(ScaledLossMethod):
    """The losses, each divided by a learned variance.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("uw")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([1.5000, 1.0000])
    """

    factor = 0.5
    saved_as = "log_variances"

    @property
    def log_variances(self) -> Tensor:
        """The learned log-variances, (K,), with their graph."""
        return self.by_task.stacked()

    def log_scales_of_tasks(self) -> Tensor:
        return -self.log_variances
