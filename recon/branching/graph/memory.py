"""Operations of a traced graph that write into the memory of their inputs, or pass it on as result.

A torch operation that is not listed makes new memory. So does every leaf module, unless it has an
``inplace`` attribute, or is dropout, which returns its very input in evaluation.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from recon.branching.values import AUGMENTED

# Some operations (reshape, contiguous, to) return a view only for some values. Counting all their
# results as views costs only views.
# fmt: off
_VIEWS = frozenset({
    "adjoint", "alias", "as_strided", "as_tensor", "asarray", "atleast_1d", "atleast_2d", "atleast_3d",
    "bfloat16", "broadcast_tensors", "broadcast_to", "chunk", "conj", "contiguous", "cpu", "cuda", "detach",
    "diagonal", "double", "dsplit", "expand", "expand_as", "flatten", "float", "getitem", "half", "hsplit",
    "imag", "meshgrid", "moveaxis", "movedim", "narrow", "permute", "pin_memory", "pos", "positive", "ravel",
    "real", "reshape", "reshape_as", "resolve_conj", "resolve_neg", "select", "split", "split_with_sizes",
    "squeeze", "sum_to_size", "swapaxes", "swapdims", "t", "tensor_split", "to", "transpose", "type", "type_as",
    "unbind", "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "view", "view_as",
    "view_as_complex", "view_as_real", "vsplit",
})
# fmt: on
_IN_PLACE_OPERATORS = {"setitem", *(function.__name__ for function in AUGMENTED)}
_METADATA_ATTRIBUTES = frozenset(
    {
        "device",
        "dtype",
        "grad",
        "is_cuda",
        "is_leaf",
        "is_sparse",
        "itemsize",
        "layout",
        "names",
        "nbytes",
        "ndim",
        "requires_grad",
        "shape",
    }
)
_METADATA_METHODS = frozenset({"dim", "get_device", "is_contiguous", "ndimension", "numel", "size", "stride"})
_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten)


def written(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    """The nodes into whose memory this operation writes."""
    if node.op == "call_method":
        return _nodes(node.args[0] if _is_in_place(str(node.target)) else node.kwargs.get("out"))
    if node.op == "call_module":
        return _nodes(_inputs(node)[:1]) if getattr(_module(node, root), "inplace", False) else []
    if node.op != "call_function":
        return []
    arguments = _arguments(node)
    if node.target in AUGMENTED or _is_in_place(_function_name(node)) or arguments.get("inplace") is True:
        return _nodes(_inputs(node)[:1])
    statistics = ("running_mean", "running_var") if node.target in (F.batch_norm, F.instance_norm) else ()
    return _nodes([arguments.get(name) for name in ("out", *statistics)])


def handed_on(node: fx.Node, root: nn.Module) -> list[fx.Node]:
    """The nodes in whose memory the result of this operation may lie."""
    views = False
    if node.op == "call_method":
        views = str(node.target) in _VIEWS
    elif node.op == "call_module":
        module = _module(node, root)
        views = isinstance(module, _VIEW_MODULES) or _is_idle_dropout(type(module).__name__, vars(module))
    elif node.target is getattr:
        views = node.args[1] not in _METADATA_ATTRIBUTES  # also of objects that hold tensors
    elif node.op == "call_function":
        name = _function_name(node)
        permutes = name == "einsum" and len(node.all_input_nodes) == 1
        views = permutes or name in _VIEWS or _is_foreign(node.target) or _is_idle_dropout(name, _arguments(node))
    return [*(node.all_input_nodes[:1] if views else []), *written(node, root)]


def memory_of(node: fx.Node, root: nn.Module, memory: Mapping[fx.Node, set[fx.Node]]) -> set[fx.Node]:
    """The nodes whose memory may hold an operation's result; none for a number or a shape."""
    if _is_metadata(node):
        return set()
    if sources := handed_on(node, root):
        return set().union(*(memory[source] for source in sources))
    numbers = node.all_input_nodes and not any(memory[source] for source in node.all_input_nodes)
    python = getattr(node.target, "__module__", None) in ("_operator", "builtins", "math")
    return set() if numbers and python else {node}


def _is_metadata(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _METADATA_METHODS
    return node.target is getattr and node.args[1] in _METADATA_ATTRIBUTES


def _is_in_place(name: str) -> bool:
    """Whether an operation of this name writes into its first argument: ``add_``, ``__iadd__``."""
    if name.startswith("__"):
        return name.strip("_") in _IN_PLACE_OPERATORS
    return name.endswith("_") or name == "setitem"


def _nodes(value: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(value, found.append)
    return found


def _inputs(node: fx.Node) -> list[Any]:
    return [*node.args, *node.kwargs.values()]


def _module(node: fx.Node, root: nn.Module) -> nn.Module:
    return root.get_submodule(str(node.target))


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", ""))


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a function by name, if its signature is known; builtins have none."""
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return dict(node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _is_foreign(target: Any) -> bool:
    """Whether a Python function of the user was recorded whole; it may return its own arguments."""
    return inspect.isfunction(target) and not target.__module__.startswith(("torch.", "recon."))


def _is_idle_dropout(name: str, arguments: dict[str, Any]) -> bool:
    """Whether this is a dropout that drops nothing, and so returns its very input."""
    drops = "drop" in name.lower() or name == "StochasticDepth"
    return drops and (not arguments.get("training", True) or arguments.get("p") == 0)
