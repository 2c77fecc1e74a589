"""The cost of a network: its parameters, and the operations of a forward pass."""

import pytorch_lightning as pl
import torch
from torch import nn

from recon.branching.growth import flops
from recon.data.contract import input_shape_of


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters of the modules together.

    >>> count_parameters(nn.Linear(2, 3), nn.Linear(3, 1))
    13
    """
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def flops_of_sample(network: nn.Module, data: pl.LightningDataModule) -> int:
    """Floating-point operations of a forward pass of one sample; a multiply-add is two.

    Args:
        network: The network, on any device; it is left in evaluation mode.
        data: A data module, whose ``input_shape`` is the shape of one sample.

    Raises:
        ValueError: The data module has no ``input_shape``.
    """
    parameter = next(network.parameters())
    sample = torch.zeros(1, *input_shape_of(data), dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        return flops(network.eval(), sample)
