"""An accelerator without float64, as Apple's, that no machine needs to have.

Its tensors say that they are on the device ``meta`` and hold their numbers on the host. As on the
real one, a float64 tensor cannot be made there, and an operation takes no tensors of two devices.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")


class OnDevice(Tensor):
    """A tensor of the accelerator."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            dispatch_sizes_strides_policy="sizes",  # matmul squeezes its result in place
        )
        tensor.held = held
        return tensor

    def __init__(self, held: Tensor) -> None: ...

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside of the accelerator")


class Accelerator(TorchDispatchMode):
    """Runs the operations of the accelerator on the host, and refuses float64."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        asked = kwargs.get("device")
        on_device = any(isinstance(value, OnDevice) for value in given)
        if not on_device and (asked is None or torch.device(asked) != DEVICE):
            return function(*args, **kwargs)
        _check_devices(function, given)
        result = function(*tree_map(_held, args), **tree_map(_held, kwargs) | _on_host(asked))
        leaves_device = asked is not None and torch.device(asked) != DEVICE
        if leaves_device or function is torch.ops.aten._local_scalar_dense.default:
            return result
        known = {id(_held(value)): value for value in given if isinstance(value, Tensor)}
        return tree_map(lambda value: known[id(value)] if id(value) in known else _put(value, function), result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _on_host(asked: Any) -> dict[str, Any]:
    return {} if asked is None else {"device": torch.device("cpu")}


def _put(value: Any, function: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    assert value.dtype not in (torch.float64, torch.complex128), f"{function} makes a float64 tensor on the device"
    return OnDevice(value)


def _check_devices(function: Any, given: list[Any]) -> None:
    if "copy" in str(function):  # between devices
        return
    hosts = [value for value in given if isinstance(value, Tensor) and not isinstance(value, OnDevice) and value.dim()]
    assert not hosts, f"{function} takes tensors of the host and of the device"


class _Generator(torch.Generator):
    def __new__(cls, device: Any = None) -> "_Generator":
        return super().__new__(cls)


def put(network: nn.Module) -> None:
    """Move a network to the accelerator."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            module._parameters[name] = None if parameter is None else nn.Parameter(OnDevice(parameter.detach()))
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else OnDevice(buffer)


@contextmanager
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The accelerator for a ``with`` block."""
    with monkeypatch.context() as patched, Accelerator():
        # torch knows of no autocast, no lists and no generator of this device.
        patched.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
        patched.setattr(torch, "Generator", _Generator)
        tolist = Tensor.tolist
        patched.setattr(Tensor, "tolist", lambda self: tolist(_held(self)))
        yield
