"""From ``{task: loss}`` to ``.grad``: what stands in place of ``loss.backward()`` in multi-task training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.engine.checks import At, check_at, warn_of_forgotten_parameters
from recon.engine.closures import check_repeatable, needs_closure, objective_of
from recon.engine.evaluation import Evaluation
from recon.engine.evaluations import Evaluations
from recon.engine.nonfinite import StepWatches
from recon.engine.protocols import Analyzer
from recon.engine.refusal import kept_if_refused
from recon.engine.setting import Setting, UpdateScale
from recon.engine.shared_part import SharedPart
from recon.engine.step_info import StepInfo
from recon.gradients.layers import network_name, shared_layers
from recon.gradients.parts import Shared, as_one_module
from recon.methods import Method, create_method
from recon.tasks.names import check_task_names


class Engine(Evaluations):
    """Backward for several tasks: one backward a task, a method's update in ``.grad``, layer Gramians to an analyzer.

    Heads and branches (every parameter outside the shared layers) receive their own task's gradient in the same
    backward. Loss methods and a single task need one backward only, and get one, unless an analyzer observes the step.

    With ``at="representation"`` a Gramian method weights the tasks by their gradients in the features that all heads
    take, as MGDA-UB and Aligned-MTL-UB do: K backwards through the heads only, then one of the weighted gradients
    through the shared part. The weights are in general not those at the parameters. A step that an analyzer observes
    costs K backwards through the shared part besides.

    While all of the shared part is frozen, heads and branches train plainly; layers may freeze and thaw at any time.

    Args:
        shared: The shared part of the network, plain or branched; or several modules, in a list (their layers are then
            named ``0.conv1``) or by keys (``encoder.conv1``).
        tasks: Names of the K tasks, in the order of the Jacobian's rows.
        method: A multi-task optimizer (:func:`recon.create_method`), or the name of one.
        analyzer: Observes conflicts; ``None`` for none.
        update_scale: ``"method"`` follows the method's own paper; ``"sum"`` multiplies mean-scaled methods by K, so
            that all match the summed loss at one learning rate; ``"mean"`` divides sum-scaled methods by K.
        at: Where the gradients are taken that a method weights.

    Raises:
        ValueError: Tasks are repeated or missing, the analyzer belongs to other tasks or layers, nothing is shared, the
            method is unknown, or it or the network has no use for gradients at the representation.
        TypeError: The shared part is no module, or the method is none.

    Example:
        >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
        >>> engine = Engine(backbone, tasks=["a", "b"], method="pcgrad")
        >>> features = backbone(torch.ones(2, 4))
        >>> info = engine.backward({task: head(features).square().mean() for task, head in heads.items()})
        >>> backbone.weight.grad.shape
        torch.Size([3, 4])
        >>> engine
        Engine(Linear: 1 layers, 15 parameters; tasks: a, b; method: PCGrad(seed=0))
    """

    def __init__(
        self,
        shared: Shared,
        tasks: Sequence[str],
        method: Method | str,
        analyzer: Analyzer | None = None,
        update_scale: UpdateScale = "method",
        at: At = "parameters",
    ) -> None:
        method = create_method(method) if isinstance(method, str) else method
        if not isinstance(method, Method):
            raise TypeError(f"method must be a recon method, got {method!r}; make one with recon.create_method(name)")
        if update_scale not in ("method", "sum", "mean"):
            raise ValueError(f"update_scale must be 'method', 'sum' or 'mean', got {update_scale!r}")
        names = check_task_names(tasks)
        if not names:
            raise ValueError("there are no tasks; name at least one")
        module = as_one_module(shared)
        check_at(at, module, method, len(names))
        part = SharedPart(module, len(names))
        super().__init__(Setting(names, method, part, update_scale, at, StepWatches(names, type(method).__name__)))
        self.analyzer = analyzer
        if len(names) > 1:  # one is trained plainly
            method.bind(len(names))
        method.to(part.parameters[0].device)

    def __repr__(self) -> str:
        layers = shared_layers(self.shared)
        parameters = sum(p.numel() for layer in layers.values() for p in layer)
        parts = [
            f"{network_name(self.shared)}: {len(layers)} layers, {parameters:,} parameters",
            f"tasks: {', '.join(self.tasks)}",
            f"method: {self.method}",
            *([f"analyzer: {self.analyzer}"] if self.analyzer is not None else []),
            *([f"update_scale: {self.update_scale}"] if self.update_scale != "method" else []),
            *([f"at: {self.at}"] if self.at != "parameters" else []),
        ]
        return f"{type(self).__name__}({'; '.join(parts)})"

    @property
    def shared(self) -> nn.Module:
        """The shared part of the network; several modules have become one."""
        return self._setting.shared.module

    @property
    def method(self) -> Method:
        """The multi-task optimizer."""
        return self._setting.method

    @property
    def update_scale(self) -> UpdateScale:
        """The scale of the update, as asked for."""
        return self._setting.update_scale

    @property
    def at(self) -> At:
        """The place of the gradients that the method weights."""
        return self._setting.at

    @property
    def step_count(self) -> int:
        """Number of the next step, from 0; a resumed run sets it."""
        return self._setting.step_count

    @step_count.setter
    def step_count(self, step_count: int) -> None:
        self._setting.step_count = step_count

    @property
    def analyzer(self) -> Analyzer | None:
        """The observer of conflicts; it may be set between steps, and is then told of the shared layers.

        Raises:
            ValueError: It was made for other tasks or another network.
        """
        return self._setting.shared.analyzer

    @analyzer.setter
    def analyzer(self, analyzer: Analyzer | None) -> None:
        if analyzer is not None and tuple(analyzer.tasks) != self.tasks:
            raise ValueError(
                f"the analyzer was made for tasks {list(analyzer.tasks)}, the engine for {list(self.tasks)}"
            )
        self._setting.shared.analyzer = analyzer

    def step(self, closure: Callable[..., Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> StepInfo:
        """One optimizer step, for methods that evaluate the losses once or several times.

        Optimizers that evaluate by themselves, such as ``torch.optim.LBFGS``, do so through the engine, for methods
        without memory and randomness. What the analyzer sees, and what is returned, is their first evaluation. The
        update of a method of gradients is the gradient of no function: a line search, which then compares the sum or
        mean of the losses, may end such a step early.

        Args:
            closure: ``closure(batch=None) -> {task: loss}``; runs the forward pass anew at each call. With
                ``at="representation"`` it returns ``({task: loss}, features)``.
            optimizer: Steps on all parameters; its gradients are zeroed first.

        Raises:
            ValueError: As :meth:`backward`. The method is then as before the step, and so is the analyzer unless a
                later evaluation was refused than the one that it saw; ``famo`` has by then moved the network.
            TypeError: As :meth:`backward`; or the optimizer evaluates by itself, which the method does not allow.
        """
        if self.step_count == 0:
            warn_of_forgotten_parameters(self.method, optimizer)

        def evaluate(*args: Any, **kwargs: Any) -> Evaluation:
            return Evaluation.returned(closure(*args, **kwargs), self.at)

        with kept_if_refused(self.method):
            if needs_closure(optimizer):
                return self._step_by_evaluations(evaluate, optimizer)
            return self.method.step(Evaluations(self._setting), evaluate, optimizer)

    def _step_by_evaluations(self, evaluate: Callable[[], Evaluation], optimizer: torch.optim.Optimizer) -> StepInfo:
        """A step of an optimizer that calls for evaluations itself."""
        if len(self.tasks) > 1:
            check_repeatable(self.method, optimizer)
        infos: list[StepInfo] = []

        def objective() -> Any:  # torch says float, and takes tensors
            optimizer.zero_grad()
            infos.append(self._evaluated(evaluate(), None if infos else self.analyzer))
            return objective_of(self.method, torch.stack(list(infos[-1].losses.values())), self._setting.scale)

        optimizer.step(objective)
        self.step_count += 1
        return infos[0]

    def backward(self, losses: Mapping[str, Tensor], representation: Tensor | None = None) -> StepInfo:
        """Add the method's update to ``.grad`` of the shared parameters and each task's gradient to its own parameters.

        Args:
            losses: Task -> scalar loss with a graph. The graph is freed.
            representation: The very features that all heads take; with ``at="representation"``, and only then.

        Raises:
            ValueError: A loss is missing, unknown, no scalar or without a graph; a loss or gradient is not finite; or
                the losses depend on the shared part past the representation, or not on the representation. Method and
                analyzer are then as before: a batch that is skipped counts for neither. ``.grad`` is as before if a
                loss was refused; after a gradient was, zero it.
            RuntimeError: More than one process takes part.
            TypeError: The representation is missing, or no tensor; or the method evaluates the losses several times and
                needs :meth:`step`.
        """
        if self.method.evaluates_again and len(self.tasks) > 1:
            raise TypeError(
                f"{type(self.method).__name__} evaluates the losses several times a step; "
                "train with engine.step(closure, optimizer), as MultiTaskModule does"
            )
        with kept_if_refused(self.method):
            return super().backward(losses, representation)

    def check_finite(self) -> None:
        """Raise if a loss or gradient has not been finite; on accelerators :meth:`backward` only looks now and then."""
        self._setting.watches.check()


def backward(
    losses: Mapping[str, Tensor],
    shared: Shared,
    method: Method,
    analyzer: Analyzer | None = None,
    update_scale: UpdateScale = "method",
    at: At = "parameters",
    representation: Tensor | None = None,
) -> StepInfo:
    """``loss.backward()`` for several tasks, in one call; see :class:`Engine`, which keeps the buffer between steps.

    Args:
        losses: Task -> scalar loss with a graph.
        shared: The shared part of the network, or several; see :class:`Engine`.
        method: A multi-task optimizer (:func:`recon.create_method`), made once: what it learns is in it.
        analyzer: Observes conflicts; ``None`` for none.
        update_scale: See :class:`Engine`.
        at: See :class:`Engine`.
        representation: The features that all heads take; with ``at="representation"``, and only then.
    """
    if isinstance(method, str):
        raise TypeError(
            f"method is the name {method!r}; make it once, before the loop, with recon.create_method({method!r}): "
            "what it learns and draws goes on from step to step; or use recon.Engine, which takes names"
        )
    engine = Engine(shared, list(losses), method, analyzer, update_scale, at)
    info = engine.backward(losses, representation)
    engine.check_finite()
    return info
