"""The norm layers of a network; with one copy of each per task it is task-specific BatchNorm."""

from torch import nn
from torch.nn.modules.conv import _ConvNd

from recon.gradients.layers import root_name, shared_layers
from recon.gradients.wrappers import shared_modules


def norm_layers(backbone: nn.Module) -> list[str]:
    """The names of the layers that normalise, in the order of ``named_modules()``.

    The class of such a layer, or a class that it derives from, is called a norm. So these are the
    batch, group, layer, instance and RMS norms of PyTorch and of other libraries. A convolution or
    a linear layer is none, whatever its name. A norm without trainable parameters is no layer.

    Args:
        backbone: The network.

    Example:
        >>> norm_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)))
        ['1', '2']
    """
    modules = {path or root_name(backbone): module for path, module in shared_modules(backbone)}
    return [layer for layer in shared_layers(backbone) if _normalises(modules[layer])]


def _normalises(module: nn.Module) -> bool:
    named = any("Norm" in kind.__name__ for kind in type(module).__mro__)
    return named and not isinstance(module, nn.Linear | _ConvNd)
