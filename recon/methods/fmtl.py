"""Task-based flat regions (F-MTL): sharpness-aware minimisation of each task.

A wrapper of any gradient method.

Phan, Tran, Tran, Ho, Phung & Le, "Improving Multi-task Learning via Seeking Task-based Flat
Regions", arXiv 2211.13723 (ICCV 2025 as "Beyond Losses Reweighting: Empowering Multi-Task Learning
via the Generalization Perspective").

    g_i = ∇L_i(θ),   h_i = ∇L_i(θ + ε_i) - g_i,   ε_i = ρ g_i / |g_i|
    update of the shared parameters  A(g_1, ..., g_K) + A(h_1, ..., h_K)
    update of a task's own parameters  ∇L_i(θ + ε_i)

A is the wrapped method. A task's own parameters, its head and branches, move along with the shared
ones, by a step of the same length ρ in their own gradient. ``adaptive`` takes ε = ρ θ² g / |θ g|,
element by element (Kwon et al., "ASAM", ICML 2021), as the published code does by default, with ρ =
2.

Needs the Jacobian, and the losses again at each task's perturbed parameters: train with
:meth:`recon.Engine.step`, as :class:`recon.MultiTaskModule` does. A step costs K + 1 forwards of
the whole network, 2 K backwards, K more backwards through heads and branches, and memory for four
more copies of the shared parameters.

The low-loss part g and the flat part h have one wrapped method each, equally seeded. State,
randomness and scale are those of the wrapped method. A single task is trained plainly.

Works in one process, and without accumulation: each task is evaluated at perturbed parameters of
its own, which follow from its whole gradient of the whole batch.

As in the published code, perturbed forwards leave running statistics alone, except for heads inside
a function that is compiled with them, and dropout draws anew in each forward. An analyzer sees g,
the gradients at the unperturbed parameters. A zero gradient perturbs nothing.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_above, check_options
from recon.methods.base.kinds import JacobianMethod
from recon.methods.base.registry import register_method
from recon.methods.base.sharpness import ascent, gradient_method
from recon.methods.base.step_engine import Closure, Info, StepEngine

Steps = tuple[Sequence[Tensor], Sequence[Tensor]]
"""Parameters, and a step for each."""


@register_method("fmtl")
class FMTL(JacobianMethod):
    """The update of another method for low losses, plus its update for flat ones.

    Args:
        method: Name of a registered Gramian or Jacobian method.
        rho: Length of the perturbations, > 0.
        adaptive: Whether perturbations are measured relative to the parameters (ASAM).
        method_options: Hyperparameters of the wrapped method.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from recon import Engine, create_method
        >>> backbone = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(backbone.weight)
        >>> optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        >>> engine = Engine(backbone, ["seg", "depth"], create_method("fmtl", method="mgda"))
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> def closure():
        ...     output = backbone(x).sum()
        ...     return {"seg": output**2, "depth": (output - 1) ** 2}
        >>> info = engine.step(closure, optimizer)
        >>> backbone.weight.detach()
        tensor([[0.5776, 0.1553]])
    """

    evaluates_again: ClassVar[bool] = True
    needs_one_process: ClassVar[bool] = True

    def __init__(
        self,
        method: str = "cagrad",
        rho: float = 0.05,
        adaptive: bool = False,
        method_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.rho = check_above("fmtl", "rho", rho, low=0)
        if not isinstance(adaptive, bool):
            raise ValueError(f"fmtl: adaptive must be True or False, got {adaptive!r}")
        self.adaptive = adaptive
        self.method_options = check_options("fmtl", method_options)
        self.low_loss = gradient_method("fmtl", method, self.method_options)
        self.flatness = deepcopy(self.low_loss)
        self.scale = self.low_loss.scale  # type: ignore[misc]  # elsewhere a constant of the class
        self.needs_all_tasks = self.low_loss.needs_all_tasks  # type: ignore[misc]

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The low-loss part of the update, (P,): all of it where the losses are flat."""
        return self.low_loss.combine(jacobian, losses)

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Step the network; the batch is evaluated at θ and at each task's θ + ε."""
        optimizer.zero_grad()
        losses = closure()
        if len(losses) == 1 or not engine.gradients.parameters:  # the shared part is frozen
            info = engine.backward(losses)
            optimizer.step()
            return info
        own = [(parameters, self._ascent(parameters, grads)) for parameters, grads in engine.own_gradients(losses)]
        info = engine.backward(losses)
        if not info.overflow:
            for parameter in chain(*(parameters for parameters, _ in own)):
                parameter.grad = None  # it gets its gradient at the perturbed parameters
            self._add_flat_part(engine, closure, info.losses, own)
        optimizer.step()
        return info

    def _add_flat_part(
        self, engine: StepEngine[Info], closure: Closure, losses: Mapping[str, Tensor], own: Sequence[Steps]
    ) -> None:
        """Add the update for h, by an evaluation at each task's perturbed parameters.

        Args:
            engine: After the backward for g.
            closure: Evaluates the batch again.
            losses: Present task -> loss at the unperturbed parameters.
            own: The perturbation of each present task's own parameters.
        """
        shared = engine.gradients.parameters
        for task, row, (parameters, own_ascent) in zip(losses, engine.gradients.jacobian, own, strict=True):
            shared_ascent = self._ascent(shared, engine.like_parameters(row))
            with engine.perturbed([*shared, *parameters], [*shared_ascent, *own_ascent]):
                engine.task_gradient_change(task, closure())
        values = torch.stack(list(losses.values()))
        with self.among([engine.tasks.index(task) for task in losses]):
            engine.add_combination(lambda jacobian: self.flatness.combine(jacobian, values))

    def _ascent(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        lengths = [parameter.detach().abs() for parameter in parameters] if self.adaptive else None
        return ascent(gradients, self.rho, lengths)

    def bind(self, tasks: int) -> None:
        self.low_loss.bind(tasks)
        self.flatness.bind(tasks)

    def reseed(self, seed: int) -> None:
        if "seed" not in (self.method_options or {}):
            self.low_loss.reseed(seed)
            self.flatness.reseed(seed)

    def end_epoch(self) -> None:
        self.low_loss.end_epoch()
        self.flatness.end_epoch()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
