"""The cost of a network: its parameters, and the operations of a forward pass."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recon.branching.growth import flops
from recon.data.contract import input_shape_of, tasks_of
from recon.training import BranchOptions, MultiTaskModule


def network_on_meta(
    backbone: nn.Module, data: pl.LightningDataModule, branch: BranchOptions | None = None
) -> MultiTaskModule:
    """A network as it would be trained, with its heads, on the meta device, to know its cost.

    >>> from recon.data import Glyphs
    >>> from recon.models import LeNet
    >>> network = network_on_meta(LeNet(), Glyphs())
    >>> count_parameters(network.backbone, network.heads), flops_of_sample(network, Glyphs())
    (31910, 2322080)

    Args:
        backbone: The backbone; without branches it is moved to the meta device itself.
        data: The data, whose tasks get heads.
        branch: The layers to branch, beyond the backbone's own.
    """
    return MultiTaskModule(backbone, tasks_of(data), branch=branch).to("meta")


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
    with torch.no_grad():
        return flops(network.eval(), sample_of(data, network))


def sample_of(data: pl.LightningDataModule, network: nn.Module, size: int = 1) -> Tensor:
    """A batch of zeros in the shape of the data, of the network's type and on its device.

    Args:
        data: A data module, whose ``input_shape`` is the shape of one sample.
        network: The network.
        size: Number of samples.

    Raises:
        ValueError: The data module has no ``input_shape``.
    """
    parameter = next(network.parameters())
    return torch.zeros(size, *input_shape_of(data), dtype=parameter.dtype, device=parameter.device)
