"""Routes with one backward a task through the whole network, into the buffer of task gradients."""

from torch import Tensor

from recon.engine.precision import combining
from recon.engine.routes.route import Step
from recon.engine.routes.weights import solved_weights
from recon.gradients.buffer import TaskGradients
from recon.gradients.graph import accumulate, reached_leaves, without_grad
from recon.methods import GramianMethod, JacobianMethod, LossMethod


class ObservedLosses:
    """A loss method in an observed step: an analyzer needs the gradients of each task."""

    def backward(self, step: Step) -> bool:
        method = step.method
        if not isinstance(method, LossMethod):
            return False
        gradients = step.shared.gradients
        with without_grad(gradients.parameters):
            weights = step.info.weights = _loss_weights(step, method)
            _fill_rows_weighting_own(gradients, step.losses, weights)
        with combining(gradients.jacobian.device, gradients.precision):
            step.info.layer_gramians = gradients.layer_gramians()
            step.watches.watch_gradients(step.info.step, step.info.layer_gramians)
            _add_update(step, gradients, weights.to(gradients.jacobian) @ gradients.jacobian)
        return True


class TaskBackwards:
    """The general way: one backward a task, then the method's update into ``.grad``."""

    def backward(self, step: Step) -> bool:
        gradients = step.shared.gradients
        with without_grad(gradients.parameters):
            for row, loss in enumerate(step.losses):
                loss.backward(retain_graph=row < len(step.losses) - 1)
                gradients.fill_row(row)
        with combining(gradients.jacobian.device, gradients.precision):
            step.info.layer_gramians = gradients.layer_gramians()
            _add_update(step, gradients, _combined(step, gradients.jacobian, step.info.layer_gramians))
        return True


def _add_update(step: Step, gradients: TaskGradients, update: Tensor) -> None:
    step.watches.watch_update(step.info.step, update)
    gradients.add_to_grad(update)


def _combined(step: Step, jacobian: Tensor, layer_gramians: Tensor) -> Tensor:
    """The method's update (P,) from the Jacobian (K, P); the step's record notes the weights."""
    method = step.method
    if isinstance(method, GramianMethod):
        step.info.weights = solved_weights(step, method, layer_gramians, jacobian)
        return step.info.weights @ jacobian
    if isinstance(method, JacobianMethod):
        step.watches.watch_gradients(step.info.step, layer_gramians)
        with step.naming():
            return method.combine(jacobian, step.detached_losses()) * step.scale
    raise TypeError(
        f"{type(method).__name__} is neither a loss, a Gramian nor a Jacobian method; derive it from one of those"
    )


def _loss_weights(step: Step, method: LossMethod) -> Tensor:
    """Slopes (K,) of the method's objective in the losses; the method's parameters get theirs."""
    leaves = step.detached_losses().requires_grad_()
    with step.naming():
        objective = method.objective(leaves)
    (objective * step.scale).backward()
    assert leaves.grad is not None
    return leaves.grad


def _fill_rows_weighting_own(gradients: TaskGradients, losses: list[Tensor], weights: Tensor) -> None:
    """Plain task gradients into the buffer, weighted ones into each task's own parameters."""
    shared = set(gradients.parameters)
    for row, (loss, weight) in enumerate(zip(losses, weights, strict=True)):
        own = [leaf for leaf in reached_leaves(loss) if leaf not in shared]
        with without_grad(own):
            loss.backward(retain_graph=row < len(losses) - 1)
            gradients.fill_row(row)
            plain = [leaf.grad for leaf in own]
        for leaf, gradient in zip(own, plain, strict=True):
            accumulate(leaf, None if gradient is None else weight * gradient)
