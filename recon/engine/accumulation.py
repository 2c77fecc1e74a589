"""Accumulation: the gradients of a micro-batch, kept for the step that ends the batch."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from recon.engine.agreement import Brought, check_synchronised, raise_refusal
from recon.engine.compiled import telling_of_plain_backwards
from recon.engine.dispatch import bring, zero_terms
from recon.engine.evaluation import Evaluation
from recon.engine.lessons import hold_passed
from recon.engine.memory import check_whole_batch
from recon.engine.parts import EngineParts
from recon.engine.setting import Setting
from recon.gradients.graph import drop_grad, reached_leaves, without_grad
from recon.gradients.wrappers import is_compiled
from recon.methods import Method


class MicroBatches(EngineParts):
    """An engine that takes a batch in parts."""

    def accumulate(self, losses: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> None:
        """Add the gradients of a micro-batch to those of the next :meth:`backward` or :meth:`step`.

        The step that follows is that of the whole batch: the method sees the mean gradients over
        all micro-batches. ``.grad`` stays as it is until then, and nothing is sent to other
        processes. Every method takes one backward a task, and in several processes K whole rows of
        gradients are held in each.

        Args:
            losses: As in :meth:`backward`. The graph is freed.
            counts: As in :meth:`backward`.

        Raises:
            ValueError: A loss is refused, as in :meth:`backward`, and the micro-batch does not
                count; the method weights gradients at the representation; or task gradients are
                not held.
            TypeError: The method evaluates the whole batch again in its step.

        Example:
            >>> from recon import Engine
            >>> from torch import nn
            >>> backbone, heads = nn.Linear(4, 3), {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}
            >>> engine = Engine(backbone, ["a", "b"], "pcgrad")
            >>> def losses(batch):
            ...     features = backbone(batch)
            ...     return {task: head(features).square().mean() for task, head in heads.items()}
            >>> engine.accumulate(losses(torch.ones(2, 4)), counts={"a": 2, "b": 2})
            >>> info = engine.backward(losses(torch.zeros(1, 4)), counts={"a": 1, "b": 1})
            >>> info.step, backbone.weight.grad.shape
            (0, torch.Size([3, 4]))
        """
        hold_gradients(lambda: Evaluation.given(losses, None, counts), self._setting)


def hold_gradients(evaluate: Callable[[], Evaluation], setting: Setting) -> None:
    """Add the gradients of an evaluation to those that wait for the next step.

    Nothing is sent to other processes, and ``.grad`` stays as it is.

    Args:
        evaluate: Gives the losses, with their counts.
        setting: The setting of the engine.

    Raises:
        ValueError: As :meth:`MicroBatches.accumulate`.
        TypeError: As :meth:`MicroBatches.accumulate`.
    """
    check_accumulates(setting.method, setting.at_representation, len(setting.tasks))
    check_whole_batch(setting.memory, len(setting.tasks))
    if not (setting.processes.several and setting.synchronised):
        _hold(_bring_finite(evaluate(), setting), {}, setting)
        return
    brought, refusal = Brought(), None
    try:
        brought = _bring_finite(evaluate(), setting)
    except Exception as error:
        refusal = error
    _hold(brought, _others_tasks(brought, refusal, setting), setting)


def _bring_finite(evaluation: Evaluation, setting: Setting) -> Brought:
    """The checked losses of this process; without a scaler they have to be finite."""
    brought = bring(evaluation, setting)
    if not setting.scaling.active and brought.losses:
        values = next(iter(brought.losses.values())).new_zeros(len(setting.tasks))
        for task, loss in brought.losses.items():
            values[task] = loss.detach()
        setting.watches.losses.watch(setting.step_count, values)
    return brought


def _others_tasks(brought: Brought, refusal: Exception | None, setting: Setting) -> dict[int, Tensor]:
    """Zero losses of tasks that only others have, where norms wait for their backwards.

    Raises:
        ValueError: A process refuses its micro-batch, or lacks the labels that such norms need.
    """
    own = [refusal is not None, *(task in brought.losses for task in range(len(setting.tasks)))]
    flags = torch.tensor(own, dtype=torch.float32, device=setting.shared.parameters[0].device)
    gathered = setting.processes.gather(flags).cpu() > 0
    if gathered[:, 0].any():
        raise_refusal(refusal, gathered[:, 0].tolist(), setting)
    here = gathered[:, 1:]
    check_synchronised(here, setting)
    return zero_terms(brought.losses, here.any(0).nonzero().flatten().tolist())


def _hold(brought: Brought, others: dict[int, Tensor], setting: Setting) -> None:
    held, gradients = setting.held, setting.shared.gradients
    held.check_rows(gradients)
    held.rows = gradients
    gradients.hold_rows()
    losses = brought.losses | others
    shared = setting.shared.trainable()
    keeps_graph = len(setting.tasks) > 1 and is_compiled(setting.shared.module)
    with without_grad(gradients.parameters), telling_of_plain_backwards():
        for task in sorted(losses):
            term = setting.scaling.scaled(losses[task] * held.factor(task, brought.counts.get(task, 1.0)))
            own = [leaf for leaf in reached_leaves(term) if leaf not in shared]
            with held.own.collecting(task, own):
                term.backward(retain_graph=keeps_graph or task != max(losses))
            if task not in brought.losses:
                drop_grad(gradients.parameters)
            elif task in held.counts:
                gradients.add_row(task)
            else:
                gradients.fill_row(task)
    hold_passed(setting)
    held.add(brought.losses, brought.counts)
    held.counted = held.counted if brought.counted is None else brought.counted


def check_accumulates(method: Method, at_representation: bool, tasks: int) -> None:
    """Refuse micro-batches where a step cannot be made of them.

    Args:
        method: The multi-task optimizer.
        at_representation: Whether it weights gradients at the representation.
        tasks: Number of the tasks; one is trained plainly.

    Raises:
        ValueError: The method weights gradients at the representation.
        TypeError: The method evaluates the whole batch again.
    """
    if at_representation and tasks > 1:
        raise ValueError(
            "at='representation' weights the gradients of a batch before its backward through the shared part, and so "
            "takes whole batches; use at='parameters' to accumulate"
        )
    if not method.accumulates and tasks > 1:
        raise TypeError(
            f"{type(method).__name__} evaluates the losses of the whole batch again in its step, and the "
            "micro-batches before the last are gone by then; give it whole batches, or take another method"
        )
