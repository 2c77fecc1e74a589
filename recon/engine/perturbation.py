"""Evaluation of a network at other parameters, without a trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def perturbed(parameters: Sequence[Tensor], steps: Sequence[Tensor], network: nn.Module) -> Iterator[None]:
    """Move parameters by steps for a ``with`` block.

    At its end the parameters are as before, bit by bit. So are the buffers of the network and of
    all modules that ran in the block: running statistics of norms do not see it. (In training mode
    norms do not use those statistics.) The undo misses modules outside the network that ran inside
    compiled code.

    Args:
        parameters: The parameters to move.
        steps: One for each parameter, in its shape.
        network: The network as far as it is known beforehand.

    Example:
        >>> network = nn.Linear(2, 1, bias=False)
        >>> before = network.weight.detach().clone()
        >>> with perturbed([network.weight], [torch.ones(1, 2)], network):
        ...     (network.weight - before).detach()
        tensor([[1., 1.]])
        >>> torch.equal(network.weight, before)
        True
    """
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.add_(step)
        torch.clear_autocast_cache()  # it holds the unmoved weights, cast
        with _unchanged_buffers(network):
            yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        torch.clear_autocast_cache()


@contextmanager
def _unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Undo the writes of forward passes in a ``with`` block into buffers of any module."""
    kept: dict[nn.Module, list[tuple[str, Tensor, Tensor]]] = {}

    def keep(module: nn.Module, inputs: Any = None) -> None:
        # A compiled network runs this once, before its compiled part, or not at all.
        if torch.compiler.is_compiling() or module in kept:
            return
        for inner in module.modules():
            if inner not in kept:
                kept[inner] = [(name, b, b.clone()) for name, b in inner.named_buffers(recurse=False)]

    keep(network)
    # The modules of heads are unknown here: each tells of itself when it runs.
    hook = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            for module, buffers in kept.items():
                for name, buffer, value in buffers:
                    setattr(module, name, buffer.copy_(value))
