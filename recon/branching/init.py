"""The start values of the copies of a branched layer."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recon.branching.copying import deep_copy, without_wrappers
from recon.branching.layers import join, own_tensors
from recon.gradients.layers import root_name

NamedInit = Literal["copy", "reset"]
"""Starts of the copies that a configuration can name."""

Init = NamedInit | Callable[[], nn.Module]


@torch.no_grad()
def initialise(
    branches: Mapping[str, nn.Module], init: Init, backbone: nn.Module, paths: Sequence[str], tensors: Collection[str]
) -> None:
    """Give the copies of every task, which hold the backbone's weights, their start values.

    Args:
        branches: Task -> its copies.
        init: See :func:`recon.branch`.
        backbone: The network of which they are copies.
        paths: The branched layers.
        tensors: The tensors that each task owns; all others in the copies are tied to shared
            tensors.
    """
    if init == "copy":
        return
    if init != "reset" and not callable(init):
        raise ValueError(f"init is {init!r}; it must be 'copy', 'reset' or a function that makes a fresh backbone")
    resettable = [] if callable(init) else [path for path in paths if _can_be_reset(backbone, path)]
    started: set[Tensor] = set()  # tasks may share a copy
    for branch in branches.values():
        fresh = _of_network(without_wrappers(init()), tensors) if callable(init) else _of_layers(backbone, resettable)
        for name, tensor in (*branch.named_parameters(), *branch.named_buffers()):
            if name in tensors and name in fresh and tensor not in started:
                _set(name, tensor, fresh[name])
                started.add(tensor)


def _can_be_reset(backbone: nn.Module, path: str) -> bool:
    layer = backbone.get_submodule(path)
    resets = callable(getattr(layer, "reset_parameters", None))
    if not resets:
        name = path or root_name(backbone)
        warnings.warn(f"layer {name!r} ({type(layer).__name__}) has no reset_parameters; copied", stacklevel=6)
    return resets


def _of_layers(backbone: nn.Module, paths: Sequence[str]) -> dict[str, Tensor]:
    fresh: dict[str, Tensor] = {}
    for path in paths:
        # A copy, because a layer may hold tensors that it does not own: tied ones, and those of
        # modules in it.
        layer = deep_copy(backbone.get_submodule(path))
        layer.reset_parameters()  # type: ignore[operator]
        fresh |= {join(path, name): tensor for name, tensor in own_tensors(layer).items()}
    return fresh


def _of_network(network: nn.Module, tensors: Collection[str]) -> dict[str, Tensor]:
    fresh = dict((*network.named_parameters(), *network.named_buffers()))
    if missing := sorted(set(tensors) - set(fresh)):
        raise ValueError(f"the network that init made has no {missing[0]!r}; init must make the backbone's like")
    return fresh


def _set(name: str, tensor: Tensor, value: Tensor) -> None:
    if value.shape != tensor.shape:
        raise ValueError(
            f"{name!r} has shape {tuple(value.shape)} in the network that init made, and {tuple(tensor.shape)} in the "
            f"backbone; init must make the backbone's like"
        )
    tensor.copy_(value)
