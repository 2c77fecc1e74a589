"""Where the copies of a branched layer start from."""

import copy
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recon.branching.layers import join, own_tensors

Init = Literal["copy", "reset"] | Callable[[], nn.Module]


@torch.no_grad()
def initialise(
    branches: Mapping[str, nn.Module], init: Init, backbone: nn.Module, paths: Sequence[str], tensors: Collection[str]
) -> None:
    """Give the copies of every task, which hold the backbone's weights, the values to start from.

    Args:
        branches: Task -> its copies.
        init: See :func:`recon.branch`.
        backbone: The network they are copies of.
        paths: The branched layers.
        tensors: The tensors that are each task's own; what else is in the copies is tied to shared tensors.
    """
    if init == "copy":
        return
    if init != "reset" and not callable(init):
        raise ValueError(f"init is {init!r}; it must be 'copy', 'reset' or a function that makes a fresh backbone")
    for branch in branches.values():
        fresh = _fresh_network(init(), paths) if callable(init) else _fresh_layers(backbone, paths)
        for name, tensor in (*branch.named_parameters(), *branch.named_buffers()):
            if name in fresh and name in tensors:
                if fresh[name].shape != tensor.shape:
                    raise ValueError(
                        f"{name!r} has shape {tuple(fresh[name].shape)} in the network that init made, "
                        f"and {tuple(tensor.shape)} in the backbone; init must make the same network"
                    )
                tensor.copy_(fresh[name])


def _fresh_layers(backbone: nn.Module, paths: Sequence[str]) -> dict[str, Tensor]:
    fresh: dict[str, Tensor] = {}
    for path in paths:
        # A copy, because a layer may hold tensors that are not its own: tied ones, and those of modules inside it.
        layer = copy.deepcopy(backbone.get_submodule(path))
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
            fresh |= _own(layer, path)
        else:
            name = path or type(backbone).__name__
            warnings.warn(f"layer {name!r} ({type(layer).__name__}) has no reset_parameters; copied", stacklevel=6)
    return fresh


def _fresh_network(network: nn.Module, paths: Sequence[str]) -> dict[str, Tensor]:
    modules = dict(network.named_modules())
    if missing := [path for path in paths if path not in modules]:
        raise ValueError(f"the network that init made has no layer {missing[0]!r}; init must make the same network")
    return {name: tensor for path in paths for name, tensor in _own(modules[path], path).items()}


def _own(layer: nn.Module, path: str) -> dict[str, Tensor]:
    return {join(path, name): tensor for name, tensor in own_tensors(layer).items()}
