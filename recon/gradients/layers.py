"""The layers that tasks share: the modules that own trainable parameters directly, by name."""

from torch import nn

from recon.gradients.wrappers import shared_modules, shared_part


def network_name(module: nn.Module) -> str:
    """Class name of a network, of a branched one that of its backbone."""
    return type(shared_part(module)).__name__


def root_name(network: nn.Module) -> str:
    """The name of the layer of parameters that a network itself holds, whose path is empty: that of its class.

    If a child of the network is called so, ``_root`` is put after it.
    """
    name = network_name(network)
    while name in shared_part(network)._modules:
        name += "_root"
    return name


def all_layers(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """As :func:`shared_layers`, with the parameters that are frozen."""
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
        module: The shared part of the network. Of a network made by :func:`recon.branch` only what its tasks still
            share counts. Wrappers such as ``torch.compile`` and ``DataParallel`` are looked through.

    Returns:
        Layer name -> its trainable parameters, in the order of ``named_modules()``. A tied parameter belongs to the
        first layer that holds it. The root module's own parameters stand under its :func:`root_name`.
    """
    layers = {name: [p for p in own if p.requires_grad] for name, own in all_layers(module).items()}
    return {name: own for name, own in layers.items() if own}
