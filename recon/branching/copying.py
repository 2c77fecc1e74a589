"""Deep copies of networks that were in use: of modules that keep tensors of their last forward."""

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
    """``copy.deepcopy`` that also copies tensors with a graph, which PyTorch refuses: their values, without it.

    Modules keep such tensors after a forward in training: a loss of their own, the weight that weight norm, spectral
    norm or pruning computed. A graph of before the copy says nothing about the copy's parameters.

    Args:
        value: What to copy.
        memo: As for ``copy.deepcopy``.
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
    """A deep copy of a network in which every module is in training or evaluation as it was.

    Modules that torch.fx wrote, as of ``create_feature_extractor``, come out of ``copy.deepcopy`` in training.

    Args:
        network: What to copy.
        memo: As for ``copy.deepcopy``.
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
        network.train(modes[""])  # which exchanges the graph where there is one for each
    for path, module in network.named_modules():
        module.training = modes.get(path, module.training)


def without_wrappers(network: nn.Module) -> nn.Module:
    """The network with neither itself nor any module in it wrapped.

    Returns:
        The very network if nothing in it is wrapped; else a copy of its modules that holds the same tensors.
    """
    network = unwrapped(network)
    wrappers = [module for module in network.modules() if unwrapped(module) is not module]
    if not wrappers:
        return network
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    for wrapper in reversed(wrappers):  # those inside others come after them
        memo[id(wrapper)] = deep_copy(unwrapped(wrapper), memo)
    return deep_copy(network, memo)
