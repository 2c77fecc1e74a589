"""Gradient sign dropout (GradDrop).

Chen, Ngiam, Huang, Luong, Kretzschmar, Chai & Anguelov, "Just Pick a Sign: Optimizing Deep
Multitask Models with Gradient Sign Dropout", NeurIPS 2020, algorithm 1, lines 10 to 15. In each
coordinate:

    purity = (1 + Σ g_i / Σ |g_i|) / 2
    keep the positive g_i with probability purity, else the negative ones
    update (1/K) Σ (leak + (1 - leak) kept_i) g_i

Needs the Jacobian. The only state is the generator of the choices, one number per coordinate. The
update is a mean over tasks (mean scale) of parameter gradients, as in the code published with
CAGrad, which comparisons in the field use. The paper sums, and applies the method to the gradients
of shared activations. A coordinate in which all gradients are zero stays zero.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import register_method

_BLOCK = 1 << 16
_BLOCK_ON_ACCELERATOR = 1 << 24


@register_method("graddrop")
class GradDrop(RandomMethod, JacobianMethod):
    """The mean of the task gradients of one sign, drawn in each coordinate.

    Args:
        leak: Share of each gradient that passes whatever its sign, in [0, 1]; 1 gives the plain
            mean.
        seed: Seed of the signs.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("graddrop", seed=0)
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([2., 1.])
    """

    elementwise = True

    def __init__(self, leak: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed)
        self.leak = check_number("graddrop", "leak", leak, low=0, high=1)

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The mean of the rows of the (K, P) Jacobian that have the drawn sign, (P,)."""
        return self.combine_columns(jacobian, slice(None), jacobian.shape[1], losses)

    def combine_columns(self, jacobian: Tensor, columns: slice, width: int, losses: Tensor | None = None) -> Tensor:
        """These elements of the update; all processes draw the same numbers for the whole width."""
        generator = self.generator_on(jacobian.device)
        uniform = torch.rand(width, generator=generator, dtype=torch.float32, device=jacobian.device)[columns]
        update = jacobian.new_empty(jacobian.shape[1])
        # The temporaries of a block stay in the cache of a processor.
        size = _BLOCK if jacobian.device.type == "cpu" else _BLOCK_ON_ACCELERATOR
        for block, draws, result in zip(jacobian.split(size, 1), uniform.split(size), update.split(size), strict=True):
            positive, negative = _signed_sums(block)
            # draws < purity = positive / (positive - negative), without its 0/0.
            kept = torch.where(draws * (positive - negative) < positive, positive, negative)
            result.copy_((self.leak * (positive + negative) + (1 - self.leak) * kept) / jacobian.shape[0])
        return update


def _signed_sums(block: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the positive and of the negative numbers of each column, (P,) each.

    Row by row: the order in which torch sums over a dimension depends on the place of the column.
    """
    wide = torch.promote_types(block.dtype, torch.float32)
    positive, negative = block.new_zeros(2, block.shape[1], dtype=wide)
    of_one_sign = torch.empty_like(block[0])
    for gradient in block:
        positive += torch.clamp(gradient, min=0, out=of_one_sign)
        negative += torch.clamp(gradient, max=0, out=of_one_sign)
    return positive.to(block), negative.to(block)
