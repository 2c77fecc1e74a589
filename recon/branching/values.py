"""The values that flow through a backbone while it is traced."""

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn


class Untraceable(Exception):
    """The backbone's forward has no graph that gives the same results; the message says why."""


class Value(fx.Proxy):
    """A traced value with the operations that torch.fx lacks.

    ``x += y`` and ``x[i] = y`` write into ``x``. ``isinstance(x, Tensor)`` is answered as for the
    tensor that ``x`` stands for. For torch.fx it is False, and a forward that asks would take
    another path than with a tensor.
    """

    __array_ufunc__ = None  # leaves operations with a NumPy number on the left to this class
    _is_param = False

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise Untraceable(f"it sets the attribute {name!r} of a tensor")
        super().__setattr__(name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # isinstance asks for this if the type itself does not answer.
        if str(sys._getframe(1).f_globals.get("__name__")).partition(".")[0] in ("torch", "recon"):
            return type(self)
        if not self.node.meta.get("tensor"):
            raise Untraceable("it asks for the type of a value that may be no tensor")
        return torch.Tensor


def _recorded(function: Callable[[Any, Any], Any]) -> Callable[[Value, Any], fx.Proxy]:
    def record(self: Value, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return record


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the same function, but not the operator's own.

    For the operator's own torch.fx writes ``x += y``, which changes the later meaning of ``x``:
    right for tensors, wrong for numbers.
    """

    def apply(target: Any, value: Any) -> Any:
        return function(target, value)

    apply.__name__ = apply.__qualname__ = function.__name__
    return apply


# fmt: off
AUGMENTED = tuple(map(_in_place, (
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow,
    operator.imatmul, operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift,
)))
# Operations with these names return one tensor, if they take one.
_TENSOR_RESULTS = frozenset({
    "abs", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "add", "avg_pool2d", "batch_norm", "bmm", "cat", "clamp",
    "clone", "contiguous", "conv1d", "conv2d", "conv3d", "cumsum", "detach", "div", "dropout", "einsum", "elu",
    "embedding", "exp", "expand", "expand_as", "flatten", "float", "floordiv", "gather", "gelu", "getitem",
    "group_norm", "half", "iadd", "imul", "index_add", "index_select", "interpolate", "isub", "itruediv",
    "layer_norm", "leaky_relu", "linear", "log", "log_softmax", "masked_fill", "matmul", "mish", "mm", "mul", "neg",
    "new_zeros", "normalize", "ones_like", "pad", "permute", "pow", "relu", "relu_", "repeat", "reshape", "rsqrt",
    "scaled_dot_product_attention", "scatter_add", "sigmoid", "silu", "softmax", "softplus", "sqrt", "squeeze", "stack",
    "sub", "tanh", "to", "transpose", "truediv", "type_as", "unsqueeze", "view", "view_as", "where", "zeros_like",
})
# fmt: on
for _function in AUGMENTED:
    setattr(Value, f"__{_function.__name__}__", _recorded(_function))


def is_tensor(node: fx.Node, root: nn.Module) -> bool:
    """Whether the result of a traced operation is certainly one tensor."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        plain = type(module).__module__.startswith("torch.nn.") and not isinstance(
            module, nn.MultiheadAttention | nn.RNNBase | nn.RNNCellBase
        )
        return plain and not vars(module).get("return_indices", False)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _TENSOR_RESULTS and any(source.meta.get("tensor") for source in node.all_input_nodes)
