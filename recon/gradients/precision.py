"""Precision of small numbers beside the network: float64, where the device has it."""

import torch
from torch import Tensor

# Apple's GPUs have no float64, some others emulate it: there, such numbers go to the host.
_HAVE_DOUBLE = ("cpu", "cuda")


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64 if the device has it, else float32.

    Example:
        >>> widest_dtype(torch.device("cpu")), widest_dtype(torch.device("mps"))
        (torch.float64, torch.float32)
    """
    return torch.float64 if device.type in _HAVE_DOUBLE else torch.float32


def in_double(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its device if that has float64, else on the host.

    Example:
        >>> in_double(torch.ones(1))
        tensor([1.], dtype=torch.float64)
    """
    return (tensor if tensor.device.type in _HAVE_DOUBLE else tensor.cpu()).double()
