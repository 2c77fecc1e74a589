"""One way through a step, and the step that it is asked about."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from recon.engine.checks import naming_step
from recon.engine.groups import LayerGroups
from recon.engine.held import Held
from recon.engine.memory import Memory
from recon.engine.nonfinite import StepWatches
from recon.engine.own_gradients import CollectedGradients, all_finite, put, spoil, summed
from recon.engine.own_parameters import OwnParameters
from recon.engine.parallel_wrappers import told_of_wrapper
from recon.engine.shared_part import SharedPart
from recon.engine.step_info import StepInfo
from recon.gradients.graph import accumulate, reached_leaves
from recon.gradients.processes import Processes
from recon.gradients.wrappers import is_compiled
from recon.methods import Method


@dataclass
class Passed:
    """The gradients that pass through modules which learn from them.

    Attributes:
        wanted: Whether there are such modules.
        weights: (K',) factors on the present tasks' gradients there; ``None`` if they are plain.
    """

    wanted: bool = False
    weights: Tensor | None = None


@dataclass
class Step:
    """A step with checked input and no gradients yet.

    Attributes:
        info: The record of the step; its route adds weights and layer Gramians.
        tasks: Names of the K tasks.
        present: Indices of the K' tasks that some process or micro-batch has a loss of, in order.
        losses: (K',) means of their losses over processes and micro-batches, detached.
        terms: Task index -> this process's part of the task's mean loss, a scalar with a graph,
            times ``loss_scale``.
        at_representation: Whether the method weights gradients at the representation.
        features: The representation; ``None`` without one, or without a loss in this process.
        observed: Whether an analyzer waits for the layer Gramians.
        method: The multi-task optimizer.
        shared: The shared part of the network.
        scale: Factor on the method's update.
        watches: The values that have to be finite.
        collected: Gradients in the tasks' own parameters, which are summed over processes and
            micro-batches; ``None`` lets backward fill their ``.grad``.
        held: Earlier micro-batches of the step, those of this process.
        accumulated: Whether some process has earlier micro-batches.
        totals: Task index -> the sum of its counts over processes and micro-batches.
        own: The tasks' own parameters.
        processes: The processes that share the step.
        loss_scale: Scale of the losses in float16; ``None`` without a scaler.
        groups: The groups of layers that the method weighs each by itself; ``None`` for all layers
            together.
        memory: Whether the Jacobian of the shared part is held.
        passed: How gradients pass through modules that learn from them.
        failure: An error of this process that is to be raised once the other processes know of it.
    """

    info: StepInfo
    tasks: tuple[str, ...]
    present: tuple[int, ...]
    losses: Tensor
    terms: dict[int, Tensor]
    at_representation: bool
    features: Tensor | None
    observed: bool
    method: Method
    shared: SharedPart
    scale: float
    watches: StepWatches
    collected: CollectedGradients | None
    held: Held
    accumulated: bool
    totals: dict[int, float]
    own: OwnParameters
    processes: Processes
    loss_scale: float | None
    groups: LayerGroups | None = None
    memory: Memory = "jacobian"
    passed: Passed = field(default_factory=Passed)
    failure: Exception | None = None

    def backward_of(self, task: int) -> None:
        """Run a task's backward, if this process has its loss; the last one frees the graph."""
        term = self.terms.get(task)
        if term is None:
            return
        retain = task != max(self.terms) or self.keeps_graph
        if self.collected is None:
            term.backward(retain_graph=retain)
            return
        with self.failing_for_all(), self.collected.collecting(task, self.own_leaves(term)):
            term.backward(retain_graph=retain)

    @contextmanager
    def failing_for_all(self) -> Iterator[None]:
        """Keep an error in a ``with`` block for later if other processes wait for this one.

        This process goes on with NaN in place of gradients, so that the others end the step too.
        """
        try:
            yield
        except Exception as error:
            if not self.processes.several:
                raise
            self.failure = self.failure or told_of_wrapper(error)

    def own_leaves(self, term: Tensor) -> list[Tensor]:
        """The leaves outside the shared part that a term reaches."""
        return [leaf for leaf in reached_leaves(term) if leaf not in self.shared_leaves]

    @cached_property
    def keeps_graph(self) -> bool:
        """Whether the last backward keeps the graph, which compiled code asks for.

        What torch compiles for a backward that frees the graph is of no use to several tasks.
        """
        return len(self.tasks) > 1 and is_compiled(self.shared.module)

    @cached_property
    def shared_leaves(self) -> dict[Tensor, None]:
        """The parameters of the shared layers that are not frozen, in order."""
        return self.shared.trainable()

    def give(self, task: int, leaf: Tensor, gradient: Tensor | None) -> None:
        """Give a leaf of a task its gradient, as ``backward`` does."""
        if self.collected is None:
            accumulate(leaf, gradient)
        elif gradient is not None:
            self.collected.give(task, leaf, gradient)

    def own_totals(self, also: Sequence[Tensor] = ()) -> dict[Tensor, Tensor]:
        """Collected gradients, summed over tasks and processes.

        Args:
            also: Leaves beside the tasks' own that have been collected.
        """
        if self.collected is None:
            return {}
        totals = self.collected.totals()
        if self.failure is not None:
            totals |= {leaf: torch.full_like(leaf, math.nan, requires_grad=False) for leaf in also}
        return summed(totals, [*self.own.of(self.present), *also], self.processes)

    def put_totals(self) -> None:
        """Put the collected gradients, those in the shared part too, into ``.grad``."""
        shared = [*self.shared_leaves]
        totals = self.own_totals(also=shared)
        norms = [torch.linalg.vector_norm(totals[leaf].to_dense()) for leaf in shared if leaf in totals]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else self.losses.new_zeros(())
        if self.overflows(norm, totals):
            spoil(totals)
            return
        self.watches.sum.watch(self.info.step, norm.reshape(1))
        put(totals)

    def add_held(self, weights: Mapping[int, Tensor]) -> None:
        """Add the gradients of earlier micro-batches in the tasks' own parameters.

        Args:
            weights: Task index -> factor on its gradients; 1 if it is not there.
        """
        if not self.held.counts:
            return
        assert self.collected is not None
        for task in self.held.counts:
            self.held.own.scale(task, self.share_of_held(task) * weights.get(task, 1.0))
        self.collected.add(self.held.own)

    def share_of_held(self, task: int) -> float:
        """The factor on gradients of earlier micro-batches in the mean over all."""
        return self.held.references[task] / self.totals[task]

    @contextmanager
    def asking(self) -> Iterator[Method]:
        """The method as one of the present tasks; errors name step and tasks.

        What it adds to ``.grad`` of its own parameters is scaled as the losses are.
        """
        all_present = len(self.present) == len(self.tasks)
        among = nullcontext() if all_present else self.method.among(self.present)
        # Among some tasks, others stand in the place of the parameters.
        parameters = [] if self.loss_scale is None else [*self.method.parameters()]
        with naming_step(self.info.step, tuple(self.info.losses)), among:
            if self.loss_scale is None:
                yield self.method
                return
            added = CollectedGradients()
            with added.collecting(self.method, parameters):
                yield self.method
            added.scale(self.method, self.loss_scale)
            put(added.totals())

    def in_all_tasks(self, values: Tensor, axes: int = 1) -> Tensor:
        """Values of the present tasks among those of all K, which are zero.

        Args:
            values: (..., K'), or (..., K', K') with two axes.
            axes: Number of trailing axes that run over tasks.
        """
        if len(self.present) == len(self.tasks):
            return values
        whole = values.new_zeros(*values.shape[:-axes], *[len(self.tasks)] * axes)
        index = torch.tensor(self.present, device=values.device)
        places = (index,) if axes == 1 else (index[:, None], index)
        whole[(..., *places)] = values
        return whole

    def overflows(self, squares: Tensor, own: dict[Tensor, Tensor]) -> bool:
        """Whether to skip a step with scaled losses: a value is not finite, here or earlier in it.

        Args:
            squares: Norms of gradients in the shared part, squared or not.
            own: Gradients in other parameters.
        """
        if self.loss_scale is None:
            return False
        finite = bool(self.losses.isfinite().all().to(squares.device) & squares.isfinite().all())
        # Other leaves, such as inputs, are those of this process alone, and no optimizer's.
        self.info.overflow |= not (finite and all_finite(g for p, g in own.items() if isinstance(p, nn.Parameter)))
        return self.info.overflow

    def watch_sum(self) -> None:
        """Note the norm of the gradient that one backward left in the shared parameters."""
        self.watches.watch_sum(self.info.step, self.shared.parameters)


class Route(Protocol):
    """One way from the losses of a step to ``.grad``."""

    def backward(self, step: Step) -> bool:
        """Fill ``.grad`` if the step is this route's own.

        Returns:
            Whether it is; ``False`` leaves the step untouched for the next route.
        """
