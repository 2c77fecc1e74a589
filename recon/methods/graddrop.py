"""Gradient sign dropout (GradDrop).

Chen, Ngiam, Huang, Luong, Kretzschmar, Chai & Anguelov, "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
NeurIPS 2020, algorithm 1, lines 10 to 15.

    purity = (1 + sum_i g_i / sum_i |g_i|) / 2;   in each coordinate keep the positive g_i with probability purity, else the negative;
    update mean_i (leak + (1 - leak) kept_i) g_i

Needs the Jacobian. Randomness: one number a parameter, drawn on the Jacobian's device; no other state. The update is a mean over tasks
(mean scale), as in the code published with CAGrad that the comparisons of the field use; the paper sums. Applied to parameter gradients,
as there; the paper applies it to the gradients of the shared activations. A coordinate where all gradients are zero stays zero.
"""

import torch
from torch import Tensor

from recon.methods.checks import check_number
from recon.methods.method import JacobianMethod, RandomMethod
from recon.methods.registry import register_method


@register_method("graddrop")
class GradDrop(RandomMethod, JacobianMethod):
    """Mean of the task gradients of one sign, chosen at random for every coordinate.

    Args:
        leak: Share of each gradient that passes whatever its sign, in [0, 1]; 1 is the plain mean.
        seed: Seed of the choice of signs.
    """

    def __init__(self, leak: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed)
        self.leak = check_number("graddrop", "leak", leak, low=0.0, high=1.0)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Sign-dropped mean of the rows of the (K, P) Jacobian, (P,)."""
        positive = jacobian.clamp(min=0).sum(dim=0)
        negative = jacobian.clamp(max=0).sum(dim=0)
        uniform = torch.rand(
            positive.shape, generator=self.generator_on(jacobian.device), dtype=torch.float32, device=jacobian.device
        )
        # uniform < purity, with purity = positive / (positive - negative) multiplied out: no division by zero.
        kept = torch.where(uniform * (positive - negative) < positive, positive, negative)
        return (self.leak * (positive + negative) + (1 - self.leak) * kept) / len(jacobian)
