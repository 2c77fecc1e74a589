"""Auto-λ: loss weights by a look ahead to the validation losses of the primary tasks.

Liu, James, Davison & Johns, "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022,
algorithm 1.

    θ'(λ) = θ - r (m + Σ_j λ_j ∇L_j(θ) + d θ),   r, m, d the optimizer's rate, momentum and decay
    λ descends, by Adam, along  Σ_t ∇_λ V_t(θ'(λ)),   V the losses of a validation batch, t primary
    update Σ λ_j ∇L_j(θ) with the new λ

Needs the losses, and a validation batch in each step (:meth:`recon.Engine.step`). The state is λ,
which may become negative, and its Adam. No randomness. Sum scale, with weights of 0.1 at first.

The published code estimates the slopes by finite differences of the training losses; they are the
inner products -r ∇V_t(θ')·∇L_j(θ), which we compute. As there, θ' follows stochastic gradient
descent with momentum; for another optimizer, such as Adam, it is a plain step at its rate.

Works in one process, and without accumulation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count, check_number
from recon.methods.base.learned_weights import TaskAdam
from recon.methods.base.look_ahead import LookAheadMethod
from recon.methods.base.registry import register_method


@register_method("auto_lambda")
class AutoLambda(LookAheadMethod):
    """The losses, with weights by which the next step serves the primary tasks best.

    Args:
        lr: Learning rate of the Adam that moves λ, >= 0. The default is the published code's.
        start: λ at first, a finite number. The default is the paper's.
        primary: Indices of the primary tasks, in task order; all tasks by default.

    Example:
        >>> import torch
        >>> from recon import Engine, create_method
        >>> backbone = torch.nn.Linear(2, 1, bias=False)
        >>> engine = Engine(backbone, ["seg", "depth"], create_method("auto_lambda", primary=[0]))
        >>> optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        >>> def losses(x):
        ...     y = backbone(x)
        ...     return {"seg": y.square().mean(), "depth": (y - 1).square().mean()}
        >>> training, held_out = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
        >>> info = engine.step(
        ...     lambda batch=None: losses(training), optimizer, validation=lambda: losses(held_out)
        ... )
        >>> engine.method.factors.shape
        torch.Size([2])
    """

    scale = "sum"
    factors: Tensor
    adam: TaskAdam

    def __init__(self, lr: float = 1e-4, start: float = 0.1, primary: Sequence[int] | None = None) -> None:
        super().__init__()
        self.lr = check_number("auto_lambda", "lr", lr, low=0)
        self.start = check_number("auto_lambda", "start", start, low=-torch.inf)
        self.primary = None if primary is None else _indices(primary)

    def make_state(self, tasks: int) -> None:
        """Start with equal weights, (K,).

        Raises:
            ValueError: A primary task does not exist, or there is none.
        """
        if self.primary is not None and (not self.primary or max(self.primary) >= tasks):
            raise ValueError(f"auto_lambda: primary must be indices of {tasks} tasks, got {self.primary}")
        self.register_buffer("factors", torch.full((tasks,), self.start, dtype=torch.float64))
        self.adam = TaskAdam(tasks, self.lr)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """λ, (K,)."""
        return self.factors.to(losses)

    def rates(self, parameters: list[Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
        return [float(_group(parameter, optimizer).get("lr", 0.0)) for parameter in parameters]

    def drift(self, parameter: Tensor, optimizer: torch.optim.Optimizer) -> Tensor | float:
        group = _group(parameter, optimizer)
        decay: Tensor = group.get("weight_decay", 0.0) * parameter.detach()
        momentum = optimizer.state.get(parameter, {}).get("momentum_buffer")
        return decay if momentum is None else decay + group["momentum"] * momentum

    def virtual_weights(self) -> Tensor:
        return self.factors

    def learn(self, slopes: Tensor, tasks: list[int]) -> None:
        chosen = [row for row, task in enumerate(tasks) if self.primary is None or task in self.primary]
        if not chosen:  # a batch without a primary task says nothing
            return
        gradient = slopes[chosen].sum(dim=0).to(self.factors)
        self.factors = self.adam.moved(self.factors, gradient, torch.zeros_like(gradient, dtype=torch.bool))


def _indices(primary: Sequence[int]) -> list[int]:
    if isinstance(primary, str) or not isinstance(primary, Iterable):
        raise ValueError(
            f"auto_lambda: primary must be a list of indices of tasks, got {primary!r}; give [0] or [0, 2]"
        )
    return [check_count("auto_lambda", "primary", index, low=0) for index in primary]


def _group(parameter: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's settings for a parameter; none for a parameter that it does not train."""
    groups = (group for group in optimizer.param_groups if any(parameter is p for p in group["params"]))
    return next(groups, {})
