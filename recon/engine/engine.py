"""From ``{task: loss}`` to ``.grad``: what stands in place of ``loss.backward()`` in multi-task training."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recon.engine.checks import (
    check_losses,
    naming_step,
    ordered_losses,
    refuse_processes,
    warn_of_forgotten_parameters,
    warn_of_parts_left_out,
)
from recon.engine.closures import check_repeatable, needs_closure, objective_of
from recon.engine.nonfinite import StepWatches
from recon.engine.perturbation import perturbed
from recon.engine.protocols import Analyzer, KnowsWeights
from recon.engine.refusal import kept_if_refused
from recon.engine.routes.head_backwards import At, check_at, check_representation, head_gradients, like_representation
from recon.engine.step_info import StepInfo
from recon.gradients.buffer import TaskGradients
from recon.gradients.graph import accumulate, reached_leaves, without_grad
from recon.gradients.layers import all_layers, network_name, shared_layers
from recon.gradients.parts import Shared, as_one_module
from recon.gradients.precision import full_precision
from recon.gradients.wrappers import is_partly_shared
from recon.methods import GramianMethod, JacobianMethod, LossMethod, Method, create_method
from recon.methods.solvers.gramian import gramian_of, nearly_dependent
from recon.methods.solvers.resolution import gradients_in
from recon.tasks.names import check_task_names

UpdateScale = Literal["method", "sum", "mean"]


class Engine:
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
        self.tasks = check_task_names(tasks)
        if not self.tasks:
            raise ValueError("there are no tasks; name at least one")
        self.shared = as_one_module(shared)
        check_at(at, self.shared, method, len(self.tasks))
        self.method = method
        self.update_scale = update_scale
        self.at: At = at
        self.step_count = 0
        self._stepping = False
        self._handed: Tensor | None = None
        self._parameters = [p for layer in all_layers(self.shared).values() for p in layer]
        if not self._parameters:
            raise ValueError("the shared module has no trainable parameters; pass the part that the tasks share")
        self._gradients: TaskGradients | None = None
        self._watches = StepWatches(self.tasks, type(method).__name__)
        self.analyzer = analyzer
        if len(self.tasks) > 1:  # one is trained plainly
            method.bind(len(self.tasks))
        method.to(self._parameters[0].device)

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
    def analyzer(self) -> Analyzer | None:
        """What observes conflicts; it may be set between steps, and is then told of the shared layers.

        Raises:
            ValueError: It was made for other tasks or another network.
        """
        return self._analyzer

    @analyzer.setter
    def analyzer(self, analyzer: Analyzer | None) -> None:
        if analyzer is not None:
            if tuple(analyzer.tasks) != self.tasks:
                raise ValueError(
                    f"the analyzer was made for tasks {list(analyzer.tasks)}, the engine for {list(self.tasks)}"
                )
            analyzer.follow(self.shared)
        self._analyzer = analyzer

    @property
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients: made when first needed, and anew if the network is moved, cast or unfrozen."""
        layers = shared_layers(self.shared)
        if self._gradients is None or not self._gradients.is_for(layers):
            if self.analyzer is not None:
                self.analyzer.follow(self.shared)
            self._gradients = TaskGradients(layers, len(self.tasks))
        return self._gradients

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
        evaluate = self._losses_of(closure)
        self._stepping = True
        try:
            with kept_if_refused(self.method):
                if needs_closure(optimizer):
                    return self._step_by_evaluations(evaluate, optimizer)
                return self.method.step(self, evaluate, optimizer)
        finally:
            self._stepping, self._handed = False, None

    def _step_by_evaluations(
        self, closure: Callable[..., Mapping[str, Tensor]], optimizer: torch.optim.Optimizer
    ) -> StepInfo:
        """A step of an optimizer that calls for evaluations itself."""
        if len(self.tasks) > 1:
            check_repeatable(self.method, optimizer)
        infos: list[StepInfo] = []

        def evaluate() -> Any:  # torch says float, and takes tensors
            optimizer.zero_grad()
            infos.append(self._backward(closure(), None, None if infos else self.analyzer))
            return objective_of(self.method, torch.stack(list(infos[-1].losses.values())), self._scale())

        optimizer.step(evaluate)
        self.step_count += 1
        return infos[0]

    def _losses_of(self, closure: Callable[..., Any]) -> Callable[..., Mapping[str, Tensor]]:
        """The closure as methods know it; the features that it hands over are kept for :meth:`backward`."""
        if self.at == "parameters":
            return closure

        def losses_alone(*batch: Any) -> Mapping[str, Tensor]:
            evaluated = closure(*batch)
            # Not by unpacking alone: a dict of two losses unpacks into its keys.
            losses, self._handed = evaluated if isinstance(evaluated, tuple) else (evaluated, None)
            return losses

        return losses_alone

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
        refuse_processes()
        self._refuse_single_evaluation()
        info = self._backward(losses, representation, self.analyzer)
        self.step_count += 1
        return info

    def _backward(
        self, losses: Mapping[str, Tensor], representation: Tensor | None, analyzer: Analyzer | None
    ) -> StepInfo:
        ordered = check_losses(losses, self.tasks, self.step_count)
        self._watches.losses.watch(self.step_count, torch.stack([loss.detach() for loss in ordered]))
        features = self._check_representation(representation)
        if self.step_count == 0:
            self._warn_of_parts_left_out(ordered)
        info = StepInfo(self.step_count, {task: loss.detach() for task, loss in zip(self.tasks, ordered, strict=True)})
        observed = analyzer is not None and analyzer.observes()
        try:
            with nullcontext() if self._stepping else kept_if_refused(self.method):
                self._fill_grad(ordered, features, observed, info)
        except Exception:
            if analyzer is not None:
                analyzer.retract()
            raise
        if observed and info.layer_gramians is not None:
            assert analyzer is not None
            analyzer.observe(info.layer_gramians)
        return info

    def _fill_grad(self, losses: list[Tensor], features: Tensor | None, observed: bool, info: StepInfo) -> None:
        """Take the way through the step that costs least."""
        if len(losses) == 1:
            losses[0].backward()
            self._watch_sum()
        elif isinstance(self.method, LossMethod) and not (observed and self._trains_shared()):
            self._backward_objective(self.method, losses)
        elif not self._trains_shared():
            torch.autograd.backward(losses)
        elif not observed and (weights := self._known_weights()) is not None:
            self._backward_weighted(losses, weights, info)
        elif features is not None:
            if observed:
                info.layer_gramians = self._parameter_gramians(losses)
            self._backward_representation(losses, features, info)
        else:
            self._backward_tasks(losses, info)

    def _trains_shared(self) -> bool:
        """Whether some of the shared part is not frozen."""
        return any(p.requires_grad for p in self._parameters) or bool(shared_layers(self.shared))

    def _warn_of_parts_left_out(self, losses: list[Tensor]) -> None:
        # A loss method sums outside of the shared part what it would sum inside: only a map would lack something.
        if len(losses) > 1 and (self.analyzer is not None or not isinstance(self.method, LossMethod)):
            warn_of_parts_left_out(losses, self.tasks, set(self._parameters))

    def _check_representation(self, representation: Tensor | None) -> Tensor | None:
        if self.at == "representation":
            handed = self._handed if representation is None else representation
            return check_representation(handed) if len(self.tasks) > 1 and self._trains_shared() else None
        if representation is not None:
            raise ValueError("the engine takes gradients at the parameters; make it with at='representation' for these")
        return None

    def _refuse_single_evaluation(self) -> None:
        several = self.method.evaluates_again
        if several and not self._stepping and len(self.tasks) > 1:
            raise TypeError(
                f"{type(self.method).__name__} evaluates the losses several times a step; "
                "train with engine.step(closure, optimizer), as MultiTaskModule does"
            )

    def check_finite(self) -> None:
        """Raise if a loss or gradient has not been finite; on accelerators :meth:`backward` only looks now and then."""
        self._watches.check()

    def _scale(self) -> float:
        """Factor that brings the method's update to the scale asked for."""
        if self.update_scale == "method" or self.method.scale == self.update_scale:
            return 1.0
        return float(len(self.tasks)) if self.update_scale == "sum" else 1.0 / len(self.tasks)

    def _backward_objective(self, method: LossMethod, losses: list[Tensor]) -> None:
        with naming_step(self.step_count, self.tasks):
            objective = method.objective(torch.stack(losses))
        (objective * self._scale()).backward()
        self._watch_sum()

    def _watch_sum(self) -> None:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self._watches.sum.watch(self.step_count, nn.utils.get_total_norm(gradients).reshape(1))

    def _backward_tasks(self, losses: list[Tensor], info: StepInfo) -> None:
        """One backward a task into the buffer, then the method's update into ``.grad``."""
        gradients = self.gradients
        with without_grad(gradients.parameters):
            if isinstance(self.method, LossMethod):
                info.weights = self._loss_weights(self.method, losses)
                self._backward_weighted_tasks(losses, info.weights)
            else:
                for row, loss in enumerate(losses):
                    loss.backward(retain_graph=row < len(losses) - 1)
                    gradients.fill_row(row)
        with full_precision(gradients.jacobian.device.type), gradients_in(gradients.precision):
            update = self._update(gradients, info)
            self._watch_update(self.step_count, update)
            gradients.add_to_grad(update)

    def _watch_update(self, step: int, update: Tensor) -> None:
        self._watches.update.watch(step, torch.linalg.vector_norm(update).reshape(1))

    def _loss_weights(self, method: LossMethod, losses: list[Tensor]) -> Tensor:
        """Slopes of the method's objective in the losses, (K,); its own parameters receive their gradient too."""
        leaves = torch.stack([loss.detach() for loss in losses]).requires_grad_()
        with naming_step(self.step_count, self.tasks):
            objective = method.objective(leaves)
        (objective * self._scale()).backward()
        assert leaves.grad is not None
        return leaves.grad

    def _backward_weighted_tasks(self, losses: list[Tensor], weights: Tensor) -> None:
        """Plain task gradients into the buffer, and each task's own parameters their weighted one."""
        gradients = self.gradients
        shared = set(gradients.parameters)
        for row, (loss, weight) in enumerate(zip(losses, weights, strict=True)):
            own = [leaf for leaf in reached_leaves(loss) if leaf not in shared]
            with without_grad(own):
                loss.backward(retain_graph=row < len(losses) - 1)
                gradients.fill_row(row)
                plain = [leaf.grad for leaf in own]
            for leaf, gradient in zip(own, plain, strict=True):
                accumulate(leaf, None if gradient is None else weight * gradient)

    def _update(self, gradients: TaskGradients, info: StepInfo) -> Tensor:
        """The method's update direction (P,) from the filled buffer; notes weights and Gramians in ``info``."""
        jacobian, method = gradients.jacobian, self.method
        losses = torch.stack(list(info.losses.values()))
        info.layer_gramians = gradients.layer_gramians()
        if isinstance(method, LossMethod):
            assert info.weights is not None
            self._watch_gradients(info.layer_gramians)
            return info.weights.to(jacobian) @ jacobian
        if isinstance(method, GramianMethod):
            info.weights = self._weights(method, info.layer_gramians, jacobian, losses).to(jacobian)
            return info.weights @ jacobian
        if isinstance(method, JacobianMethod):
            self._watch_gradients(info.layer_gramians)
            with naming_step(self.step_count, self.tasks):
                return method.combine(jacobian, losses) * self._scale()
        raise TypeError(
            f"{type(method).__name__} is neither a loss, a Gramian nor a Jacobian method; derive it from one of those"
        )

    def _weights(self, method: GramianMethod, gramians: Tensor, jacobian: Tensor, losses: Tensor) -> Tensor:
        """The method's weights (K,), on the host, at the engine's scale, from Gramians (N, K, K) to be summed."""
        gramian, host_losses = _to_host(gramians, losses)
        self._watches.gradients.watch(self.step_count, gramian.diagonal())
        if jacobian.dtype == torch.float32 and nearly_dependent(gramian.numpy()):
            gramian = gramian_of(jacobian).cpu()
        with naming_step(self.step_count, self.tasks):
            return method.weights(gramian, host_losses) * self._scale()

    def _watch_gradients(self, layer_gramians: Tensor) -> None:
        self._watches.gradients.watch(self.step_count, layer_gramians.diagonal(dim1=1, dim2=2).sum(0))

    # Weights that are known before the backward ---------------------------------------------------------------------

    def _known_weights(self) -> Tensor | None:
        """The method's weights, if it knows them and to know them saves anything.

        Where early layers are branched, a task's own parameters take a backward through all of the network anyway.
        """
        if not isinstance(self.method, KnowsWeights) or is_partly_shared(self.shared):
            return None
        return self.method.known_weights()

    def _backward_weighted(self, losses: list[Tensor], weights: Tensor, info: StepInfo) -> None:
        """One backward of the weighted losses through the shared part; each task's own parameters apart, unweighted."""
        shared = self._shared_parameters()
        reached = [reached_leaves(loss) for loss in losses]
        for loss, leaves in zip(losses, reached, strict=True):
            if own := [leaf for leaf in leaves if leaf not in shared]:
                loss.backward(retain_graph=True, inputs=own)  # runs no further than these
        info.weights = (weights * self._scale()).to(losses[0])
        if together := shared.intersection(chain(*reached)):
            (info.weights * torch.stack(losses)).sum().backward(inputs=list(together))
        self._watch_sum()

    # Gradients at the representation --------------------------------------------------------------------------------

    def _backward_representation(self, losses: list[Tensor], representation: Tensor, info: StepInfo) -> None:
        """K backwards through the heads, and one of their weighted gradients through the shared part."""
        assert isinstance(self.method, GramianMethod)
        jacobian = head_gradients(losses, representation, self._shared_parameters())
        with full_precision(jacobian.device.type), gradients_in(representation.dtype):
            gramians = (jacobian @ jacobian.T).unsqueeze(0)
            losses_seen = torch.stack(list(info.losses.values()))
            info.weights = self._weights(self.method, gramians, jacobian, losses_seen).to(jacobian)
            weighted = info.weights @ jacobian
        representation.backward(like_representation(weighted, representation))
        self._watch_sum()

    def _parameter_gramians(self, losses: list[Tensor]) -> Tensor:
        """Layer Gramians (L, K, K) for the analyzer alone; leaves every ``.grad`` as it was, and the graph."""
        gradients = self.gradients
        with without_grad(gradients.parameters):
            for row, loss in enumerate(losses):
                loss.backward(retain_graph=True, inputs=gradients.parameters)
                gradients.fill_row(row)
        with full_precision(gradients.jacobian.device.type):
            return gradients.layer_gramians()

    def _shared_parameters(self) -> set[Tensor]:
        return {parameter for layer in shared_layers(self.shared).values() for parameter in layer}

    # For methods that evaluate the losses several times a step ------------------------------------------------------

    def own_parameters(self, loss: Tensor) -> list[nn.Parameter]:
        """Parameters outside the shared layers that a loss reaches: those of its task's head and branches."""
        shared = self._shared_parameters()
        return [p for p in reached_leaves(loss) if isinstance(p, nn.Parameter) and p not in shared]

    def own_gradients(self, losses: Mapping[str, Tensor]) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each task the parameters outside the shared layers that its loss reaches, and its gradients in them."""
        return [self._own_gradients(loss) for loss in check_losses(losses, self.tasks, self.step_count)]

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
            check_losses(losses, self.tasks, self.step_count)[row].backward()
            gradients.fill_row_with_change(row)

    def loss_values(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses (K,) of another evaluation in a step, detached, in the order of the tasks.

        Raises:
            ValueError: One is missing, unknown, no scalar, or not finite.
        """
        values = torch.stack([loss.detach() for loss in ordered_losses(losses, self.tasks, self.step_count - 1)])
        self._watches.losses.watch(self.step_count - 1, values)  # backward has counted the step
        return values

    def like_parameters(self, flat: Tensor) -> list[Tensor]:
        """A (P,) row of the Jacobian as views in the shapes of ``gradients.parameters``."""
        return self.gradients.like_parameters(flat)

    def perturbed(self, parameters: Sequence[Tensor], steps: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Move parameters for a ``with`` block; see :func:`recon.engine.perturbation.perturbed`."""
        return perturbed(parameters, steps, self.shared)

    def add_combination(self, combine: Callable[[Tensor], Tensor]) -> None:
        """Add ``combine(jacobian)``, (K, P) -> (P,), to ``.grad`` of the shared parameters, at the engine's scale.

        The Jacobian is the one that :meth:`backward` and :meth:`task_gradient_change` have left.
        """
        gradients = self.gradients
        norms = torch.linalg.vector_norm(gradients.jacobian, dim=1)
        self._watches.gradients.watch(self.step_count - 1, norms)  # backward has counted the step
        with full_precision(gradients.jacobian.device.type), gradients_in(gradients.precision):
            update = combine(gradients.jacobian) * self._scale()
            self._watch_update(self.step_count - 1, update)
            gradients.add_to_grad(update)


def _to_host(layer_gramians: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """The (K, K) Gramian of all layers and the (K,) losses, float64 on the host, in one transfer."""
    tasks = len(losses)
    packed = torch.cat([layer_gramians.flatten(), losses]).cpu().double()
    return packed[:-tasks].view(-1, tasks, tasks).sum(0), packed[-tasks:]


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
