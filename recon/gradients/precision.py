"""In which precision small numbers beside the network are computed: float64, where the device has it."""

import torch
from torch import Tensor

# Apple's GPUs have no float64, some others emulate it: there, such numbers go to the host.
_HAVE_DOUBLE = ("cpu", "cuda")


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64 if the device has it, else float32."""
    return torch.float64 if device.type in _HAVE_DOUBLE else torch.float32


def in_double(tensor: Tensor) -> Tensor:
    """The tensor in float64, on its device if that has such numbers, else on the host."""
    return (tensor if tensor.device.type in _HAVE_DOUBLE else tensor.cpu()).double()
