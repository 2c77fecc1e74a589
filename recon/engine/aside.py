"""Passes through a network that leave no trace: buffers and randomness are as before."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def leaving_no_trace(modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Leave buffers and random numbers as they are in a ``with`` block.

    Modules write into copies of their buffers, such as running statistics. The buffers themselves
    are not touched, so a graph that has saved them stays valid. State that a module keeps outside
    buffers is not known here.

    Args:
        modules: The modules that run in the block, so far as they are known; others tell of
            themselves when they run.
        device: Where they run, beside the CPU.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with leaving_no_trace([norm], torch.device("cpu")):
        ...     _ = norm(torch.randn(8, 2))
        >>> norm.num_batches_tracked, norm.running_mean
        (tensor(0), tensor([0., 0.]))
    """
    devices = [] if device.type == "cpu" else [device]
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"), _copies_of_buffers(modules):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


@contextmanager
def _copies_of_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let modules write into copies of their buffers, the same copy where they share one."""
    kept: dict[nn.Module, dict[str, Tensor | None]] = {}
    copies: dict[Tensor, Tensor] = {}

    def set_aside(module: nn.Module, inputs: Any = None) -> None:
        if torch.compiler.is_compiling():  # its module has run this before
            return
        for inner in module.modules():
            if inner not in kept:
                kept[inner] = dict(inner._buffers)
                for name, buffer in kept[inner].items():
                    if buffer is not None:
                        inner._buffers[name] = copies.setdefault(buffer, buffer.detach().clone())

    # Backwards of checkpointed parts run modules that nobody has named.
    hook = register_module_forward_pre_hook(set_aside)
    try:
        for module in modules:
            set_aside(module)
        yield
    finally:
        hook.remove()
        for module, buffers in kept.items():
            module._buffers.clear()
            module._buffers.update(buffers)
