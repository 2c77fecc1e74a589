"""A backbone's tensors, parted into those that tasks share and one branch per task, and put together again.

All of it is ``copy.deepcopy`` with a memo that says what a module, a tensor or a module's dictionary of tensors
becomes. Where a module is copied but tensors in it stay shared, the copy gets the very dictionary that holds them: so a
tensor that is replaced there later (``.to(device)`` replaces buffers) is replaced for every task.
"""

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from recon.branching.layers import Cut, own_tensors


class Absent(nn.Module):
    """Stands in the shared network where every task has its own module."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"layer {self.path!r} is branched; run the branched network, or the one of extract(task)")


def part(backbone: nn.Module, cut: Cut, tasks: tuple[str, ...]) -> tuple[nn.Module, nn.ModuleDict]:
    """Copy a backbone into its shared network and the branches of every task.

    Returns:
        The backbone without what is branched, and task -> a tree of modules with just that, under the same paths.
    """
    modules = dict(backbone.named_modules())
    own = {id(tensor) for name, tensor in _named_tensors(backbone) if name in cut.tensors}
    memo: dict[int, Any] = dict.fromkeys(own) | {id(modules[path]): Absent(path) for path in cut.absent}
    shared = copy.deepcopy(backbone, memo)
    tied: dict[int, Any] = {}
    for path, module in modules.items():
        tensors = own_tensors(module).values()
        keep: list[Any] = [tensor for tensor in tensors if id(tensor) not in own]
        if len(keep) == len(tensors):
            keep += _common(module, path, cut)
        tied |= {id(part): memo[id(part)] for part in keep if id(part) in memo}
    return shared, nn.ModuleDict({task: _branch(modules, cut, dict(tied)) for task in tasks})


def assemble(shared: nn.Module, branch: nn.Module, cut: Cut) -> nn.Module:
    """The network of one task, of the backbone's own class: a view on the tensors of both, none of them copied."""
    memo: dict[int, Any] = {}
    for path, module in shared.named_modules():
        if path in cut.leaves:
            memo[id(module)] = branch.get_submodule(path)
        elif path in cut.holders:
            holder = branch.get_submodule(path)
            memo |= {id(module._parameters): holder._parameters, id(module._buffers): holder._buffers}
        else:
            memo |= {id(part): part for part in _common(module, path, cut)}
    return copy.deepcopy(shared, memo)


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _common(module: nn.Module, path: str, cut: Cut) -> list[Any]:
    """What tasks have in common of a module that owns nothing branched: itself, or its dictionaries of tensors."""
    return [module._parameters, module._buffers] if path in cut.touched else [module]


def _branch(modules: dict[str, nn.Module], cut: Cut, memo: dict[int, Any]) -> nn.Module:
    root = nn.Module()
    for path, module in modules.items():
        if path in cut.leaves:
            _place(root, path, copy.deepcopy(module, memo))
        elif path in cut.holders:
            holder = _place(root, path, nn.Module()) if path else root
            holder._parameters = copy.deepcopy(module._parameters, memo)
            holder._buffers = copy.deepcopy(module._buffers, memo)
            holder._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    return root


def _place(root: nn.Module, path: str, module: nn.Module) -> nn.Module:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
    return module
