"""Impartial multi-task learning (IMTL): balanced losses, then balanced gradients.

Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-task Learning", ICLR 2021,
algorithm 1.

    update: that of `imtl_g` for the scaled gradients exp(s_i) g_i
    s_i descends along  exp(s_i) L_i - s_i

Needs the Gramian, and positive losses; a task whose loss is 0 takes no part. The state is the K
learned log-scales, from 0, one parameter per task. The network's optimizer trains them, so give it
the method's parameters too, as :class:`recon.MultiTaskModule` does. Their gradient, exp(s_i) L_i -
1, is added to ``.grad`` when the weights are computed. Mean scale, of the scaled gradients.

In the paper a head is trained by its scaled loss. Here it is trained by its own loss, as with all
gradient methods.
"""

from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.learned_scalars import LearnedScalarsMethod
from recon.methods.base.registry import register_method
from recon.methods.imtl_g import IMTLG

_BALANCE = IMTLG()  # of the gradients; it has no state


@register_method("imtl")
class IMTL(LearnedScalarsMethod, GramianMethod):
    """The combination of scaled task gradients with equal products with their directions.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("imtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([0.7929, 1.2829])
    """

    saved_as = "log_scales"

    @property
    def log_scales(self) -> Tensor:
        """The learned log-scales, (K,), with their graph."""
        return self.by_task.stacked()

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the unscaled task gradients, (K,)."""
        losses = self._positive(losses)
        if not losses.all():
            return self.weights_without(losses == 0, gramian, losses)
        scales = self._take_scales(losses)
        return scales * _BALANCE.weights(gramian * scales.outer(scales))

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same for all groups of layers, (G, K), whose gradients have the same scales."""
        losses = self._positive(losses)
        if not losses.all():
            return self.weights_without(losses == 0, gramians, losses)
        scales = self._take_scales(losses)
        return scales * _BALANCE.weights_of_groups(gramians * scales.outer(scales))

    def _positive(self, losses: Tensor | None) -> Tensor:
        if losses is None:
            raise ValueError("imtl: scales the gradients by what it learns from the losses; pass losses")
        check_positive("imtl", losses)
        return losses

    def _take_scales(self, losses: Tensor) -> Tensor:
        """The scales of this step, (K,); ``.grad`` of their logarithms receives its gradient."""
        scales = self.log_scales.detach().cpu().double().exp()
        self.by_task.add_gradient(scales * losses - 1)
        return scales
