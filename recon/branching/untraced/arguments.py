"""The arguments of a call that is made again, for every task."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from recon.branching.untraced.structure import Opaque, map_tensors


class Arguments:
    """Arguments that one network after another receives.

    The first network may write into them; the others then get clones of the original values.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._given = args, kwargs
        self._versions: list[tuple[Tensor, int]] = []
        self._before: Any = None
        try:
            self._before = map_tensors(list(self._given), self._kept)
        except Opaque:  # its structure is unknown, so it cannot be cloned
            self._versions = []

    def again(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The very same arguments, or clones if one of them was written to."""
        if all(tensor._version == version for tensor, version in self._versions):
            return self._given
        args, kwargs = map_tensors(self._before, lambda tensor: tensor.clone())
        return args, kwargs

    def _kept(self, tensor: Tensor) -> Tensor:
        self._versions.append((tensor, tensor._version))
        return tensor.clone()


@contextmanager
def out_of_inference(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Leave inference mode for the call, where writes into tensors cannot be noticed.

    The call runs without gradients instead.
    """
    if not torch.is_inference_mode_enabled():
        yield args, kwargs
        return
    with torch.inference_mode(False), torch.no_grad():
        yield _normal(args, kwargs)


def _normal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        normal = map_tensors([*args, kwargs], lambda tensor: tensor.clone() if tensor.is_inference() else tensor)
    except Opaque:
        return args, kwargs
    return tuple(normal[:-1]), normal[-1]
