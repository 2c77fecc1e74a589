"""SAMO: sharpness-aware minimisation by a perturbation that all tasks and each task share.

A wrapper of any gradient method.

Ban, Subramani & Ji, "SAMO: A Lightweight Sharpness-Aware Approach for Multi-Task Optimization with
Joint Global-Local Perturbation", ICCV 2025.

    g = ∇ (1/K) Σ L_i(θ),   δ_i = L_i(θ + μ z_i) - L_i(θ - μ z_i),   z_i normal
    ε_i = ρ e_i / |e_i|,   e_i = (1 - β) g + β |g| sign(δ_i) z_i / |z_i|  in each parameter tensor
    update of the shared parameters  A(h_1, ..., h_K),   h_i = ∇L_i(θ + ε_i)
    update of a task's own parameters  ∇L_i(θ + ε_i)

A is the wrapped method. δ_i z_i / 2μ estimates a task's gradient by two forwards; it is made as
long as g in each tensor. A task's own parameters, its head and branches, move along by a step of
length ρ in their own gradient.

Needs the Jacobian, and the losses again: train with :meth:`recon.Engine.step`, as
:class:`recon.MultiTaskModule` does. A step costs one backward, 2 K forwards, and for each task one
forward and backward. State and scale are those of the wrapped method. The directions z_i come from
a generator of this method. A single task is trained plainly.

Works in one process, and without accumulation: each task is evaluated at perturbed parameters of
its own, which follow from the gradient of the whole batch.

The published code takes δ_i in evaluation mode; here, as all else, it is taken in training mode,
and running statistics are left alone. For NYUv2 it leaves out the division by tensors. It also
multiplies the update by K and clips it to length 1. Here neither is done.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_above, check_number, check_options
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.randomness import RandomMethod
from recon.methods.base.registry import register_method
from recon.methods.base.sharpness import ascent, gradient_method
from recon.methods.base.step_engine import Closure, Info, StepEngine


@register_method("samo")
class SAMO(RandomMethod, JacobianMethod):
    """The update of another method for task gradients at perturbed parameters.

    Args:
        method: Name of a registered Gramian or Jacobian method. The published experiments take
            ``fairgrad`` with α = 2.
        rho: ρ, the length of the perturbations, > 0. The default is the published experiments'.
        beta: β, the share of the task's own estimate, in [0, 1]; 0 perturbs all tasks alike. The
            default is the published experiments'.
        zo_eps: μ, the length of the differences, > 0. The default is the published code's.
        method_options: Hyperparameters of the wrapped method.
        seed: Seed of the directions.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from recon import Engine, create_method
        >>> backbone = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(backbone.weight)
        >>> optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        >>> method = create_method("samo", method="mgda", beta=0)
        >>> engine = Engine(backbone, ["seg", "depth"], method)
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> def closure():
        ...     output = backbone(x).sum()
        ...     return {"seg": output**2, "depth": (output - 1) ** 2}
        >>> info = engine.step(closure, optimizer)
        >>> backbone.weight.detach()
        tensor([[0.5996, 0.1991]])
    """

    evaluates_again: ClassVar[bool] = True
    needs_one_process: ClassVar[bool] = True

    def __init__(
        self,
        method: str = "fairgrad",
        rho: float = 0.001,
        beta: float = 0.5,
        zo_eps: float = 0.01,
        method_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.method = method
        self.rho = check_above("samo", "rho", rho, low=0)
        self.beta = check_number("samo", "beta", beta, low=0, high=1)
        self.zo_eps = check_above("samo", "zo_eps", zo_eps, low=0)
        self.method_options = check_options("samo", method_options)
        self.wrapped = gradient_method("samo", method, self.method_options)
        self.scale = self.wrapped.scale  # type: ignore[misc]  # elsewhere a constant of the class
        self.needs_all_tasks = self.wrapped.needs_all_tasks  # type: ignore[misc]

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The mean of the task gradients, (P,), from which the perturbations start."""
        return jacobian.mean(dim=0)

    def known_weights(self) -> Tensor:
        """The weights of that mean, (K,): the engine needs no task gradients for it."""
        tasks = self._tasks if self._present is None else len(self._present)
        return torch.full((tasks,), 1 / tasks, dtype=torch.float64)

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Step the network; the batch is evaluated at θ, beside it, and at each task's θ + ε."""
        optimizer.zero_grad()
        losses = closure()
        shared = engine.gradients.parameters
        plain = len(losses) == 1 or not shared  # the shared part is frozen
        own = [] if plain else engine.own_gradients(losses)
        info = engine.backward(losses)
        if not plain and not info.overflow:
            mean = [_taken(parameter) for parameter in shared]
            for parameter in chain(*(parameters for parameters, _ in own)):
                parameter.grad = None  # it gets its gradient at the perturbed parameters
            for row, (task, (parameters, gradients)) in enumerate(zip(info.losses, own, strict=True)):
                steps = [*self._perturbation(engine, closure, row, mean), *ascent(gradients, self.rho)]
                with engine.perturbed([*shared, *parameters], steps):
                    engine.task_gradient(task, closure())
            values = torch.stack(list(info.losses.values()))
            with self.among([engine.tasks.index(task) for task in info.losses]):
                engine.add_combination(lambda jacobian: self.wrapped.combine(jacobian, values))
        optimizer.step()
        return info

    def _perturbation(
        self, engine: StepEngine[Info], closure: Closure, row: int, mean: Sequence[Tensor]
    ) -> list[Tensor]:
        """The step ε in the shared parameters, of the task in this place of the losses."""
        if self.beta == 0:
            return ascent(mean, self.rho)
        generator = self.generator_on(mean[0].device)
        directions = [torch.randn(g.shape, generator=generator, dtype=g.dtype, device=g.device) for g in mean]
        parameters, ends = engine.gradients.parameters, []
        for length in (self.zo_eps, -self.zo_eps):
            with engine.perturbed(parameters, [length * z for z in directions]), torch.no_grad():
                ends.append(engine.loss_values(closure())[row])
        sign = (ends[0] - ends[1]).sign()
        joint = [
            (1 - self.beta) * g + self.beta * sign * (g.norm() / z.norm()) * z
            for g, z in zip(mean, directions, strict=True)
        ]
        return ascent(joint, self.rho)

    def bind(self, tasks: int) -> None:
        self.wrapped.bind(tasks)
        self._tasks = tasks

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        if hasattr(self, "wrapped") and "seed" not in (self.method_options or {}):
            self.wrapped.reseed(seed)

    def end_epoch(self) -> None:
        self.wrapped.end_epoch()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _taken(parameter: Tensor) -> Tensor:
    """The gradient of a parameter, which no longer has it."""
    gradient, parameter.grad = parameter.grad, None
    return torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
