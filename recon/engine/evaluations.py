"""The engine within a step: gradients for a method that evaluates the losses once or more often."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from recon.engine.checks import check_losses, ordered_losses
from recon.engine.dispatch import fill_grad
from recon.engine.evaluation import Evaluation
from recon.engine.perturbation import perturbed
from recon.engine.precision import combining
from recon.engine.setting import Setting
from recon.engine.step_info import StepInfo
from recon.gradients.buffer import TaskGradients
from recon.gradients.graph import reached_leaves, without_grad
from recon.methods.base.step_engine import StepEngine


class Evaluations(StepEngine[StepInfo]):
    """The evaluations of one step, whose gradients :meth:`recon.Method.step` takes here.

    Args:
        setting: The choices and the state of the engine.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks, in the order of the Jacobian's rows."""
        return self._setting.tasks

    @property
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients, made at first use.

        It is made again when the network has been moved, cast or unfrozen.
        """
        return self._setting.shared.gradients

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> StepInfo:
        evaluation = Evaluation.given(losses, representation)
        info = fill_grad(evaluation, self._setting, self._setting.shared.analyzer)
        self._setting.step_count += 1
        return info

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        shared = self._setting.shared.trainable()
        return [p for p in reached_leaves(loss) if isinstance(p, nn.Parameter) and p not in shared]

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        return [self._own_gradients(loss) for loss in check_losses(losses, self.tasks, self._setting.step_count)]

    def _own_gradients(self, loss: Tensor) -> tuple[list[nn.Parameter], list[Tensor]]:
        own = self.own_parameters(loss)
        if not own:
            return [], []
        gradients = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
        return own, [torch.zeros_like(p) if g is None else g.to_dense() for p, g in zip(own, gradients, strict=True)]

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        gradients, row = self.gradients, self.tasks.index(task)
        with without_grad(gradients.parameters):
            check_losses(losses, self.tasks, self._setting.step_count)[row].backward()
            gradients.fill_row_with_change(row)

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = torch.stack([loss.detach() for loss in ordered_losses(losses, self.tasks, self._latest_step)])
        self._setting.watches.losses.watch(self._latest_step, values)
        return values

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        return self.gradients.like_parameters(flat)

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        return perturbed(parameters, steps, self._setting.shared.module)

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        gradients, watches = self.gradients, self._setting.watches
        watches.gradients.watch(self._latest_step, torch.linalg.vector_norm(gradients.jacobian, dim=1))
        with combining(gradients.jacobian.device, gradients.precision):
            update = combine(gradients.jacobian) * self._setting.scale
            watches.watch_update(self._latest_step, update)
            gradients.add_to_grad(update)

    @property
    def _latest_step(self) -> int:
        return self._setting.step_count - 1  # backward has counted it
