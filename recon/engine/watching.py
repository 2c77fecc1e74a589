"""Conflicts in a training that Recon does not run: extra backwards, and nothing else.

The loop keeps its own loss, backward and optimizer. An observed step costs one backward a task
through the heads and the shared part; other steps cost nothing. The gradients go through
``torch.autograd.grad``, so ``.grad``, hooks on it and the reduction of
``DistributedDataParallel`` never see them.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from recon.conflict import ConflictAnalyzer, MeasuredMap
from recon.conflict.one_task import warn_of_layers_of_one_task
from recon.engine.agreement import agree
from recon.engine.aside import leaving_no_trace
from recon.engine.dispatch import bring, step_of
from recon.engine.evaluation import Evaluation
from recon.engine.held import Held
from recon.engine.precision import full_precision
from recon.engine.setting import checked_setting
from recon.engine.step_info import StepInfo
from recon.engine.watched_gradients import fill_rows, put_gradients
from recon.gradients.graph import without_grad
from recon.gradients.parts import Shared, as_one_module

Heads = Mapping[str, nn.Module] | nn.ModuleDict | Sequence[str]
"""Task -> head, or the names of the tasks alone."""


class Watch:
    """Observes the conflicts of a training loop that goes its own way.

    :func:`recon.watch` makes one. Call it with the task losses of each step, before their backward.

    Args:
        shared: The module that the tasks share, or several; see :class:`recon.Engine`.
        heads: Task -> head, or the names of the K >= 2 tasks.
        every: Observe each ``every``-th step, the first included.
        scaler: The ``torch.amp.GradScaler`` of training in float16; see :class:`recon.Engine`.
        process_group: The processes that share a step; see there.

    Attributes:
        analyzer: The :class:`recon.ConflictAnalyzer` with the statistics so far.

    Raises:
        ValueError: As :class:`recon.ConflictAnalyzer`.
        TypeError: The shared part is no module.

    Example:
        >>> from torch import nn
        >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
        >>> watch = Watch(backbone, heads)
        >>> features = backbone(torch.ones(2, 4))
        >>> info = watch({task: head(features).square().mean() for task, head in heads.items()})
        >>> info.cosines.shape, backbone.weight.grad
        (torch.Size([2, 2]), None)
    """

    def __init__(
        self,
        shared: Shared,
        heads: Heads,
        every: int = 1,
        *,
        scaler: torch.amp.GradScaler | None = None,
        process_group: Any = None,
    ) -> None:
        module, tasks = as_one_module(shared), _tasks(heads)
        own = [] if isinstance(heads, Sequence) else list(heads.values())
        self.analyzer = ConflictAnalyzer(module, tasks, every)
        self._setting = checked_setting(
            module, tasks, "joint", "method", "parameters", scaler, process_group, heads=own or None
        )
        self._setting.shared.analyzer = self.analyzer
        self._observed: bool | None = None  # None before the first losses of a step

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.analyzer})"

    def __call__(self, losses: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> StepInfo | None:
        """Observe a step, if it is one of the n-th.

        Call it before ``loss.backward()``, in every process. Gradients, the graph, buffers and
        random numbers stay as they are.

        Args:
            losses: Task -> scalar loss with a graph, for the tasks that the batch has labels of; or
                ``{}`` where :meth:`accumulate` has taken all of the batch.
            counts: Task -> the number of labelled items that the loss is the mean of; see
                :meth:`recon.Engine.backward`.

        Returns:
            The record of an observed step, with its losses and Gramians; ``None`` for others, and
            while the shared part is frozen.

        Raises:
            ValueError: There is no loss; or one is of an unknown task, no scalar or without a
                graph. The step then does not count.
            TypeError: The losses are no mapping, or one is no tensor.
            RuntimeError: The graph is gone already.
        """
        observed = self.observes()
        self._observed = None
        if not observed:
            self._setting.step_count += 1
            return None
        try:
            info = self._observe(Evaluation.given(losses, None, counts))
        except Exception:
            self.analyzer.retract()
            raise
        self._setting.step_count += 1
        return info

    def accumulate(self, losses: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> None:
        """Take a part of the batch of the next step, where a loop divides its batches.

        The step's gradients are means over all its parts; ``watch(losses)`` takes the last part, or
        ``watch({})`` ends the step.

        Args:
            losses: As in a call.
            counts: As in a call.

        Raises:
            ValueError: As a call.
            TypeError: As a call.
            RuntimeError: As a call.
        """
        if not self.observes() or not self._setting.shared.trains():
            return
        setting = self._setting
        brought = bring(Evaluation.given(losses, None, counts), setting)
        held, gradients = setting.held, setting.shared.gradients
        held.check_rows(gradients)
        held.rows = gradients
        gradients.hold_rows()
        with self._aside(), without_grad(gradients.parameters):
            for task, loss in brought.losses.items():
                term = setting.scaling.scaled(loss * held.factor(task, brought.counts[task]))
                put_gradients(term, gradients.parameters)
                if task in held.counts:
                    gradients.add_row(task)
                else:
                    gradients.fill_row(task)
        held.add(brought.losses, brought.counts)
        held.counted = held.counted if brought.counted is None else brought.counted

    def map(self, **provenance: Any) -> MeasuredMap:
        """Return the conflict map of the steps so far.

        It warns of layers that had gradients of one task alone, such as heads within the shared
        part.

        Args:
            **provenance: Kept with the map; see :meth:`recon.ConflictAnalyzer.conflict_map`.

        Raises:
            RuntimeError: No step has been observed.
        """
        cmap = self.analyzer.conflict_map(**provenance)
        warn_of_layers_of_one_task(cmap)
        return cmap

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics on the CPU, for a checkpoint of yours."""
        return self.analyzer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``.

        Raises:
            ValueError: It has other layers, tasks or ``every``.
        """
        self.analyzer.load_state_dict(state)

    def observes(self) -> bool:
        """Whether the present step, of which losses are to come, is observed."""
        if self._observed is None:
            self._observed = self.analyzer.observes()
        return self._observed

    def _observe(self, evaluation: Evaluation) -> StepInfo | None:
        setting = self._setting
        if not setting.shared.trains():
            return None
        try:
            brought, agreed = agree(setting, lambda: bring(evaluation, setting))
        finally:
            held, setting.held = setting.held, Held()
        setting.present = agreed.present
        step = step_of(brought, agreed, held, setting, observed=True)
        with self._aside():
            fill_rows(step)
        gradients = step.shared.gradients
        with full_precision(gradients.device):
            if step.loss_scale is not None:
                gradients.jacobian.div_(step.loss_scale)
            gramians = gradients.layer_gramians()
        if step.failure is not None:
            raise step.failure
        if step.overflows(gramians, {}):
            self.analyzer.retract()
            return step.info
        step.info.layer_gramians = step.in_all_tasks(gramians, axes=2)
        self.analyzer.observe(step.info.layer_gramians)
        return step.info

    def _aside(self) -> AbstractContextManager[None]:
        return leaving_no_trace([], self._setting.shared.parameters[0].device)


def watch(
    shared: Shared,
    heads: Heads,
    every: int = 1,
    *,
    scaler: torch.amp.GradScaler | None = None,
    process_group: Any = None,
) -> Watch:
    """Observe the conflicts of a training loop of your own.

    Call the result with the task losses of each step, before their backward. The training itself
    stays as it is, bit for bit.

    Args:
        shared: The module that the tasks share, or several; any ``nn.Module``.
        heads: Task -> head, or the names of the K >= 2 tasks.
        every: Observe each ``every``-th step, the first included. An observed step costs K more
            backwards, the others nothing; each 10th or 20th step gives about the same map.
        scaler: The ``torch.amp.GradScaler`` of training in float16. Hand over losses that are not
            scaled.
        process_group: The processes that share a step, each with its part of the batch; ``None``
            for the default group of ``torch.distributed``, if it is initialised. All of them call
            the watch in every step, and the map is that of all their data.

    Raises:
        ValueError: Fewer than two tasks, a task name that is not allowed, no parameters, or
            ``every`` below 1.
        TypeError: The shared part is no module.

    Example:
        >>> import recon
        >>> from torch import nn
        >>> backbone = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})
        >>> watch = recon.watch(backbone, heads, every=2)
        >>> for _ in range(4):
        ...     features = backbone(torch.ones(2, 4))
        ...     losses = {task: head(features).square().mean() for task, head in heads.items()}
        ...     info = watch(losses)
        ...     sum(losses.values()).backward()
        >>> watch.map()
        MeasuredMap(Sequential: 1 layer, tasks a, b, 2 observed steps)
    """
    return Watch(shared, heads, every, scaler=scaler, process_group=process_group)


def _tasks(heads: Heads) -> list[str]:
    if isinstance(heads, str) or not isinstance(heads, Mapping | nn.ModuleDict | Sequence):
        raise TypeError(
            f"heads is {type(heads).__name__}; give {{task: head}}, an nn.ModuleDict, or the list of task names"
        )
    return list(heads.keys()) if isinstance(heads, Mapping | nn.ModuleDict) else list(heads)
