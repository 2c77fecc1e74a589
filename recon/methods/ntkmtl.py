"""NTKMTL: tasks weighted by the speed at which their neural tangent kernel learns.

Qin, Wang, Liao & Yan, "NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent
Kernel Perspective", NeurIPS 2025.

    update Σ w_i g_i,   w_i = (Σ_j λ_j / λ_i)^a,   λ_i = |g_i|²

λ_i is the largest eigenvalue of the kernel of task i over n parts of the batch. For n = 1, as in
the paper's comparison with methods of gradients, the kernel is one number. For a = 1/2 all tasks
contribute vectors of one length, the root of the sum of all squared norms.

Needs the diagonal of the Gramian. No state, no randomness. Sum scale: K equal task gradients have
weights of K^a each. A zero gradient takes no part.

NTKMTL-SR, its form at the shared representation, is ``at="representation"`` of the engine, with
``parts=4`` as published. The features of different samples are different columns, so the kernel of
n parts is diagonal: λ_i is the largest squared norm of the gradients of the parts' mean losses.
This holds for heads that do not mix samples, as a batch norm does. It works in one process.

The published code weights heads by w_i too in that form; here each head has the gradient of its own
task. The published code multiplies the update of NTKMTL by K and clips it to length 1; here neither
is done. Its NTKMTL with n > 1 at the parameters is "not used in experiments"; it is refused here.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count, check_number
from recon.methods.base.kinds import GramianMethod
from recon.methods.base.registry import register_method


@register_method("ntkmtl")
class NTKMTL(GramianMethod):
    """The task gradients, weighted by the inverse of their length relative to all.

    Args:
        exponent: a, in [0, 1]; 0 is the plain sum. The default is the paper's; its authors advise
            0.75 for tasks that are hard to train.
        parts: n, a whole number >= 1; above 1 at the representation alone.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("ntkmtl")
        >>> method.combine(torch.tensor([[4.0, 0.0], [0.0, 3.0]]))
        tensor([5., 5.])
    """

    scale = "sum"

    def __init__(self, exponent: float = 0.5, parts: int = 1) -> None:
        super().__init__()
        self.exponent = check_number("ntkmtl", "exponent", exponent, low=0, high=1)
        self.parts = check_count("ntkmtl", "parts", parts, low=1)
        self.needs_one_process = parts > 1  # type: ignore[misc]  # elsewhere a constant of the class

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,).

        Raises:
            ValueError: The method weighs by parts of the batch, such as inside of another method.
        """
        self._check_whole_batch()
        return self._weights(gramian.diagonal())

    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """The same in each group of layers, (G, K)."""
        self._check_whole_batch()
        return self._weights(gramians.diagonal(dim1=-2, dim2=-1))

    def weights_of_parts(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients, (K,), by those of parts of the batch.

        Args:
            gramians: (n, K, K), the inner products in the features of each part.
            losses: Not needed.
        """
        return self._weights(gramians.diagonal(dim1=-2, dim2=-1).amax(dim=0))

    def _check_whole_batch(self) -> None:
        if self.parts > 1:
            raise ValueError(
                f"ntkmtl: parts={self.parts} needs the gradients of parts of the batch, which no method around it "
                "hands on; take parts=1, or train by ntkmtl itself with at='representation'"
            )

    def _weights(self, squares: Tensor) -> Tensor:
        """Weights by the λ, (..., K)."""
        total = squares.sum(dim=-1, keepdim=True)
        return torch.where(squares > 0, (total / squares) ** self.exponent, 0)
