"""Routes with one backward a task through the whole network, into the buffer of task gradients."""

import math

from torch import Tensor

from recon.engine.own_gradients import CollectedGradients, put, spoil
from recon.engine.precision import combining
from recon.engine.routes.grouped_update import grouped_update
from recon.engine.routes.route import Step
from recon.engine.routes.weights import loss_weights, solved_weights
from recon.gradients.graph import without_grad
from recon.gradients.sharded import Gradients
from recon.methods import GramianMethod, JacobianMethod, LossMethod


class ObservedLosses:
    """A loss method whose task gradients are needed: by an analyzer, or over micro-batches.

    The tasks' own parameters receive weighted gradients, as from a backward of the objective.
    """

    def backward(self, step: Step) -> bool:
        method = step.method
        if not isinstance(method, LossMethod):
            return False
        if step.collected is None:
            step.collected = CollectedGradients()
        gradients = step.shared.gradients
        weights = loss_weights(step, method)
        fill_rows(step, gradients)
        for task, weight in zip(step.present, weights, strict=True):
            step.collected.scale(task, weight)
        _finish(step, gradients, weights)
        return True


class TaskBackwards:
    """The general way: one backward a task, then the method's update into ``.grad``."""

    def backward(self, step: Step) -> bool:
        gradients = step.shared.gradients
        fill_rows(step, gradients)
        _finish(step, gradients, None)
        return True


def fill_rows(step: Step, gradients: Gradients) -> None:
    """Fill the rows of the present tasks, summed over micro-batches and processes."""
    step.add_held({})
    step.held.check_rows(gradients)
    with without_grad(gradients.parameters):
        for task in step.present:
            if task in step.held.counts:
                step.backward_of(task)
                gradients.scale_row(task, step.share_of_held(task))
                gradients.add_row(task)
            else:
                with gradients.moving_to(task):
                    step.backward_of(task)
                gradients.fill_row(task)
            if step.failure is not None:
                gradients.scale_row(task, math.nan)
            gradients.send_row(task)
    gradients.complete(step.present)


def _finish(step: Step, gradients: Gradients, weights: Tensor | None) -> None:
    """Combine the rows, by weights or else by the method, and add the update to ``.grad``."""
    own, scale = step.own_totals(), step.loss_scale
    with combining(gradients.device, gradients.precision):
        jacobian = gradients.jacobian
        if scale is not None:
            jacobian.div_(scale)
        gramians = gradients.layer_gramians()
        if step.overflows(gramians, own):
            spoil([*gradients.parameters, *own])
            return
        step.info.layer_gramians = step.in_all_tasks(gramians, axes=2)
        if weights is None:
            update: list[Tensor] = []
            with step.failing_for_all():
                update = _combined(step, gradients, gramians)
            update = update or [jacobian.new_full(jacobian.shape[1:], math.nan)]
        else:
            step.watches.watch_gradients(step.info.step, step.info.layer_gramians)
            step.info.weights = step.in_all_tasks(weights)
            update = gradients.combination(weights.to(jacobian))
        step.watches.update.watch(step.info.step, gradients.norm(*update).reshape(1))
        gradients.add_to_grad(*(update if scale is None else [part * scale for part in update]))
    put(own)


def _combined(step: Step, gradients: Gradients, gramians: Tensor) -> list[Tensor]:
    """The method's update of the columns held here, in parts; the step's record notes weights."""
    method, jacobian = step.method, gradients.jacobian
    if len(step.present) == 1:
        step.watches.watch_gradients(step.info.step, step.in_all_tasks(gramians, axes=2))
        return gradients.combination(jacobian.new_ones(1))
    if isinstance(method, GramianMethod) and step.groups is not None:
        return [grouped_update(step, method, step.groups, gradients, gramians)]
    if isinstance(method, GramianMethod):
        weights = solved_weights(step, method, gramians, jacobian, gradients.sum_over_columns)
        step.info.weights = step.in_all_tasks(weights)
        return gradients.combination(weights)
    if isinstance(method, JacobianMethod):
        step.watches.watch_gradients(step.info.step, step.in_all_tasks(gramians, axes=2))
        with step.asking():
            return [method.combine_columns(jacobian, gradients.columns, gradients.size, step.losses) * step.scale]
    raise TypeError(
        f"{type(method).__name__} is neither a loss, a Gramian nor a Jacobian method; derive it from one of those"
    )
