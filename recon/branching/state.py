"""A backbone's tensors, parted into those that tasks share and one branch per task, and put together again.

All of it is :func:`deep_copy` with a memo that says what a module, a tensor or a module's dictionary of tensors
becomes. Where a module is copied but tensors in it stay shared, the copy holds these very tensors. What replaces
tensors later (``.to(device)`` replaces buffers) does so module by module, and :func:`tie` is called after it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from recon.branching.copying import deep_copy
from recon.branching.layers import Cut, own_tensors


class Absent(nn.Module):
    """Stands in the shared network where every task has its own module; holds what tasks share of it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"tasks have their own {self.path!r}; run the branched network, or the one of extract(task)")


def part(backbone: nn.Module, cut: Cut, tasks: tuple[str, ...]) -> tuple[nn.Module, nn.ModuleDict]:
    """Copy a backbone into its shared network and the branches of every task.

    Returns:
        The backbone without what is branched, and task -> a tree of modules with just that, under the same paths.
    """
    modules = dict(backbone.named_modules())
    own = {id(tensor) for name, tensor in _named_tensors(backbone) if name in cut.tensors}
    owning = {path for path, module in modules.items() if any(id(tensor) in own for tensor in _held(module))}
    memo: dict[int, Any] = dict.fromkeys(own)
    for path, module in reversed(modules.items()):  # what is inside a module comes before it
        if path in cut.absent:
            memo[id(module)] = Absent(path)
        elif path in owning.difference(cut.entered):
            memo[id(module)] = _rest(module, path, memo)
    shared = deep_copy(backbone, memo)
    tied: dict[int, Any] = {}
    for path, module in modules.items():
        keep: list[Any] = [tensor for tensor in _held(module) if id(tensor) not in own]
        if path not in cut.touched:
            keep.append(module)
        elif path not in owning:
            keep.append(module._buffers)  # a module may put new tensors there in its forward
        tied |= {id(part): memo[id(part)] for part in keep if id(part) in memo}
    return shared, nn.ModuleDict({task: _branch(modules, cut, dict(tied)) for task in tasks})


def tie(shared: nn.Module, branches: Iterable[nn.Module]) -> None:
    """Give the branches the very tensors of the shared network again, wherever both hold one."""
    homes = dict(shared.named_modules())
    for branch in branches:
        for path, module in branch.named_modules():
            if path in homes:
                _replace(module._parameters, homes[path]._parameters)
                _replace(module._buffers, homes[path]._buffers)


def assemble(shared: nn.Module, branch: nn.Module, cut: Cut) -> nn.Module:
    """The network of one task, of the backbone's own class: a view on the tensors of both, none of them copied."""
    memo: dict[int, Any] = {}
    for path, module in shared.named_modules():
        if path not in cut.touched:
            memo[id(module)] = module
        elif path in cut.entered:
            home = branch.get_submodule(path) if path in cut.holders else module
            memo |= {id(module._parameters): home._parameters, id(module._buffers): home._buffers}
        else:
            memo[id(module)] = branch.get_submodule(path)
    return deep_copy(shared, memo)


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _replace(held: dict[str, Any], by: Mapping[str, Tensor | None]) -> None:
    held |= {name: tensor for name, tensor in by.items() if name in held and tensor is not None}


def _held(module: nn.Module) -> Collection[Tensor]:
    return own_tensors(module).values()


def _rest(module: nn.Module, path: str, memo: dict[int, Any]) -> Absent:
    """What stays shared of a module that every task has for itself."""
    rest = Absent(path)
    rest._parameters = deep_copy(module._parameters, memo)
    rest._buffers = deep_copy(module._buffers, memo)
    rest._modules = deep_copy(module._modules, memo)
    rest._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    return rest


def _branch(modules: dict[str, nn.Module], cut: Cut, memo: dict[int, Any]) -> nn.Module:
    root = nn.Module()
    for path, module in modules.items():
        if path in cut.leaves:
            _place(root, path, deep_copy(module, memo))
        elif path in cut.holders:
            holder = _place(root, path, nn.Module()) if path else root
            holder._parameters = deep_copy(module._parameters, memo)
            holder._buffers = deep_copy(module._buffers, memo)
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
