"""Evaluate a network at other parameters, and leave no trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def perturbed(parameters: Sequence[Tensor], steps: Sequence[Tensor], network: nn.Module) -> Iterator[None]:
    """Parameters moved by steps for the length of a ``with`` block.

    At its end they, and the buffers of the network and of all modules that ran in it, are what they were before, bit by
    bit: running statistics of norms do not see what was evaluated there. (In training mode norms do not use those
    statistics.) Modules outside the network that ran inside compiled code are not seen.

    Args:
        parameters: What is moved.
        steps: One for each parameter, in its shape.
        network: The part of what is evaluated that is known beforehand.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.add_(step)
        torch.clear_autocast_cache()  # else a block around several steps goes on with the weights it has cast
        with _unchanged_buffers(network):
            yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        torch.clear_autocast_cache()


@contextmanager
def _unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Undo what the forward passes in a ``with`` block write into buffers, whatever modules they belong to."""
    kept: dict[nn.Module, list[tuple[str, Tensor, Tensor]]] = {}

    def keep(module: nn.Module, inputs: Any = None) -> None:
        # A compiled network runs this once, before its compiled part, or not at all.
        if torch.compiler.is_compiling() or module in kept:
            return
        for inner in module.modules():
            if inner not in kept:
                kept[inner] = [(name, b, b.clone()) for name, b in inner.named_buffers(recurse=False)]

    keep(network)
    # The modules of heads are not known: those that run say who they are.
    hook = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
        with torch.no_grad():
            for module, buffers in kept.items():
                for name, buffer, value in buffers:
                    setattr(module, name, buffer.copy_(value))
