"""What a step is refused or warned for: its losses, the optimizer, and parameters that the shared part lacks."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recon.gradients.graph import leaves_in_common
from recon.methods import Method


def check_losses(losses: Mapping[str, Tensor], tasks: Sequence[str], step: int) -> list[Tensor]:
    """The losses in the order of the tasks, as scalars with a graph.

    Raises:
        ValueError: One is missing, unknown, no real scalar, or has no graph.
        TypeError: They are no mapping, or one is no tensor.
    """
    ordered = ordered_losses(losses, tasks, step)
    for task, loss in zip(tasks, ordered, strict=True):
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of task {task!r} has no graph; compute it from the network with gradients enabled"
            )
    return ordered


def ordered_losses(losses: Mapping[str, Tensor], tasks: Sequence[str], step: int) -> list[Tensor]:
    """As :func:`check_losses`, of losses that need no graph."""
    if not isinstance(losses, Mapping):
        raise TypeError(f"losses must be a mapping of tasks to scalar losses, got {type(losses).__name__}")
    missing = [task for task in tasks if task not in losses]
    extra = [task for task in losses if task not in tasks]
    if missing or extra:
        raise ValueError(
            f"step {step}: losses are given for {list(losses)}, tasks are {list(tasks)}"
            + (f"; no loss for {missing}" if missing else "")
            + (f"; unknown {extra}" if extra else "")
        )
    for task in tasks:
        loss = losses[task]
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss of task {task!r} is {loss!r}; it must be a scalar tensor with a graph")
        if loss.numel() != 1:
            raise ValueError(f"the loss of task {task!r} has shape {tuple(loss.shape)}; reduce it to a scalar")
        if loss.is_complex():
            raise ValueError(f"the loss of task {task!r} is complex; make it real, as by loss.abs() or loss.real")
    return [losses[task].reshape(()) for task in tasks]


def refuse_processes() -> None:
    """Refuse to work in a run of several processes.

    Raises:
        RuntimeError: There are several.
    """
    distributed: Any = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise RuntimeError(
            f"recon trains in one process for now, this run has {distributed.get_world_size()}; start it with devices=1"
        )


def warn_of_forgotten_parameters(method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Warn of parameters of the method that the optimizer does not have."""
    known = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if not known.issuperset(method.parameters()):
        warnings.warn(
            f"{type(method).__name__} has parameters that the optimizer does not train; "
            "make the engine first, and give the optimizer *method.parameters() too",
            stacklevel=3,
        )


def warn_of_parts_left_out(losses: Sequence[Tensor], tasks: Sequence[str], shared: Collection[Tensor]) -> None:
    """Warn of parameters that several losses reach and that do not belong to the shared part.

    They receive the plain sum of the tasks' gradients whatever the method, and no conflict is seen in them.

    Args:
        losses: K scalars with a graph.
        tasks: Their tasks.
        shared: The shared parameters.
    """
    # Inputs that losses differentiate by (as of differential equations) are leaves too, and nobody trains them.
    left_out = {
        leaf: by
        for leaf, by in leaves_in_common(losses).items()
        if isinstance(leaf, nn.Parameter) and leaf not in shared
    }
    if not left_out:
        return
    by = sorted({index for indices in left_out.values() for index in indices})
    shapes = [str(tuple(leaf.shape)) for leaf in left_out]
    warnings.warn(
        f"{len(left_out)} parameters outside of shared are reached by the losses of several tasks "
        f"({', '.join(repr(tasks[index]) for index in by)}): they get the plain sum of the gradients, and no map shows "
        f"them. Their shapes: {', '.join(shapes[:8])}{', ...' if len(shapes) > 8 else ''}. If they are part of "
        "what the tasks share, hand it over too: shared=[encoder, neck]",
        stacklevel=5,
    )


@contextmanager
def naming_step(step: int, tasks: Sequence[str]) -> Iterator[None]:
    """Add the step and the tasks' names to what methods refuse, which know tasks by their index."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if type(error) not in (ValueError, RuntimeError):  # such as torch's, of exhausted memory
            raise
        order = ", ".join(f"{index} {task!r}" for index, task in enumerate(tasks))
        raise type(error)(f"{error} (step {step}; tasks: {order})") from error
