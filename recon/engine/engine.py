"""The multi-task replacement for ``loss.backward()``: from task losses to ``.grad``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.engine.accumulation import MicroBatches
from recon.engine.checks import At, check_single_evaluation, check_validation, warn_of_forgotten_parameters
from recon.engine.closures import needs_closure, step_by_optimizer
from recon.engine.evaluation import Evaluation
from recon.engine.evaluations import Evaluations
from recon.engine.groups import Granularity, bind
from recon.engine.lessons import teaching
from recon.engine.memory import Memory
from recon.engine.protocols import Analyzer
from recon.engine.refusal import kept_if_refused
from recon.engine.setting import UpdateScale, checked_setting
from recon.engine.step_info import StepInfo
from recon.gradients.parts import Shared
from recon.methods import Method


class Engine(MicroBatches):
    """Backward for several tasks: a method's update in ``.grad``, layer Gramians for an analyzer.

    One backward a task gives the task gradients, which the method combines in the shared layers.
    Heads and branches (every parameter outside the shared layers) receive their own task's gradient
    in the same backward. A copy that a group of tasks shares receives the sum of their gradients.
    Loss methods and a single task take one backward only, unless an analyzer observes the step.
    :data:`recon.engine.routes.ROUTES` lists all ways through a step.

    With ``at="representation"`` a Gramian method weights the tasks by their gradients in the
    features that all heads take, as MGDA-UB and Aligned-MTL-UB do: K backwards through the heads,
    then one of the weighted gradients through the shared part. The weights differ in general from
    those at the parameters. An observed step costs K more backwards through the shared part.

    While the whole shared part is frozen, heads and branches train plainly. Layers may freeze and
    thaw at any time.

    Args:
        shared: The shared part of the network, plain or branched; or several modules, in a list
            (their layers are then named ``0.conv1``) or by keys (``encoder.conv1``).
        tasks: Names of the K tasks, in the order of the Jacobian's rows.
        method: A multi-task optimizer (:func:`recon.create_method`), or the name of one.
        analyzer: Observer of conflicts; ``None`` for none.
        update_scale: ``"method"`` follows the method's own paper; ``"sum"`` multiplies mean-scaled
            methods by K, so that all match the summed loss at one learning rate; ``"mean"`` divides
            sum-scaled methods by K.
        at: Where the method takes the task gradients: in the ``"parameters"`` of the shared part,
            or in its ``"representation"``, the features.
        scaler: The ``torch.amp.GradScaler`` of training in float16. Hand over losses that are not
            scaled. The method sees gradients without scale, and ``.grad`` holds scaled ones for
            ``scaler.step(optimizer)``. If a value overflows, all gradients are such that the scaler
            skips the step, and method and analyzer stay as they were (``StepInfo.overflow``).
        process_group: The processes that share a step, each with its part of the batch; ``None``
            for the default group of ``torch.distributed``, if it is initialised. The network must
            not be wrapped in ``DistributedDataParallel``.
        heads: Modules outside the shared part: one, several, or by keys. They are needed in several
            processes, if one may lack the labels of a task that it has never met;
            :meth:`step` takes the parameters of its optimizer instead. Rotations among them learn.
        granularity: Whether a Gramian method weighs the tasks once for all layers (``"network"``),
            in each ``"layer"`` by itself, or in groups of layers, ``{name: [layers]}``. Layers that
            no group names form one more group, ``"others"``; branched layers are in none. Each
            group has a state of its own, and a random method draws for one after the other.
        memory: ``"jacobian"`` holds the K task gradients: K x P numbers for P shared parameters.
            ``"gramian"`` holds about P numbers whatever K is. It makes the inner products of the
            task gradients piece by piece, and the update by one more backward of the weighted
            losses: the same up to rounding, in 1.3 to 5 times the time (docs/results/memory.md).
            For loss and Gramian methods, with whole batches in one process.

    Raises:
        ValueError: Tasks are repeated or missing, the analyzer belongs to other tasks or layers,
            nothing is shared, the method is unknown, or it or the network has no use for gradients
            at the representation; or groups of layers overlap, name an unknown layer, or come with
            a method that has no weights for each; or the method needs the gradients that
            ``memory="gramian"`` does not hold.
        TypeError: The shared part is no module, or the method is none.

    Example:
        >>> from torch import nn
        >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
        >>> engine = Engine(backbone, tasks=["a", "b"], method="pcgrad")
        >>> features = backbone(torch.ones(2, 4))
        >>> losses = {task: head(features).square().mean() for task, head in heads.items()}
        >>> info = engine.backward(losses)
        >>> backbone.weight.grad.shape
        torch.Size([3, 4])
        >>> engine
        Engine(Linear: 1 layer, 15 parameters; tasks: a, b; method: PCGrad(seed=0))
    """

    def __init__(
        self,
        shared: Shared,
        tasks: Sequence[str],
        method: Method | str,
        analyzer: Analyzer | None = None,
        update_scale: UpdateScale = "method",
        at: At = "parameters",
        *,
        scaler: torch.amp.GradScaler | None = None,
        process_group: Any = None,
        heads: Shared | None = None,
        granularity: Granularity = "network",
        memory: Memory = "jacobian",
    ) -> None:
        super().__init__(
            checked_setting(shared, tasks, method, update_scale, at, scaler, process_group, heads, granularity, memory)
        )
        self.analyzer = analyzer
        bind(self.method, len(self.tasks), self._setting.groups)
        self.method.to(self._setting.shared.parameters[0].device)

    def step(
        self,
        closure: Callable[..., Mapping[str, Tensor]],
        optimizer: torch.optim.Optimizer,
        counts: Mapping[str, float] | None = None,
        validation: Callable[[], Mapping[str, Tensor]] | None = None,
    ) -> StepInfo:
        """Make one optimizer step, with all the evaluations that method and optimizer ask for.

        Optimizers that evaluate by themselves, such as ``torch.optim.LBFGS``, do so through the
        engine, for methods without memory and randomness. The analyzer sees their first evaluation,
        which is returned. The update of a method of gradients is the gradient of no function: a
        line search compares the sum or mean of the losses and may end such a step early.

        Args:
            closure: ``closure(batch=None) -> {task: loss}``, for the tasks that the batch has
                labels of; runs the forward pass anew at each call. With ``at="representation"`` it
                returns ``({task: loss}, features)``. It may also return a
                :class:`recon.engine.Evaluation`.
            optimizer: Steps on all parameters; its gradients are zeroed first. A scaler of the
                engine makes the step and is updated.
            counts: As in :meth:`backward`.
            validation: Evaluates held-out data likewise, for methods that learn weights from it.

        Raises:
            ValueError: As :meth:`backward`, or a validation batch is missing. The method is then as
                before the step. So is the analyzer, unless the refused evaluation came after the
                one that it saw; ``famo`` has by then moved the network.
            TypeError: As :meth:`backward`; or the method does not allow the optimizer to evaluate.

        Example:
            >>> from torch import nn
            >>> backbone, a, b = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(3, 1)
            >>> engine = Engine(backbone, ["a", "b"], "famo")
            >>> optimizer = torch.optim.SGD(p for m in (backbone, a, b) for p in m.parameters())
            >>> def losses(batch=torch.ones(2, 4)):
            ...     features = backbone(batch)
            ...     first, second = a(features) - 1, b(features)
            ...     return {"a": first.square().mean(), "b": second.square().mean()}
            >>> info = engine.step(losses, optimizer)
            >>> info.step, list(info.losses)
            (0, ['a', 'b'])
        """
        self._setting.check_processes()
        check_validation(self.method, validation is not None)
        if self.step_count == 0:
            warn_of_forgotten_parameters(self.method, optimizer)
        if self._setting.processes.several:
            self._setting.own.declare(p for group in optimizer.param_groups for p in group["params"])

        evaluate = _evaluating(closure, self.at, counts)
        with kept_if_refused(self.method) as before, teaching(self._setting):
            if needs_closure(optimizer):
                return step_by_optimizer(optimizer, evaluate, self._setting)
            evaluations = Evaluations(self._setting, validation and _evaluating(validation, self.at))
            info = self.method.step(evaluations, evaluate, self._setting.scaling.stepping(optimizer))
            if evaluations.overflowed:
                info.overflow = True
                before.restore()
            return info

    def backward(
        self,
        losses: Mapping[str, Tensor],
        representation: Tensor | None = None,
        counts: Mapping[str, float] | None = None,
    ) -> StepInfo:
        """Add the method's update to ``.grad`` of the shared parameters.

        Each task's gradient is added to ``.grad`` of its own parameters: its head and branches.

        The step concerns the tasks that have a loss, in some process or in a micro-batch since the
        last step (:meth:`accumulate`). The method weights these alone, and the state of the others
        stands still. One task alone is trained plainly.

        Args:
            losses: Task -> scalar loss with a graph, for the tasks that the batch has labels of.
                The graph is freed. A process without any label hands over ``{}``.
            representation: The very features that all heads take; with ``at="representation"``, and
                only then.
            counts: Task -> the number of labelled items that the loss is the mean of. Losses of
                micro-batches and processes are averaged with these weights, so that any division of
                a batch gives the gradient of the whole. ``None`` lets every loss count 1.

        Raises:
            ValueError: There is no loss; one is of an unknown task, no scalar or without a graph; a
                count is not positive; the method needs all tasks; a loss or gradient is not finite;
                the losses depend on the shared part past the representation, or not on the
                representation; or another process has such an error, or differs in tasks, layers or
                method. Method and analyzer are then as before: a skipped batch counts for neither.
                ``.grad`` is as before if a loss was refused; after a gradient was, zero it.
            TypeError: The representation is missing, or no tensor; or the method evaluates the
                losses several times and needs :meth:`step`.

        Example:
            >>> from torch import nn
            >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
            >>> engine = Engine(backbone, ["a", "b"], "mgda", at="representation")
            >>> features = backbone(torch.ones(2, 4))
            >>> losses = {task: head(features).square().mean() for task, head in heads.items()}
            >>> info = engine.backward(losses, representation=features)
            >>> info.weights.shape, round(float(info.weights.sum()), 4)
            (torch.Size([2]), 1.0)
        """
        check_single_evaluation(self.method, len(self.tasks))
        self._setting.check_processes()
        with kept_if_refused(self.method), teaching(self._setting):
            return super().backward(losses, representation, counts)


def _evaluating(
    closure: Callable[..., Mapping[str, Tensor]], at: At, counts: Mapping[str, float] | None = None
) -> Callable[..., Evaluation]:
    """A closure that returns evaluations."""

    def evaluate(*args: Any, **kwargs: Any) -> Evaluation:
        return Evaluation.returned(closure(*args, **kwargs), at, counts)

    return evaluate
