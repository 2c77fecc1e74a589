"""A backbone's forward as a torch.fx graph.

A trace bakes in the Python state that the backbone reads: flags, numbers, lists and dictionaries
that its modules hold, and arguments that are None, a boolean or a string. The trace records these
reads, and holds while they stay the same (see ``guard``). A forward that changes its own reads, so
that one call depends on the one before, is not traced.

A module that cannot be traced, and that holds no branched layer, is recorded as one operation.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree

from recon.branching.call import Call, Nested, Variable
from recon.branching.copying import deep_copy
from recon.branching.graph.hooks import foreign_hooks
from recon.branching.layers import all_tensors, join
from recon.branching.leaves import is_leaf, wrapped_functions, wrapped_modules
from recon.branching.reads.python_state import random_state
from recon.branching.reads.reads import Changed, Dependencies, Name, Reads
from recon.branching.values import Untraceable, Value, is_tensor


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def __init__(self, call: Call, reads: Reads, whole: Collection[str], opened: Collection[Name]) -> None:
        super().__init__(wrapped_modules(), wrapped_functions())  # type: ignore[arg-type]  # of several modules
        self._call = call
        self._reads = reads
        self._whole = whole
        self._opened = opened
        self._attributes: dict[Name, fx.Proxy] = {}
        self._autocasts = 0
        self.entered: list[str] = []
        self.failed: str | None = None  # the innermost module whose forward raised

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        with torch.enable_grad(), self._counting_autocasts(), self._reads.recorded(self._stand_in):
            return super().trace(root, concrete_args)

    @contextmanager
    def _counting_autocasts(self) -> Iterator[None]:
        """Notice when the forward enters ``torch.autocast``, whatever the settings."""
        enter, leave = torch.autocast.__enter__, torch.autocast.__exit__

        def counted_enter(context: torch.autocast) -> Any:
            self._autocasts += 1
            return enter(context)

        def counted_leave(context: torch.autocast, *error: Any) -> Any:
            self._autocasts -= 1
            return leave(context, *error)

        with patch.multiple(torch.autocast, __enter__=counted_enter, __exit__=counted_leave):
            yield

    def _stand_in(self, path: str, name: str, value: Any) -> Any:
        """The attribute's value that a forward sees: traced for tensors and changing numbers."""
        if not isinstance(value, Tensor) and (path, name) not in self._opened:
            return value
        if (path, name) not in self._attributes:
            proxy = self.create_proxy("get_attr", join(path, name), (), {})
            proxy.node.meta["tensor"] = isinstance(value, Tensor)
            self._attributes[path, name] = proxy
        return self._attributes[path, name]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        # A graph holds operations, not the modes in which they ran.
        if self._autocasts or not torch.is_grad_enabled():
            raise Untraceable("it switches gradients or autocast in its forward, which a graph does not hold")
        return super().create_node(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, np.generic):
            return a.item()
        if isinstance(a, np.ndarray):
            return super().create_arg(torch.from_numpy(a.copy()))
        if not isinstance(a, fx.Proxy) and type(a) in _pytree.SUPPORTED_NODES and not _is_written_out(a):
            leaves, spec = _pytree.tree_flatten(a)
            return self.create_node("call_function", _rebuild(spec), tuple(map(self.create_arg, leaves)), {})
        if isinstance(a, dict) and type(a) is not dict:
            raise Untraceable(f"it hands on a {type(a).__name__}, which a graph does not hold")
        return super().create_arg(a)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        path = self.path_of_module(m)
        is_leaf = self.is_leaf_module(m, path)
        self.entered += [] if is_leaf else [path]
        if hook := foreign_hooks(m, is_leaf, self.root):
            self.failed = path
            raise Untraceable(hook)
        if is_leaf:
            return super().call_module(m, forward, args, kwargs)
        before = random_state()
        try:
            self._reads.enter(path)
            output = super().call_module(m, forward, args, kwargs)
            if before != random_state():
                raise Untraceable("it draws random numbers that do not depend on its input")
        except Exception:
            self.failed = path if self.failed is None else self.failed
            raise
        return output

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._whole or (module_qualified_name != "" and is_leaf(m))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        node.meta.setdefault("tensor", is_tensor(node, self.root))
        return Value(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        value = super().getattr(attr, attr_val, parameter_proxy_cache)
        if isinstance(value, Value):
            value.node.meta["tensor"] = True
        return value

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        args = [self._argument(f"input_{i}", flag) for i, flag in enumerate(self._call.args)]
        kwargs = {name: self._argument(name, flag) for name, flag in self._call.kwargs}
        # Called as a module, so that its hooks, and a forward set on the instance, run too.
        return (lambda: self.root(*args, **kwargs)), []

    def _argument(self, name: str, flag: Any) -> Any:
        if isinstance(flag, Nested):
            return flag.rebuilt([self._argument(f"{name}_{i}", inner) for i, inner in enumerate(flag.flags)])
        if flag is not Variable and flag is not Tensor:
            return flag
        proxy = self.create_proxy("placeholder", name, (), {})
        proxy.node.meta["tensor"] = flag is Tensor
        return proxy


def _is_written_out(value: Any) -> bool:
    """Whether torch.fx writes this container into its code itself."""
    return type(value) in (list, tuple, dict, torch.Size) or isinstance(value, tuple)


def _rebuild(spec: _pytree.TreeSpec) -> Callable[..., Any]:
    def rebuild(*leaves: Any) -> Any:
        return _pytree.tree_unflatten(list(leaves), spec)

    return rebuild


@dataclass(frozen=True)
class Trace:
    """A traced forward.

    Attributes:
        graph: The operations, with modules and tensors named by their paths in the backbone.
        root: The traced network, to look up the modules that the graph calls.
        constants: The tensors that the forward itself made, by their names in the graph.
        dependencies: The state for which the trace holds.
        whole: The modules that cannot be traced, each recorded as one operation.
    """

    graph: fx.Graph
    root: nn.Module
    constants: dict[str, Tensor]
    dependencies: Dependencies
    whole: frozenset[str]


class Failed(Untraceable):
    """A forward cannot be traced.

    Attributes:
        dependencies: The state that it had read when it failed.
    """

    def __init__(self, reason: str, dependencies: Dependencies) -> None:
        super().__init__(reason)
        self.dependencies = dependencies


def trace(network: nn.Module, call: Call, touched: Collection[str], opened: Collection[Name] = ()) -> Trace:
    """Trace a network's forward for one way of calling it, with its flags as they are.

    Args:
        network: The network; it is not altered.
        call: The way of calling it.
        touched: The modules that hold a part of a branched layer and must be entered, the root
            included.
        opened: The numbers among the attributes that are read at every call instead of baked in.

    Raises:
        Failed: The forward cannot be traced, or its trace would not give the same results; the
            message says why.
    """
    whole: set[str] = set()
    while True:
        # Tracing leaves traced values in modules that keep their inputs, so it runs on a copy.
        root = private(network)
        reads = Reads(root)
        tracer = _Tracer(call, reads, whole, opened)
        before = random_state()
        try:
            graph = tracer.trace(root)
            reads.check_unchanged()
            if before != random_state():
                raise Untraceable("it draws random numbers that do not depend on its input")
        except Exception as error:  # a forward may raise anything when it runs on traced values
            failed = error.path if isinstance(error, Changed) else tracer.failed
            more = _enclosing(failed, root, set(tracer.entered).difference(touched))
            if not more:
                raise Failed(reason_of(error), reads.dependencies(tracer.entered, opened)) from error
            whole |= more
            continue
        finally:
            # A tracer is part of cycles, and would keep all tensors until these are collected.
            for name in ("root", "_reads"):
                vars(tracer).pop(name, None)
        constants = {name: value for name, value in vars(root).items() if name.startswith("_tensor_constant")}
        return Trace(graph, root, constants, reads.dependencies(tracer.entered, opened), frozenset(whole))


def private(network: nn.Module) -> nn.Module:
    """A copy of a network's modules and of their Python state, on the very same tensors."""
    return deep_copy(network, {id(tensor): tensor for tensor in all_tensors(network)})


def in_mode(network: nn.Module, training: bool) -> nn.Module:
    """A private copy in training or evaluation, as the network's own ``train`` sets its modules."""
    return private(network).train(training)


def _enclosing(failed: str | None, root: nn.Module, candidates: Collection[str]) -> set[str]:
    """The smallest module around a failed one to record whole, and others of its class."""
    while failed:
        if failed in candidates:
            kind = type(root.get_submodule(failed))
            return {path for path in candidates if type(root.get_submodule(path)) is kind}
        failed = failed.rpartition(".")[0]
    return set()


def reason_of(error: Exception) -> str:
    """The message of an error, in one line."""
    kind = "" if isinstance(error, Untraceable) else f"{type(error).__name__}: "
    return kind + str(error).partition("\n")[0]
