"""A backbone's forward as a torch.fx graph.

What the backbone reads in Python is baked into its trace: ``self.training``, and arguments that are None, a boolean or
a string. So there is one trace for training, one for evaluation, and one more for every other way of calling it.
Numbers that the backbone keeps as attributes are baked in too: after changing one, branch again.
"""

import operator
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn

from recon.branching.copying import deep_copy
from recon.branching.layers import all_tensors, join
from recon.branching.leaves import is_leaf, wrapped_functions, wrapped_modules


class Untraceable(Exception):
    """The backbone's forward cannot be had as a graph that gives the same results; the message says why."""


class Variable:
    """Stands, as a class, in a :class:`Call` for an argument whose value differs from call to call."""


@dataclass(frozen=True)
class Call:
    """One way of calling a backbone: the flags that its trace bakes in, with all other arguments left open."""

    training: bool
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, training: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        return cls(training, tuple(map(_flag, args)), tuple((name, _flag(value)) for name, value in kwargs.items()))


def variables(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that a :class:`Call` leaves open, in its order."""
    return [value for value in (*args, *kwargs.values()) if _flag(value) is Variable]


def _flag(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | str) else Variable


class _Value(fx.Proxy):
    """A traced value that also records what torch.fx misses: ``x += y`` and ``x[i] = y`` write into ``x``."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise Untraceable(f"it sets the attribute {name!r} of a tensor")
        super().__setattr__(name, value)


def _recorded(function: Callable[[Any, Any], Any]) -> Callable[[_Value, Any], fx.Proxy]:
    def record(self: _Value, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return record


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same function, but not the operator's own.

    For that one torch.fx writes ``x += y``, which changes what `x` is further on: right for tensors, wrong for numbers.
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
# fmt: on
for _function in AUGMENTED:
    setattr(_Value, f"__{_function.__name__}__", _recorded(_function))


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, call: Call) -> None:
        super().__init__(wrapped_modules(), wrapped_functions())
        self._call = call
        self._autocasts = 0

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        with torch.enable_grad(), self._counting_autocasts():
            return super().trace(root, concrete_args)

    @contextmanager
    def _counting_autocasts(self) -> Iterator[None]:
        """Notice when the forward enters ``torch.autocast``; what it sets may be what is set anyway while tracing."""
        enter, leave = torch.autocast.__enter__, torch.autocast.__exit__

        def counted_enter(context: torch.autocast) -> Any:
            self._autocasts += 1
            return enter(context)

        def counted_leave(context: torch.autocast, *error: Any) -> Any:
            self._autocasts -= 1
            return leave(context, *error)

        with patch.multiple(torch.autocast, __enter__=counted_enter, __exit__=counted_leave):
            yield

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        # A graph holds operations, not the modes that they ran in.
        if self._autocasts or not torch.is_grad_enabled():
            raise Untraceable("it switches gradients or autocast in its forward, which a graph does not hold")
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name != "" and is_leaf(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        args = [self._argument(f"input_{i}", value) for i, value in enumerate(self._call.args)]
        kwargs = {name: self._argument(name, value) for name, value in self._call.kwargs}
        # Called as a module, not by its class's forward: its hooks, and a forward set on the instance, belong to it.
        return (lambda: self.root(*args, **kwargs)), []

    def _argument(self, name: str, value: Any) -> Any:
        return self.create_proxy("placeholder", name, (), {}) if value is Variable else value


@dataclass(frozen=True)
class Trace:
    """A traced forward.

    Attributes:
        graph: The operations, with modules and tensors named by their paths in the backbone.
        root: The traced network, for looking up the modules that the graph calls.
        constants: The tensors that the forward itself made, by the name the graph gives them.
    """

    graph: fx.Graph
    root: nn.Module
    constants: dict[str, torch.Tensor]


def trace(network: nn.Module, call: Call) -> Trace:
    """Trace a network's forward for one way of calling it.

    Raises:
        Untraceable: If it draws random numbers in Python: its trace would repeat the same draw for ever.
        Exception: Whatever the forward raises when it runs on traced values.
    """
    # Tracing sets flags, and leaves traced values behind in modules that remember what they have seen.
    root = deep_copy(network, {id(tensor): tensor for tensor in all_tensors(network)})
    root.train(call.training)
    before, draws = _attributes(root), _random_state()
    tracer = _Tracer(call)
    graph = tracer.trace(root)
    del tracer.root  # a tracer is part of cycles: until they are collected, it would keep all tensors
    if draws != _random_state():
        raise Untraceable("it draws random numbers that do not depend on its input")
    changed = {name: value for name, value in _attributes(root).items() if not _same(before.get(name), value)}
    for name, value in changed.items():
        if isinstance(value, fx.Proxy) or name in before:
            raise Untraceable(f"it sets the attribute {name!r}, so that one call may depend on the one before")
    return Trace(graph, root, {name: value for name, value in changed.items() if name.startswith("_tensor_constant")})


def _attributes(root: nn.Module) -> dict[str, Any]:
    """What modules hold besides modules and parameters, as far as it is a value and no container, by name."""
    return {
        join(path, name): value
        for path, module in root.named_modules()
        for name, value in {**vars(module), **module._buffers}.items()
        if isinstance(value, fx.Proxy | torch.Tensor | int | float | str)
    }


def _same(before: Any, after: Any) -> bool:
    return before is after or (isinstance(after, int | float | str) and before == after)


def _random_state() -> list[Any]:
    numpy = sys.modules.get("numpy")
    state = [random.getstate(), torch.get_rng_state().tolist()]
    return [*state, repr(numpy.random.get_state(legacy=False))] if numpy else state
