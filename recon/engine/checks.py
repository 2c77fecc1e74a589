"""Checks of a step: its losses, its representation, the optimizer, and forgotten parts."""

import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from recon.engine.protocols import WeighsParts
from recon.errors import number_of
from recon.gradients.graph import leaves_in_common
from recon.gradients.wrappers import is_partly_shared
from recon.methods import GramianMethod, LossMethod, Method, list_methods

At = Literal["parameters", "representation"]


def check_losses(losses: Mapping[str, Tensor], tasks: Sequence[str], step: int) -> dict[int, Tensor]:
    """The losses of some of the tasks by index, in task order, as scalars with a graph.

    Raises:
        ValueError: One is of an unknown task, no real scalar, or has no graph.
        TypeError: They are no mapping, or one is no tensor.

    Example:
        >>> loss = torch.ones(1, requires_grad=True)
        >>> check_losses({"b": loss}, ["a", "b"], step=0)
        {1: tensor(1., grad_fn=<ViewBackward0>)}
        >>> check_losses({"c": loss}, ["a", "b"], step=0)
        Traceback (most recent call last):
        ValueError: step 0: losses are given for ['c'], tasks are ['a', 'b']; unknown ['c']
    """
    known = scalar_losses(losses, tasks, step)
    for index, loss in known.items():
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of task {tasks[index]!r} has no graph; compute it from the network with gradients enabled"
            )
    return known


def check_mapping(losses: Any) -> None:
    """Refuse losses without task names.

    Raises:
        TypeError: They are no mapping.
    """
    if not isinstance(losses, Mapping):
        raise TypeError(f"losses must be a mapping of tasks to scalar losses, got {type(losses).__name__}")


def scalar_losses(losses: Mapping[str, Tensor], tasks: Sequence[str], step: int) -> dict[int, Tensor]:
    """The losses of some of the tasks by index, in task order; see :func:`check_losses`."""
    check_mapping(losses)
    extra = [task for task in losses if task not in tasks]
    if extra:
        raise ValueError(f"step {step}: losses are given for {list(losses)}, tasks are {list(tasks)}; unknown {extra}")
    present = {index: losses[task] for index, task in enumerate(tasks) if task in losses}
    for index, loss in present.items():
        task = tasks[index]
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss of task {task!r} is {loss!r}; it must be a scalar tensor with a graph")
        if loss.numel() != 1:
            raise ValueError(f"the loss of task {task!r} has shape {tuple(loss.shape)}; reduce it to a scalar")
        if loss.is_complex():
            raise ValueError(f"the loss of task {task!r} is complex; make it real, as by loss.abs() or loss.real")
    return {index: loss.reshape(()) for index, loss in present.items()}


def check_counts(
    counts: Mapping[str, float] | None, losses: Collection[int], tasks: Sequence[str], step: int
) -> dict[int, float]:
    """The numbers of labelled items that losses are means of, by index of their task.

    Args:
        counts: Task -> count; ``None`` lets every loss count 1.
        losses: Indices of the tasks that have a loss.
        tasks: Names of all tasks.
        step: Number of the step, for the error.

    Raises:
        ValueError: A loss has no count, a count has no loss, or a count is not positive.

    Example:
        >>> check_counts({"b": 12}, [1], ["a", "b"], step=0)
        {1: 12.0}
        >>> check_counts({"b": 0}, [1], ["a", "b"], step=0)
        Traceback (most recent call last):
        ValueError: step 0: the count of task 'b' is 0; leave out the loss of a task without labels
    """
    if counts is None:
        return dict.fromkeys(losses, 1.0)
    if not isinstance(counts, Mapping):
        raise TypeError(f"counts must be a mapping of tasks to numbers, as losses are, got {type(counts).__name__}")
    names = [tasks[index] for index in losses]
    if set(counts) != set(names):
        raise ValueError(
            f"step {step}: counts are given for {list(counts)}, losses for {names}; give each loss its count"
        )
    known = {index: _number(counts[tasks[index]], tasks[index]) for index in losses}
    for index, count in known.items():
        if count != count or abs(count) == float("inf"):
            raise ValueError(f"step {step}: the count of task {tasks[index]!r} is {count:g}; give a finite number")
        if count <= 0:
            raise ValueError(
                f"step {step}: the count of task {tasks[index]!r} is {count:g}; leave out the loss of a task without "
                "labels"
            )
    return known


def _number(count: Any, task: str) -> float:
    if isinstance(count, Tensor) and count.numel() == 1:
        return float(count)
    if isinstance(count, bool) or not isinstance(count, Real):
        raise TypeError(
            f"the count of task {task!r} is {count!r}; give one number, of how many items the loss is the mean"
        )
    return float(count)


def check_at(at: At, shared: nn.Module, method: Method, tasks: int) -> None:
    """Refuse gradients at the representation where the method or the network has no use for them.

    A single task is trained plainly in any case.

    Raises:
        ValueError: The method needs only losses, or the Jacobian, or at the parameters parts of the
            batch; the network is branched; or ``at`` is unknown.
    """
    if at not in get_args(At):
        raise ValueError(f"at must be 'parameters' or 'representation', got {at!r}")
    if tasks == 1:
        return
    if at == "parameters":
        check_needs_no_parts(method)
        return
    check_weights_representations(method)
    if is_partly_shared(shared):
        raise ValueError(
            "a branched network has features for each task and no single representation; "
            "use at='parameters', or the network without branches"
        )


def check_needs_no_parts(method: Method) -> None:
    """Refuse a method that weighs by parts of the batch, at the parameters.

    Raises:
        ValueError: It does.
    """
    if isinstance(method, WeighsParts) and method.parts > 1:
        raise ValueError(
            f"{method} weighs the tasks by their gradients in {method.parts} parts of the batch, and gradients in "
            "parameters are sums over all samples; use at='representation', or parts=1"
        )


def check_weights_representations(method: Method) -> None:
    """Refuse a method that cannot weight tasks by their gradients at the representation.

    Raises:
        ValueError: The method needs only losses, or the Jacobian; the error lists those that can.
    """
    if isinstance(method, GramianMethod):
        return
    if isinstance(method, LossMethod):
        reason = "weights losses and takes one backward, where at='representation' has nothing to save"
    else:
        reason = "needs the Jacobian of the shared parameters, which at='representation' does not compute"
    raise ValueError(
        f"{type(method).__name__} {reason}; use at='parameters', or a Gramian method: "
        f"{', '.join(list_methods(GramianMethod))} or one of yours derived from recon.GramianMethod"
    )


def check_representation(representation: Any) -> Tensor:
    """The representation: one tensor, computed by the shared network.

    Raises:
        TypeError: It is missing, or no tensor.
        ValueError: It has no graph.
    """
    if representation is None:
        raise TypeError(
            "at='representation' needs the features that all heads take: give them to backward as representation=..., "
            "or return (losses, features) from the closure of a step"
        )
    if not isinstance(representation, Tensor):
        raise TypeError(
            f"the representation is of type {type(representation).__name__}; it must be the one tensor that all heads "
            "take. For features of several parts, or of each task, use at='parameters'"
        )
    if representation.grad_fn is None:
        raise ValueError("the representation has no graph; hand over what the shared network returned, not detached")
    return representation


def check_single_evaluation(method: Method, tasks: int) -> None:
    """Refuse a backward outside a step to a method that evaluates the losses again.

    Raises:
        TypeError: The method does, and there are several tasks.
    """
    if method.evaluates_again and tasks > 1:
        raise TypeError(
            f"{type(method).__name__} evaluates the losses several times a step; "
            "train with engine.step(closure, optimizer), as MultiTaskModule does"
        )


def check_validation(method: Method, given: bool) -> None:
    """Refuse a step without a validation batch to a method that needs one.

    Raises:
        ValueError: The method needs one, and none is given.
    """
    if method.needs_validation and not given:
        raise ValueError(
            f"{type(method).__name__} learns its weights from a validation batch in each step, and there is none; "
            "train with engine.step(closure, optimizer, validation=...), another closure that evaluates held-out data"
        )


def check_one_process(method: Method, tasks: int, processes: int) -> None:
    """Refuse several processes to a method that works in one.

    Raises:
        TypeError: There are several, and several tasks.
    """
    if processes > 1 and tasks > 1 and method.needs_one_process:
        raise TypeError(
            f"{type(method).__name__} works in one process only, and this run has {processes}; take another method "
            "(docs/methods.md says which work in several), or one process"
        )


def check_all_present(method: Method, present: Sequence[int], tasks: Sequence[str], step: int) -> None:
    """Refuse a step that lacks a task to a method that needs all of them.

    Raises:
        ValueError: The method needs all tasks, and one is absent.
    """
    if method.needs_all_tasks and len(present) < len(tasks):
        absent = [task for index, task in enumerate(tasks) if index not in present]
        raise ValueError(
            f"step {step}: there is no loss of {absent}, and {type(method).__name__} needs all tasks in a step; give "
            "it batches with labels of all, or take another method (docs/methods.md lists those that train without)"
        )


def warn_of_forgotten_parameters(method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Warn of parameters of the method that the optimizer lacks."""
    known = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if not known.issuperset(method.parameters()):
        warnings.warn(
            f"{type(method).__name__} has parameters that the optimizer does not train; "
            "make the engine first, and give the optimizer *method.parameters() too",
            stacklevel=3,
        )


def warn_of_parts_left_out(losses: Mapping[int, Tensor], tasks: Sequence[str], shared: Collection[Tensor]) -> None:
    """Warn of parameters outside the shared part that several losses reach.

    They receive the plain sum of the tasks' gradients whatever the method, and no map shows their
    conflicts.

    Args:
        losses: Task index -> scalar with a graph.
        tasks: Names of all tasks.
        shared: The parameters of the module that was handed over as the shared part.
    """
    # Leaves are also inputs that losses differentiate by, as of differential equations: untrained.
    order = [*losses]
    left_out = {
        leaf: [order[index] for index in by]
        for leaf, by in leaves_in_common([*losses.values()]).items()
        if isinstance(leaf, nn.Parameter) and leaf not in shared
    }
    if not left_out:
        return
    by = sorted({index for indices in left_out.values() for index in indices})
    shapes = [str(tuple(leaf.shape)) for leaf in left_out]
    warnings.warn(
        f"{number_of(len(left_out), 'parameter outside of shared is', 'parameters outside of shared are')} reached "
        "by the losses of several tasks "
        f"({', '.join(repr(tasks[index]) for index in by)}): they get the plain sum of the gradients, and no map shows "
        f"them. Their shapes: {', '.join(shapes[:8])}{', ...' if len(shapes) > 8 else ''}. If they are part of "
        "what the tasks share, hand it over too: shared=[encoder, neck]",
        stacklevel=_levels_to_caller(),
    )


def _levels_to_caller() -> int:
    """The ``stacklevel`` at which a warning of the calling function names the line of the user."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "recon":
        level, frame = level + 1, frame.f_back
    return level


@contextmanager
def naming_step(step: int, tasks: Sequence[str]) -> Iterator[None]:
    """Add step and task names to errors of methods, which only know indices."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if type(error) not in (ValueError, RuntimeError):  # such as torch's, of exhausted memory
            raise
        order = ", ".join(f"{index} {task!r}" for index, task in enumerate(tasks))
        raise type(error)(f"{error} (step {step}; tasks: {order})") from error
