"""The start of a step: which tasks are there, in this process and in the others.

Every process brings its losses and counts. One small message a step makes them known to all, before
any gradient is sent. So a process that refuses its batch, or runs with other tasks, layers or
methods, ends the step for all with an error, instead of a wait without end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

import torch
from torch import Tensor

from recon.engine.alike import check_same_setting
from recon.engine.parallel_wrappers import check_not_wrapped
from recon.engine.setting import Setting
from recon.gradients.layers import shared_layers
from recon.gradients.precision import widest_dtype
from recon.gradients.wrappers import is_partly_shared


@dataclass
class Brought:
    """The losses that one process brings to a step.

    Attributes:
        losses: Task index -> scalar loss with a graph, for the tasks that it has labels of.
        counts: Task index -> the number of labelled items that the loss is the mean of.
        features: The representation at which the method weights gradients, or ``None``.
        counted: Whether counts were given for the losses; ``None`` without losses.
    """

    losses: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, float] = field(default_factory=dict)
    features: Tensor | None = None
    counted: bool | None = None


@dataclass
class Agreed:
    """The tasks of a step, over all micro-batches and processes.

    Attributes:
        present: Indices of the tasks that some process has a loss of, in order.
        totals: Task index -> the sum of the counts.
        losses: (K',) means of their losses, weighted by the counts, detached.
        evaluated: Indices of the tasks that some process has a loss of in this evaluation.
        accumulated: Whether micro-batches of some process belong to the step.
    """

    present: tuple[int, ...]
    totals: dict[int, float]
    losses: Tensor
    evaluated: tuple[int, ...]
    accumulated: bool


def agree(setting: Setting, bring: Callable[[], Brought]) -> tuple[Brought, Agreed]:
    """Bring this process's losses to a step, and learn of those of the others.

    Args:
        setting: The setting of the engine, with what earlier micro-batches brought.
        bring: Checks and returns the losses of this process.

    Raises:
        ValueError: A process refuses its losses; the processes differ in tasks, layers, methods or
            steps; or no process has a task.
    """
    processes = setting.processes
    if not processes.several:
        brought = bring()
        return brought, _agreed_alone(setting, brought)
    brought, refusal = Brought(), None
    try:
        if setting.agreed_with != processes.number:
            check_not_wrapped(setting.shared.module)
        brought = bring()
    except Exception as error:
        refusal = error
    check_same_setting(setting, processes)
    messages = processes.gather(_message(setting, brought, refusal))
    rows: list[list[float]] = messages[:, :4].tolist()
    counted = messages[:, 4].tolist()
    if any(refused for refused, *_ in rows):
        raise_refusal(refusal, [bool(refused) for refused, *_ in rows], setting)
    _check_same_step(rows, setting)
    if len(set(counted) - {0.0}) > 1:
        raise mixed_counts(setting.step_count, "processes")
    accumulated = any(held for *_, held in rows)
    return brought, _agreed(messages[:, 5:].unflatten(1, (4, -1)), accumulated, setting)


def _agreed_alone(setting: Setting, brought: Brought) -> Agreed:
    held = setting.held
    if not held.counts:  # no micro-batch came before: the losses are what they are
        present = tuple(brought.losses)
        losses = [loss.detach() for loss in brought.losses.values()]
        return Agreed(present, dict(brought.counts), _stacked(losses, setting), present, accumulated=False)
    counts, sums = held.with_losses(brought.losses, brought.counts)
    present = tuple(sorted(counts))
    losses = [sums[task] / counts[task] for task in present]
    return Agreed(present, counts, _stacked(losses, setting), tuple(brought.losses), accumulated=True)


def _stacked(losses: list[Tensor], setting: Setting) -> Tensor:
    if not losses:
        raise ValueError(
            f"step {setting.step_count}: there is no loss of any task; give the losses of the tasks that the batch has "
            "labels of, and skip a batch without any"
        )
    return torch.stack(losses)


def _message(setting: Setting, brought: Brought, refusal: Exception | None) -> Tensor:
    """Refused?, step, layers, micro-batches?, counts?; then four numbers a task."""
    counts, sums = setting.held.with_losses(brought.losses, brought.counts)
    tasks = range(len(setting.tasks))
    device = setting.shared.parameters[0].device
    numbers = [float(refusal is not None), float(setting.step_count), float(_layers(setting))]
    counted = setting.held.counted if brought.counted is None else brought.counted
    numbers += [float(bool(setting.held.counts)), 0.0 if counted is None else 1.0 + counted]
    numbers += [float(setting.own.fingerprint(task)) for task in tasks]
    numbers += [float(task in brought.losses) for task in tasks]
    numbers += [counts.get(task, 0.0) for task in tasks]
    known = torch.tensor(numbers, dtype=widest_dtype(device), device=device)
    values = [sums[task].to(known) if task in sums else known.new_zeros(()) for task in tasks]
    return torch.cat([known, torch.stack(values)])


def mixed_counts(step: int, parts: str) -> ValueError:
    """An error for counts that only some parts of a batch have."""
    return ValueError(
        f"step {step}: counts are given for some {parts} and not for others, which weighs them by different units; "
        "give counts with all losses, or with none"
    )


def _layers(setting: Setting) -> int:
    layers = shared_layers(setting.shared.module)
    return crc32(repr([(name, [p.numel() for p in own]) for name, own in layers.items()]).encode())


def _agreed(messages: Tensor, accumulated: bool, setting: Setting) -> Agreed:
    """What (R, 4, K) messages of each task's parameters, losses and counts say of the step."""
    own, here, counts = messages[:, :3].cpu().unbind(1)
    totals = counts.sum(0).tolist()
    present = tuple(task for task, total in enumerate(totals) if total > 0)
    if not present:
        raise ValueError(
            f"step {setting.step_count}: no process has a loss of any task; skip such a batch in all processes"
        )
    for task in present:
        _check_same_own(own[:, task].tolist(), counts[:, task].tolist(), setting.tasks[task])
    if setting.synchronised:
        check_synchronised(here > 0, setting)
    losses = messages[:, 3].sum(0) / messages[:, 2].sum(0)
    means = losses[list(present)].to(setting.loss_dtype)
    evaluated = tuple(here.any(0).nonzero().flatten().tolist())
    return Agreed(present, {task: totals[task] for task in present}, means, evaluated, accumulated)


def check_synchronised(here: Tensor, setting: Setting) -> None:
    """Refuse an evaluation whose backwards cannot run alike in all processes.

    The backward of a norm over all samples has a part in every process, also in those without a
    label of the task.

    Args:
        here: (R, K), whether a process has a loss of a task.
        setting: The setting of an engine with such norms.

    Raises:
        ValueError: A process has no loss at all; or the network is branched, and one lacks a task.
    """
    for rank, own in enumerate(here.tolist()):
        if not any(own):
            raise ValueError(
                f"process {rank} has no label of any task in step {setting.step_count}, and SyncBatchNorm needs all "
                "processes in every backward; skip such a batch in all processes"
            )
        if is_partly_shared(setting.shared.module) and own != here.any(0).tolist():
            raise ValueError(
                f"process {rank} lacks the labels of a task in step {setting.step_count}, and SyncBatchNorm in a "
                "branched network needs those of all its tasks in every process; use norms without it"
            )


def _check_same_step(rows: list[list[float]], setting: Setting) -> None:
    for rank, (_, step, layers, _) in enumerate(rows):
        if step != rows[0][1]:
            raise ValueError(
                f"process {rank} is at step {step:.0f}, process 0 at step {rows[0][1]:.0f}: one of them has left out a "
                "batch; give a process without labels an empty dict of losses, engine.backward({})"
            )
        if layers != rows[0][2]:
            raise ValueError(
                f"process {rank} trains other layers than process 0 in step {setting.step_count}; freeze and thaw "
                "layers in all processes alike"
            )


def _check_same_own(known: list[float], counts: list[float], task: str) -> None:
    """Refuse a task whose own parameters some process does not know."""
    if len(set(known)) == 1:
        return
    for rank, (fingerprint, count) in enumerate(zip(known, counts, strict=True)):
        if not fingerprint and not count:
            raise ValueError(
                f"process {rank} has no label of task {task!r} in this step and has met none before, so it does not "
                "know the parameters of its head; tell the engine of them: recon.Engine(..., heads=heads), or train "
                "with engine.step(closure, optimizer)"
            )
    raise ValueError(
        f"the parameters of task {task!r} outside the shared part differ between the processes; make the network alike "
        "in all processes, and tell the engine of all heads: recon.Engine(..., heads=heads)"
    )


def raise_refusal(own: Exception | None, refused: list[bool], setting: Setting) -> None:
    """Raise this process's own error, or one that tells of another's.

    Args:
        own: The error of this process, if it has one.
        refused: For each process whether it has an error.
        setting: The setting of the engine.
    """
    texts = setting.processes.gather_objects("" if own is None else str(own))
    if own is not None:
        raise own
    rank = refused.index(True)
    raise ValueError(f"process {rank} refused its batch in step {setting.step_count}: {texts[rank]}")
