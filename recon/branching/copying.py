"""Deep copies of networks in use, whose modules may keep tensors of their last forward."""

import copy
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn

from recon.gradients.wrappers import unwrapped

_T = TypeVar("_T")


def deep_copy(value: _T, memo: dict[int, Any] | None = None) -> _T:
    """Copy a value deeply, including tensors with a graph, which ``copy.deepcopy`` refuses.

    Of such a tensor the values are copied, without the graph. Modules keep such tensors after a
    forward in training: a loss, or the weight that weight norm, spectral norm or pruning computed.
    The old graph says nothing about the copy's parameters.

    Args:
        value: The value to copy.
        memo: As in ``copy.deepcopy``.
    """
    refuse = Tensor.__deepcopy__

    def copied(tensor: Tensor, memo: dict[int, Any]) -> Any:
        if tensor.is_leaf:
            return refuse(tensor, memo)
        with torch.no_grad():
            memo[id(tensor)] = tensor.detach().clone()
        return memo[id(tensor)]

    with patch.object(Tensor, "__deepcopy__", copied):
        return copy.deepcopy(value, memo)


def copy_network(network: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Copy a network deeply, with every module in training or evaluation as it was.

    ``copy.deepcopy`` sets modules that torch.fx wrote, such as those of
    ``create_feature_extractor``, to training.

    Args:
        network: The network to copy.
        memo: As in ``copy.deepcopy``.
    """
    copied: nn.Module = deep_copy(network, memo)
    set_modes(copied, modes_of(network))
    return copied


def modes_of(network: nn.Module) -> dict[str, bool]:
    """Path of a module -> whether it is in training."""
    return {path: module.training for path, module in network.named_modules()}


def set_modes(network: nn.Module, modes: Mapping[str, bool]) -> None:
    """Set modules to training or evaluation, by path."""
    if network.training != modes[""]:
        network.train(modes[""])  # some networks exchange their graph here
    for path, module in network.named_modules():
        module.training = modes.get(path, module.training)


def without_wrappers(network: nn.Module) -> nn.Module:
    """Return the network with neither itself nor any module in it wrapped.

    Returns:
        The network itself if nothing in it is wrapped; else a copy of its modules that holds the
        same tensors.
    """
    network = unwrapped(network)
    wrappers = [module for module in network.modules() if unwrapped(module) is not module]
    if not wrappers:
        return network
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    for wrapper in reversed(wrappers):  # a wrapper comes before those inside it
        memo[id(wrapper)] = deep_copy(unwrapped(wrapper), memo)
    return deep_copy(network, memo)
