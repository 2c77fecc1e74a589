"""Leaves: modules and functions that a trace records as one operation.

torch.fx enters every module outside ``torch.nn`` and cannot get through some of them; timm and
torchvision list theirs. A module that owns tensors and has no children with parameters is a layer
and is not worth entering.
"""

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import fx, nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def is_leaf(module: nn.Module) -> bool:
    """Whether a trace records a call of this module as one operation."""
    if type(module) in _CONTAINERS:
        return False
    return (
        fx.Tracer().is_leaf_module(module, "")
        or isinstance(module, _timm_leaves())
        or _is_torchvision_operation(module)
        or _is_layer(module)
    )


def wrapped_modules() -> tuple[ModuleType, ...]:
    """Python modules whose functions are each recorded as one operation."""
    torchvision = sys.modules.get("torchvision.ops")
    return (math, torchvision) if torchvision else (math,)


def wrapped_functions() -> tuple[Callable[..., Any], ...]:
    """Functions that are each recorded as one operation."""
    # A network of timm has imported timm; without one there is no need to.
    timm = sys.modules.get("timm.layers")
    return tuple(timm.get_notrace_functions()) if timm else ()


def _timm_leaves() -> tuple[type[nn.Module], ...]:
    timm = sys.modules.get("timm.layers")
    return tuple(timm.get_notrace_modules()) if timm else ()


def _is_torchvision_operation(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torchvision.ops.") and next(module.parameters(), None) is None


def _is_layer(module: nn.Module) -> bool:
    owns = any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values()))
    return owns and all(next(child.parameters(), None) is None for child in module.children())
