"""Which tensors count as the same value in one call of a branched network."""

from collections.abc import Iterable

import torch
from torch import Tensor

Identity = tuple[int, int]
"""A tensor's value: the tensor's id, and how often it has been written to."""


class Identities:
    """The identities of tensors, where equal tensors of different tasks may count as one.

    Args:
        compare_floats: Whether floating-point arguments without gradients are compared too. With
            gradients off, every tensor is of that kind, and keeping them all would take memory.
    """

    def __init__(self, compare_floats: bool) -> None:
        self._compare_floats = compare_floats
        self._same: dict[int, tuple[Tensor, int, Identity]] = {}
        self._given: dict[tuple[object, ...], list[tuple[Tensor, int]]] = {}

    def of(self, tensor: Tensor) -> Identity:
        """The identity of a tensor."""
        known = self._same.get(id(tensor))
        if known and known[0] is tensor and known[1] == tensor._version:
            return known[2]
        return id(tensor), tensor._version

    def of_recorded_argument(self, path: str, tensor: Tensor) -> Identity:
        """The identity of an argument of the first task, which is kept to be compared with."""
        if self._is_compared(tensor):
            self._given.setdefault(_place(path, tensor), []).append((tensor, tensor._version))
        return self.of(tensor)

    def of_argument(self, path: str, tensor: Tensor) -> Identity:
        """The identity of an argument of a later task.

        A mask that every task makes anew counts as the first task's mask if it is equal.
        """
        identity = self.of(tensor)
        if not self._is_compared(tensor) or identity != (id(tensor), tensor._version):
            return identity
        given = self._given.get(_place(path, tensor), [])
        if all(tensor is not other for other, _ in given):
            for other, version in given:
                if other._version == version and torch.equal(tensor, other):
                    self.equate([tensor], [self.of(other)])
                    return self.of(other)
        return identity

    def equate(self, tensors: Iterable[Tensor], identities: Iterable[Identity]) -> None:
        """Give tensors the identities of others."""
        for tensor, identity in zip(tensors, identities, strict=True):
            self._same[id(tensor)] = tensor, tensor._version, identity

    def _is_compared(self, tensor: Tensor) -> bool:
        return not tensor.requires_grad and (self._compare_floats or not tensor.is_floating_point())


def _place(path: str, tensor: Tensor) -> tuple[object, ...]:
    return path, tensor.shape, tensor.dtype, tensor.device
