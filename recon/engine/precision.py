"""Precision in which a step combines task gradients, whatever the forward pass ran in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from recon.methods.solvers.resolution import gradients_in


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute products in full precision for a ``with`` block.

    Steps often run under autocast, or allow products in half precision or TF32. That is too coarse
    for Gramians.

    Args:
        device: Where the products are computed.
    """
    known: Any = torch.backends
    backends = (known.cuda.matmul, known.mkldnn.matmul)
    allowed = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, allowed, strict=True):
            backend.fp32_precision = precision


@contextmanager
def combining(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Combine task gradients in a ``with`` block, in full precision.

    Args:
        device: Where the gradients are.
        dtype: The coarsest dtype that they were computed in; solvers resolve no finer differences.
    """
    with full_precision(device), gradients_in(dtype):
        yield
