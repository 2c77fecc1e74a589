"""Random loss weighting (RLW).

Lin, Ye & Zhang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
Learning", TMLR 2022, algorithm 2, with normal draws.

    w = softmax(z),  z_i ~ N(0, 1) anew in each step;   update Σ w_i g_i

Needs only the losses, and one backward. The only state is the generator of the draws. The weights
sum to 1 (mean scale).
"""

import torch
from torch import Tensor

from recon.methods.base.kinds import LossMethod
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import register_method


@register_method("rlw")
class RLW(RandomMethod, LossMethod):
    """The losses, weighted at random in each step.

    Args:
        seed: Seed of the weights.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("rlw")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses=torch.tensor([2.0, 1.0]))
        tensor([0.7994, 1.2802])
    """

    def loss_weights(self, losses: Tensor) -> Tensor:
        """A random point of the simplex, (K,)."""
        generator = self.generator_on(losses.device)
        draws = torch.randn(losses.shape, generator=generator, dtype=torch.float32, device=losses.device)
        return draws.softmax(0).to(losses.dtype)
