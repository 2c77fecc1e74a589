"""Groups of shared layers that a method weighs each by itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from recon.engine.checks import At, check_at
from recon.errors import number_of, unknown_name
from recon.gradients.layers import all_layers, network_name
from recon.gradients.wrappers import shared_modules, unshared_layers
from recon.methods import GramianMethod, LossMethod, Method, list_methods
from recon.methods.base.grouped import bound_groups

Granularity = Literal["network", "layer"] | Mapping[str, Sequence[str]]
"""All layers together; each layer by itself; or groups: name -> its layers."""

OTHERS = "others"
"""Name of the group of the layers that no group names."""


class LayerGroups:
    """A partition of the shared layers, frozen ones too.

    Args:
        groups: Name of each group -> its layers.

    Attributes:
        names: Names of the G groups.

    Example:
        >>> groups = LayerGroups({"early": ["conv1", "bn1"], "others": ["fc"]})
        >>> groups.names, groups.of(["conv1", "fc"])
        (('early', 'others'), [0, 1])
    """

    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        self.names = tuple(groups)
        self._of = {layer: index for index, layers in enumerate(groups.values()) for layer in layers}

    def of(self, layers: Sequence[str]) -> list[int]:
        """The index of the group of each layer.

        Raises:
            ValueError: A layer is in no group, since it was added to the network later.
        """
        try:
            return [self._of[layer] for layer in layers]
        except KeyError as error:
            raise ValueError(
                f"layer {error.args[0]!r} was added to the shared part after its groups were made; make a new engine"
            ) from None


def layer_groups(granularity: Granularity, shared: nn.Module) -> LayerGroups | None:
    """The groups of the layers of a network; ``None`` for all layers together.

    Args:
        granularity: ``"network"``, ``"layer"``, or name -> layers. Layers that no group names form
            one more group, ``"others"``.
        shared: The shared part of the network.

    Raises:
        ValueError: The granularity is unknown; a group is empty; or a layer is unknown or in two
            groups.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> layer_groups("layer", network).names, layer_groups({"last": ["2"]}, network).names
        (('0', '2'), ('last', 'others'))
        >>> layer_groups({"last": ["3"]}, network)
        Traceback (most recent call last):
        ValueError: unknown layer '3' in group 'last' of Sequential; known: '0', '2'
    """
    if granularity == "network":
        return None
    layers = [*all_layers(shared)]
    if granularity == "layer":
        return LayerGroups({layer: [layer] for layer in layers})
    if not isinstance(granularity, Mapping):
        raise ValueError(
            f"granularity must be 'network', 'layer' or groups of layers by name, as in {{'stem': ['conv1', 'bn1']}}; "
            f"got {granularity!r}"
        )
    unshared = unshared_layers(shared)
    _check_named(granularity, [*layers, *unshared], shared)
    groups = _checked(granularity)
    named = {group: [layer for layer in own if layer not in unshared] for group, own in groups.items()}
    return LayerGroups(_with_others({group: own for group, own in named.items() if own}, layers))


def _check_named(granularity: Mapping[str, Sequence[str]], known: Sequence[str], shared: nn.Module) -> None:
    """Refuse groups that name no layers, or other modules than layers."""
    modules = {path for path, _ in shared_modules(shared)}
    for group, layers in granularity.items():
        if isinstance(layers, str) or not layers:
            raise ValueError(f"granularity: group {group!r} must be a list of one layer at least, got {layers!r}")
        where = f"group {group!r} of {network_name(shared)}"
        for layer in layers:
            if layer in modules and layer not in known:
                raise ValueError(
                    f"granularity: {layer!r} in {where} has no parameters of its own, so there is nothing to weigh; "
                    "name the layers that have"
                )
            if layer not in known:
                raise unknown_name("layer", layer, known, where)


def _checked(granularity: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The groups as lists, with each layer in one group."""
    groups: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for group, layers in granularity.items():
        for layer in layers:
            if layer in owner:
                raise ValueError(
                    f"granularity: layer {layer!r} is in group {owner[layer]!r} and in group {group!r}; leave it in one"
                )
            owner[layer] = group
        groups[group] = list(layers)
    if not groups:
        raise ValueError("granularity names no group; give groups of layers, or 'network' for all layers together")
    return groups


def _with_others(groups: dict[str, list[str]], layers: Sequence[str]) -> dict[str, list[str]]:
    """The groups, and one of the layers that are in none."""
    named = {layer for own in groups.values() for layer in own}
    rest = [layer for layer in layers if layer not in named]
    if rest and OTHERS in groups:
        raise ValueError(
            f"granularity: a group is named {OTHERS!r}, as is the group of the layers that no group names "
            f"({', '.join(rest[:4])}{', ...' if len(rest) > 4 else ''}); give it another name, or name them all"
        )
    return {**groups, OTHERS: rest} if rest else groups


def checked_groups(
    granularity: Granularity, shared: nn.Module, method: Method, tasks: int, at: At
) -> LayerGroups | None:
    """As :func:`layer_groups`, for a method that has weights for each group.

    A single task is trained plainly in any case.

    Args:
        granularity: As there.
        shared: As there.
        method: The multi-task optimizer.
        tasks: K.
        at: Where the method takes the task gradients.

    Raises:
        ValueError: As there; or the method needs only losses, or the Jacobian; or it weights
            gradients at the representation.
    """
    groups = layer_groups(granularity, shared)
    if groups is None or tasks == 1:
        return None
    check_weighs_groups(method)
    if at == "representation":
        raise ValueError(
            "at='representation' weights the gradients of the features, which have no layers; "
            "use granularity='network', or at='parameters'"
        )
    return groups


def check_weighs_groups(method: Method) -> None:
    """Refuse a method that has no weights for each group of layers.

    Raises:
        ValueError: The method needs only losses, or the Jacobian; the error lists those that can.
    """
    if isinstance(method, GramianMethod):
        return
    reason = (
        "weights losses, which are the same in every layer"
        if isinstance(method, LossMethod)
        else "combines the gradients of all layers at once"
    )
    raise ValueError(
        f"{type(method).__name__} {reason}; use granularity='network', or a Gramian method: "
        f"{', '.join(list_methods(GramianMethod))} or one of yours derived from recon.GramianMethod"
    )


def prepare_method(
    method: Method, shared: nn.Module, tasks: int, at: At = "parameters", granularity: Granularity = "network"
) -> None:
    """Bind a method to tasks and groups of layers, where an optimizer is made before the engine.

    Args:
        method: The multi-task optimizer.
        shared: The shared part of the network.
        tasks: K.
        at: As in :class:`recon.Engine`.
        granularity: As in :class:`recon.Engine`.

    Raises:
        ValueError: Method or network have no use for gradients at the representation, or the
            granularity is refused.
    """
    check_at(at, shared, method, tasks)
    bind(method, tasks, checked_groups(granularity, shared, method, tasks, at))


def bind(method: Method, tasks: int, groups: LayerGroups | None) -> None:
    """Set the number of tasks and of groups of a method, before its first step.

    Args:
        method: The multi-task optimizer.
        tasks: K; a single task is trained plainly, without the method.
        groups: The groups that it weighs each by itself.

    Raises:
        ValueError: The method has the state of another number of tasks or groups.
    """
    if tasks == 1:
        return
    method.bind(tasks)
    if groups is not None:
        assert isinstance(method, GramianMethod)
        method.bind_groups(len(groups.names))
    elif (bound := bound_groups(method)) is not None:
        raise ValueError(
            f"{method} has the state of {number_of(bound, 'group')} of layers, and granularity='network' has none; "
            "create a new method for it"
        )
