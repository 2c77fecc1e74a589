"""Deep copies of networks that were in use: of modules that keep tensors of their last forward."""

import copy
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor

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
