"""The shared part of a network, handed over as one module or as several."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

Shared = nn.Module | Iterable[nn.Module] | Mapping[str, nn.Module]
"""One module; several (layers are named ``0.conv1``); or several by keys (``encoder.conv1``)."""


def as_one_module(shared: Shared) -> nn.Module:
    """The module that the tasks share; several become one ``nn.ModuleList`` or ``nn.ModuleDict``.

    Raises:
        TypeError: Something in it is no module, such as a parameter.
        ValueError: There is none, or ``nn.ModuleDict`` does not take one of the keys.

    Example:
        >>> as_one_module({"encoder": nn.Linear(2, 3), "neck": nn.Linear(3, 1)})
        ModuleDict(
          (encoder): Linear(in_features=2, out_features=3, bias=True)
          (neck): Linear(in_features=3, out_features=1, bias=True)
        )
    """
    if isinstance(shared, nn.Module):
        return shared
    if isinstance(shared, str | Tensor) or not isinstance(shared, Iterable):
        raise _no_module(shared)
    parts: dict[Any, Any] = dict(shared) if isinstance(shared, Mapping) else dict(enumerate(shared))
    if not parts:
        raise ValueError("shared is empty; give the module that the tasks share, or several")
    for part in parts.values():
        if not isinstance(part, nn.Module):
            raise _no_module(part)
    if not isinstance(shared, Mapping):
        return nn.ModuleList(parts.values())
    for key in parts:
        if not isinstance(key, str) or not key or "." in key or hasattr(nn.ModuleDict(), key):
            raise ValueError(f"shared has the key {key!r}, which cannot name a module; give it another name")
    return nn.ModuleDict(parts)


def _no_module(given: object) -> TypeError:
    kind = "a parameter" if isinstance(given, nn.Parameter) else f"of type {type(given).__name__}"
    return TypeError(
        f"shared holds what is no module ({kind}): give the module that owns the shared parameters, such as "
        "network.backbone, or several: [encoder, neck] or {'encoder': encoder, 'neck': neck}"
    )
