"""Gradients in the tasks' own parameters, set aside until they are summed.

Heads, branches and modules inside losses belong to one task each, or to a group of tasks, whose
gradients add up. Over several micro-batches or processes their gradients are sums, which ``.grad``
receives at the end of the step.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from recon.gradients.graph import accumulate, numbers_of, without_grad
from recon.gradients.processes import Processes
from recon.gradients.reached import Reached


class CollectedGradients:
    """New gradients of a step by the task whose loss they come from.

    Example:
        >>> weight, collected = torch.ones(1, requires_grad=True), CollectedGradients()
        >>> for factor in (2, 3):
        ...     with collected.collecting("seg", [weight]):
        ...         (factor * weight).backward()
        >>> collected.scale("seg", 0.5)
        >>> weight.grad is None, collected.totals()
        (True, {tensor([1.], requires_grad=True): tensor([2.5000])})
    """

    def __init__(self) -> None:
        self._by_task: dict[object, dict[Tensor, Tensor]] = {}

    @contextmanager
    def collecting(self, task: object, leaves: Sequence[Tensor]) -> Iterator[None]:
        """Take the gradients that backwards in a ``with`` block give to leaves; ``.grad`` stays."""
        with without_grad(leaves):
            yield
            for leaf in leaves:
                if leaf.grad is not None:
                    self.give(task, leaf, leaf.grad)

    def give(self, task: object, leaf: Tensor, gradient: Tensor) -> None:
        """Add a task's gradient in a leaf."""
        own = self._by_task.setdefault(task, {})
        own[leaf] = _sum(own[leaf], gradient) if leaf in own else gradient

    def add(self, other: "CollectedGradients") -> None:
        """Add the gradients of another collection."""
        for task, gradients in other._by_task.items():
            for leaf, gradient in gradients.items():
                self.give(task, leaf, gradient)

    def scale(self, task: object, factor: float | Tensor) -> None:
        """Multiply a task's gradients by a number."""
        for leaf, gradient in self._by_task.get(task, {}).items():
            self._by_task[task][leaf] = gradient * factor

    def totals(self) -> dict[Tensor, Tensor]:
        """Leaf -> the sum of all tasks' gradients in it."""
        totals: dict[Tensor, Tensor] = {}
        for gradients in self._by_task.values():
            for leaf, gradient in gradients.items():
                totals[leaf] = _sum(totals[leaf], gradient) if leaf in totals else gradient
        return totals


def summed(totals: Mapping[Tensor, Tensor], leaves: Sequence[Tensor], processes: Processes) -> dict[Tensor, Tensor]:
    """Gradients summed over the processes, in float32 at least.

    Args:
        totals: Leaf -> gradient, those of this process.
        leaves: The leaves that some process may have a gradient in, in the same order everywhere.
        processes: The processes.

    Returns:
        Leaf -> gradient; sparse where all gradients came sparse. Gradients in other leaves stay as
        they are.
    """
    if not processes.several or not leaves:
        return dict(totals)
    known = set(leaves)
    some, sparse = [leaf in totals for leaf in leaves], [leaf in totals and totals[leaf].is_sparse for leaf in leaves]
    reached = Reached(some, sparse).over(processes, leaves[0].device)
    sums = {}
    for same in _by_dtype(leaf for leaf, is_reached in zip(leaves, reached.some, strict=True) if is_reached):
        flat = torch.cat([_flat(totals.get(leaf), leaf) for leaf in same])
        processes.sum(flat)
        for leaf, piece in zip(same, flat.split([leaf.numel() for leaf in same]), strict=True):
            sums[leaf] = piece.view(leaf.shape).to(leaf.dtype)
    return {leaf: gradient for leaf, gradient in totals.items() if leaf not in known} | {
        leaf: sums[leaf].to_sparse(1) if is_sparse else sums[leaf]
        for leaf, is_sparse in zip(leaves, reached.sparse, strict=True)
        if leaf in sums
    }


def put(gradients: Mapping[Tensor, Tensor]) -> None:
    """Add gradients to ``.grad`` of their leaves, as ``backward`` does."""
    for leaf, gradient in gradients.items():
        accumulate(leaf, gradient)


def spoil(leaves: Iterable[Tensor]) -> None:
    """Fill ``.grad`` of leaves with NaN, by which a scaler knows to skip the step."""
    for leaf in leaves:
        leaf.grad = torch.full_like(leaf, float("nan"), requires_grad=False)


def all_finite(gradients: Iterable[Tensor]) -> bool:
    """Whether every number of the gradients is finite."""
    norms = [torch.linalg.vector_norm(numbers_of(gradient)) for gradient in gradients]
    return not norms or bool(torch.stack([norm.float() for norm in norms]).isfinite().all())


def _sum(first: Tensor, second: Tensor) -> Tensor:
    return second + first if first.is_sparse and not second.is_sparse else first + second


def _flat(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    dtype = torch.promote_types(leaf.dtype, torch.float32)
    if gradient is None:
        return torch.zeros(leaf.numel(), dtype=dtype, device=leaf.device)
    return (gradient.to_dense() if gradient.is_sparse else gradient).flatten().to(dtype)


def _by_dtype(leaves: Iterable[Tensor]) -> list[list[Tensor]]:
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for leaf in leaves:
        kinds.setdefault((leaf.device, leaf.dtype), []).append(leaf)
    return list(kinds.values())
