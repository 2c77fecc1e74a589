"""Multi-objective gradient correction (MoCo).

Fernando, Shen, Liu, Chaudhury, Murugesan & Chen, "Mitigating Gradient Bias in Multi-objective
Learning: A Provably Convergent Approach", ICLR 2023, equations 7 and 8.

    y_i ← y_i - β_t (y_i - g_i),   λ ← Π(λ - γ_t (YY' + ρI) λ)
    update Y'λ;   β_t = β / √t,  γ_t = γ / √t

Π is the nearest point of the simplex. The tracked gradients Y are less noisy than the gradients of
one batch. For ρ = 0, λ follows the weights of MGDA for Y while γ_t is below 2 over the largest
eigenvalue of YY' + ρI. Above that λ can jump between corners of the simplex, until γ_t has fallen.
The unit of γ is one over squared gradients: longer gradients need a smaller γ.

Needs the Jacobian. The state is Y, from 0, and λ, from 1/K. Y is as large as the Jacobian and is
saved in the checkpoint. Mean scale; updates are shorter in the first steps, while Y grows from 0.
Each task counts its own steps t. In a step with some of the tasks their λ keep their sum.

We follow the paper where the published code differs from it. The code replaces Π by a softmax,
which never leaves the neighbourhood of equal weights, and each gradient by its direction times its
loss. As in the code, the update takes the Y and λ of this step; the paper takes those of the step
before.
"""

import torch
from torch import Tensor

from recon.gradients.precision import widest_dtype
from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.solvers.gramian import gramian_of
from recon.methods.solvers.simplex import among_themselves, nearest_on_simplex_on_device


@register_method("moco")
class MoCo(StatefulMethod, JacobianMethod):
    """A convex combination of tracked task gradients that moves towards the shortest in each step.

    Args:
        beta: How fast the tracked gradients follow, in [0, 1].
        gamma: How fast the weights follow, >= 0; they settle below 2 over the largest eigenvalue of
            YY' + ρI.
        rho: Pull of the weights towards equal ones, >= 0.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("moco")
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5781, 0.5688])
    """

    gradients: Tensor
    weights: Tensor
    steps: Tensor

    def __init__(self, beta: float = 0.5, gamma: float = 0.1, rho: float = 0.0) -> None:
        super().__init__()
        self.beta = check_number("moco", "beta", beta, low=0, high=1)
        self.gamma = check_number("moco", "gamma", gamma, low=0)
        self.rho = check_number("moco", "rho", rho, low=0)

    def make_state(self, tasks: int) -> None:
        self.register_buffer("gradients", torch.zeros(tasks, 0))
        self.register_buffer("weights", torch.full((tasks,), 1 / tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(tasks, dtype=torch.int64))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the tracked gradients, (P,)."""
        self.steps += 1
        decay = self.steps.to(jacobian.device, widest_dtype(jacobian.device)).sqrt()
        gradients = self.tracked("gradients", jacobian)
        gradients.lerp_(jacobian, (self.beta / decay).to(jacobian)[:, None])
        gramian = gramian_of(gradients)
        weights, total = among_themselves(self.weights.to(gramian))
        slope = gramian @ weights + self.rho * weights
        weights = nearest_on_simplex_on_device(weights - self.gamma / decay.to(gramian) * slope)
        self.weights = (total * weights).to(self.weights)
        return weights.to(jacobian) @ gradients
