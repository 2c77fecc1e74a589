"""The layers that tasks share: modules that own trainable parameters directly, by name."""

from collections.abc import Sized

from torch import nn

from recon.errors import number_of
from recon.gradients.wrappers import shared_modules, shared_part


def network_name(module: nn.Module) -> str:
    """Class name of a network; of a branched one the name of its backbone, of several all names.

    Example:
        >>> encoder, neck = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        >>> network_name(encoder), network_name(nn.ModuleList([encoder, neck]))
        ('Conv2d', 'Conv2d + Linear')
    """
    network = shared_part(module)
    if isinstance(network, nn.ModuleList | nn.ModuleDict):
        return " + ".join(map(network_name, network.children())) or type(network).__name__
    return type(network).__name__


def number_of_layers(layers: Sized) -> str:
    """The number of layers in words, for lines that people read.

    Example:
        >>> number_of_layers(["conv1"]), number_of_layers(["conv1", "conv2"])
        ('1 layer', '2 layers')
    """
    return number_of(len(layers), "layer")


def root_name(network: nn.Module) -> str:
    """Name of the layer of a network's own parameters, whose path is empty: its class name.

    ``_root`` is added if a child of the network has that name.

    Example:
        >>> root_name(nn.Linear(2, 1))
        'Linear'
    """
    name = network_name(network)
    while name in shared_part(network)._modules:
        name += "_root"
    return name


def all_layers(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Layers of a module as :func:`shared_layers` names them, with frozen parameters too.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> all_layers(network.requires_grad_(False)).keys(), shared_layers(network).keys()
        (dict_keys(['0', '2']), dict_keys([]))
    """
    layers: dict[str, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for path, layer in shared_modules(module):
        parameters = [p for p in layer._parameters.values() if p is not None and p not in seen]
        if parameters:
            seen.update(parameters)
            layers[path or root_name(module)] = list(dict.fromkeys(parameters))
    return layers


def shared_layers(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Layers of a module: the modules that own trainable parameters directly, by name.

    Args:
        module: The shared part of the network. Of a network made by :func:`recon.branch` only the
            layers that its tasks still share count. Wrappers such as ``torch.compile`` and
            ``DataParallel`` are looked through.

    Returns:
        Layer name -> its trainable parameters, in the order of ``named_modules()``. A tied
        parameter belongs to the first layer that holds it. The root module's own parameters stand
        under its :func:`root_name`.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> {name: [tuple(p.shape) for p in own] for name, own in shared_layers(network).items()}
        {'0': [(3, 2), (3,)], '2': [(1, 3), (1,)]}
    """
    layers = {name: [p for p in own if p.requires_grad] for name, own in all_layers(module).items()}
    return {name: own for name, own in layers.items() if own}
