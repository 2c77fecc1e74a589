"""The engine within a step: gradients for a method that evaluates the losses once or more often."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from recon.engine.agreement import Brought, agree
from recon.engine.checks import check_counts, check_losses, check_validation, scalar_losses
from recon.engine.dispatch import fill_grad
from recon.engine.evaluation import Evaluation
from recon.engine.own_gradients import all_finite, spoil
from recon.engine.perturbation import perturbed
from recon.engine.precision import combining
from recon.engine.setting import Setting
from recon.engine.step_info import StepInfo
from recon.errors import NotFinite
from recon.gradients.buffer import TaskGradients
from recon.gradients.graph import accumulate, reached_leaves, without_grad
from recon.gradients.sharded import Gradients
from recon.methods.base.step_engine import StepEngine


class Evaluations(StepEngine[StepInfo]):
    """The evaluations of one step, whose gradients :meth:`recon.Method.step` takes here.

    Args:
        setting: The choices and the state of the engine.
        validation: Evaluates a validation batch; ``None`` if the step has none.

    Attributes:
        overflowed: Whether a value overflowed float16 in an evaluation of its own.
    """

    def __init__(self, setting: Setting, validation: Callable[[], Evaluation] | None = None) -> None:
        self._setting = setting
        self._validation = validation
        self.overflowed = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the K tasks, in the order of the Jacobian's rows."""
        return self._setting.tasks

    @property
    def gradients(self) -> Gradients:
        """The buffer of task gradients, made at first use.

        It is made again when the network has been moved, cast or unfrozen.
        """
        return self._setting.shared.gradients

    def backward(
        self,
        losses: Mapping[str, Tensor],
        representation: Tensor | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> StepInfo:
        def evaluate() -> Evaluation:
            return Evaluation.given(losses, representation, counts)

        info = fill_grad(evaluate, self._setting, self._setting.shared.analyzer, self.overflowed)
        self._setting.step_count += 1
        return info

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        shared = self._setting.shared.trainable()
        return [p for p in reached_leaves(loss) if isinstance(p, nn.Parameter) and p not in shared]

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        known = check_losses(losses, self.tasks, self._setting.step_count)
        return [self._own_gradients(loss) for loss in known.values()]

    def _own_gradients(self, loss: Tensor) -> tuple[list[nn.Parameter], list[Tensor]]:
        own = self.own_parameters(loss)
        if not own:
            return [], []
        scaling = self._setting.scaling
        gradients = torch.autograd.grad(scaling.scaled(loss), own, retain_graph=True, allow_unused=True)
        plain = [torch.zeros_like(p) if g is None else g.to_dense() for p, g in zip(own, gradients, strict=True)]
        return own, [gradient / scaling.factor for gradient in plain] if scaling.active else plain

    def validation(self) -> Mapping[str, Tensor]:
        check_validation(self._setting.method, self._validation is not None)
        assert self._validation is not None
        return self._validation()

    def task_gradients(self, losses: Mapping[str, Tensor]) -> dict[str, dict[Tensor, Tensor]]:
        step = self._setting.step_count
        known = check_losses(losses, self.tasks, step)
        return {
            self.tasks[index]: self._gradients(f"the gradient of task {self.tasks[index]!r}", loss)
            for index, loss in known.items()
        }

    def weighted_gradient(self, losses: Mapping[str, Tensor], weights: Tensor) -> dict[Tensor, Tensor]:
        known = torch.stack([*check_losses(losses, self.tasks, self._setting.step_count).values()])
        return self._gradients("the weighted gradient", weights.to(known) @ known)

    def _gradients(self, name: str, loss: Tensor) -> dict[Tensor, Tensor]:
        scaling = self._setting.scaling
        reached: list[Tensor] = [leaf for leaf in reached_leaves(loss) if isinstance(leaf, nn.Parameter)]
        gradients = [
            gradient.to_dense() / scaling.factor if scaling.active else gradient.to_dense()
            for gradient in torch.autograd.grad(scaling.scaled(loss), reached, retain_graph=True)
        ]
        if (scaling.active or loss.device.type == "cpu") and not all_finite(gradients):
            if not scaling.active:
                raise NotFinite(f"{name} is not finite in step {self._setting.step_count}")
            self.overflowed = True
        return dict(zip(reached, gradients, strict=True))

    def task_gradient(self, task: str, losses: Mapping[str, Tensor]) -> None:
        with self._backward_again(task, losses) as (gradients, row):
            gradients.complete(range(len(self._setting.present)))
            gradients.fill_row(row)

    def task_gradient_change(self, task: str, losses: Mapping[str, Tensor]) -> None:
        with self._backward_again(task, losses) as (gradients, row):
            gradients.fill_row_with_change(row)

    @contextmanager
    def _backward_again(self, task: str, losses: Mapping[str, Tensor]) -> Iterator[tuple[TaskGradients, int]]:
        """The buffer, and the row of a task whose gradient elsewhere is in ``.grad``."""
        gradients, scaling = self.gradients, self._setting.scaling
        assert isinstance(gradients, TaskGradients)  # such methods need one process
        known, index = check_losses(losses, self.tasks, self._latest_step), self.tasks.index(task)
        if index not in known:
            raise ValueError(
                f"step {self._latest_step}: the batch had a loss of task {task!r} and has none when it is evaluated "
                "again; let the closure return the same tasks at each call"
            )
        own = self.own_parameters(known[index]) if scaling.active else []
        with without_grad(gradients.parameters):
            scaling.scaled(known[index]).backward()
            if scaling.active:
                self.overflowed |= not all_finite(p.grad for p in own if p.grad is not None)
                scaling.unscale(gradients.parameters)
            yield gradients, self._setting.present.index(index)

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        def bring() -> Brought:
            evaluation = Evaluation.given(losses, None, None)
            known = scalar_losses(evaluation, self.tasks, self._setting.step_count)
            return Brought(known, check_counts(evaluation.counts, known, self.tasks, self._setting.step_count))

        _, agreed = agree(self._setting, bring)
        self._setting.watches.losses.watch(self._latest_step, self._setting.in_all_tasks(agreed.losses))
        return agreed.losses

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        return self.gradients.like_parameters(flat)

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        return perturbed(parameters, steps, self._setting.shared.module)

    def add_to_grad(self, gradients: Mapping[Tensor, Tensor]) -> None:
        scaling = self._setting.scaling
        factor = self._setting.scale_for(len(self._setting.present)) * (scaling.factor if scaling.active else 1.0)
        for parameter, gradient in gradients.items():
            accumulate(parameter, gradient * factor)

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        gradients, watches, scaling = self.gradients, self._setting.watches, self._setting.scaling
        if scaling.active and (self.overflowed or not all_finite([gradients.jacobian])):
            self.overflowed = True
            self._setting.lesson = None
            spoil(gradients.parameters)
            return
        norms = torch.linalg.vector_norm(gradients.jacobian, dim=1)
        watches.gradients.watch(self._latest_step, self._setting.in_all_tasks(norms))
        with combining(gradients.jacobian.device, gradients.precision):
            update = combine(gradients.jacobian) * self._setting.scale_for(len(gradients.jacobian))
            watches.watch_update(self._latest_step, update)
            gradients.add_to_grad(update * scaling.factor if scaling.active else update)

    @property
    def _latest_step(self) -> int:
        return self._setting.step_count - 1  # backward has counted it
