"""Multi-objective meta learning (MOML) of the loss weights.

Ye, Lin, Yue, Guo, Xiao & Zhang, "Multi-Objective Meta Learning", NeurIPS 2021, section 4.3.

    θ'(w) = θ - η Σ_j w_j ∇L_j(θ),   w = softmax(a)
    a descends, by Adam, along  Σ_t λ_t ∇_a V_t(θ'(w)),   V the losses of a validation batch
    λ the weights of the shortest convex combination of the ∇_a V_t, each made a unit vector
    update Σ w_j ∇L_j(θ) with the new w

So w serves all tasks on held-out data, and none at the cost of another. Needs the losses, and a
validation batch in each step (:meth:`recon.Engine.step`). The state is a, from 0, and its Adam. No
randomness. The weights sum to 1 (mean scale).

As in the published code, one virtual step of plain gradient descent is made. Its slopes need no
second derivative: they are inner products of the gradients at θ and at θ'. The published code takes
the training losses of a third batch for the update; here the virtual and the real step have the
same one.

Works in one process, and without accumulation.
"""

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_number
from recon.methods.base.learned_weights import LearnedWeights
from recon.methods.base.look_ahead import LookAheadMethod
from recon.methods.base.registry import register_method
from recon.methods.mgda import MGDA

_COMMON = MGDA(normalization="l2")  # it has no state


@register_method("moml")
class MOML(LookAheadMethod):
    """The losses, with weights that are learned on validation batches.

    Args:
        lr: Learning rate of the Adam that moves a, >= 0. The default is the published code's.
        virtual_lr: η, the rate of the virtual step, >= 0. The default is the published code's.

    Example:
        >>> import torch
        >>> from recon import Engine, create_method
        >>> backbone = torch.nn.Linear(2, 1, bias=False)
        >>> engine = Engine(backbone, ["seg", "depth"], create_method("moml"))
        >>> optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        >>> def losses(x):
        ...     y = backbone(x)
        ...     return {"seg": y.square().mean(), "depth": (y - 1).square().mean()}
        >>> training, held_out = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
        >>> info = engine.step(
        ...     lambda batch=None: losses(training), optimizer, validation=lambda: losses(held_out)
        ... )
        >>> engine.method.simplex().shape
        torch.Size([2])
    """

    simplex: LearnedWeights

    def __init__(self, lr: float = 1e-3, virtual_lr: float = 1e-4) -> None:
        super().__init__()
        self.lr = check_number("moml", "lr", lr, low=0)
        self.virtual_lr = check_number("moml", "virtual_lr", virtual_lr, low=0)

    def make_state(self, tasks: int) -> None:
        self.simplex = LearnedWeights(tasks, self.lr)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """A point of the simplex, (K,)."""
        return self.simplex().to(losses)

    def rates(self, parameters: list[Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
        return [self.virtual_lr] * len(parameters)

    def virtual_weights(self) -> Tensor:
        return self.simplex()

    def learn(self, slopes: Tensor, tasks: list[int]) -> None:
        weights = self.virtual_weights().to(slopes)
        in_logits = weights * (slopes - (slopes @ weights)[:, None])
        common = _COMMON.weights(in_logits @ in_logits.T)
        self.simplex.descend(
            (common @ slopes).to(self.simplex.logits), torch.zeros_like(self.simplex.logits, dtype=torch.bool)
        )
