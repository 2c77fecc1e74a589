"""The engine within a step, as a method sees it that evaluates the losses once or several times."""

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


class Evaluations:
    """What :meth:`recon.Method.step` works with: it evaluates the losses, and has their gradients taken here.

    Args:
        setting: What the engine keeps from step to step.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks, in the order of the Jacobian's rows."""
        return self._setting.tasks

    @property
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients: made when first needed, and anew if the network is moved, cast or unfrozen."""
        return self._setting.shared.gradients

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> StepInfo:
        """As :meth:`recon.Engine.backward`; an error leaves the method to the step that surrounds it."""
        evaluation = Evaluation.given(losses, representation)
        info = fill_grad(evaluation, self._setting, self._setting.shared.analyzer)
        self._setting.step_count += 1
        return info

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters outside the shared layers that a loss reaches: those of its task's head and branches."""
        shared = self._setting.shared.trainable()
        return [p for p in reached_leaves(loss) if isinstance(p, nn.Parameter) and p not in shared]

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each task the parameters outside the shared layers that its loss reaches, and its gradients in them."""
        return [self._own_gradients(loss) for loss in check_losses(losses, self.tasks, self._setting.step_count)]

    def _own_gradients(self, loss: Tensor) -> tuple[list[nn.Parameter], list[Tensor]]:
        own = self.own_parameters(loss)
        if not own:
            return [], []
        gradients = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
        return own, [torch.zeros_like(p) if g is None else g.to_dense() for p, g in zip(own, gradients, strict=True)]

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        """One backward of one task's loss: its row of the Jacobian becomes by how much the gradient has changed.

        The task's own parameters receive their gradient in ``.grad``; ``.grad`` of the shared parameters stays.

        Args:
            task: Name of the task.
            losses: Task -> scalar loss with a graph; that of the task is freed.
        """
        gradients, row = self.gradients, self.tasks.index(task)
        with without_grad(gradients.parameters):
            check_losses(losses, self.tasks, self._setting.step_count)[row].backward()
            gradients.fill_row_with_change(row)

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses (K,) of another evaluation in a step, detached, in the order of the tasks.

        Raises:
            ValueError: One is missing, unknown, no scalar, or not finite.
        """
        values = torch.stack([loss.detach() for loss in ordered_losses(losses, self.tasks, self._latest_step)])
        self._setting.watches.losses.watch(self._latest_step, values)
        return values

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        """A (P,) row of the Jacobian as views in the shapes of ``gradients.parameters``."""
        return self.gradients.like_parameters(flat)

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Move parameters for a ``with`` block; see :func:`recon.engine.perturbation.perturbed`."""
        return perturbed(parameters, steps, self._setting.shared.module)

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        """Add ``combine(jacobian)``, (K, P) -> (P,), to ``.grad`` of the shared parameters, at the engine's scale.

        The Jacobian is the one that :meth:`backward` and :meth:`task_gradient_change` have left.
        """
        gradients, watches = self.gradients, self._setting.watches
        watches.gradients.watch(self._latest_step, torch.linalg.vector_norm(gradients.jacobian, dim=1))
        with combining(gradients.jacobian.device, gradients.precision):
            update = combine(gradients.jacobian) * self._setting.scale
            watches.watch_update(self._latest_step, update)
            gradients.add_to_grad(update)

    @property
    def _latest_step(self) -> int:
        return self._setting.step_count - 1  # backward has counted it
