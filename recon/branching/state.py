"""A backbone's tensors, split into the shared ones and one branch per task.

Every task has a network of its own, whose modules are copies, as separate copies of the backbone
would be. Hooks, handles and lists in it refer to the same network. Its tensors are those of the
shared network and of the task's branch.

Tasks that share a copy hold the very same tensors. The copy stands in the branch of the first of
them, its keeper. A leaf of the trace is one module in the networks of all tasks that share it.

A module without tensors of its task shares the very dictionaries of tensors, so that a later
replacement (``.to(device)`` replaces buffers) reaches it too. Other modules hold the same tensors
in dictionaries of their own, and :func:`tie` is called after a replacement.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recon.branching.copying import copy_network, deep_copy
from recon.branching.layers import Cut, join, own_tensors
from recon.branching.sharing import Sharing


class Absent(nn.Module):
    """Stands in the shared network for a module of which every task has its own.

    It holds the shared part of that module.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"tasks have their own {self.path!r}; run the branched network, or the one of extract(task)")


def part(backbone: nn.Module, cut: Cut, sharing: Sharing) -> tuple[nn.Module, dict[str, nn.Module], nn.ModuleDict]:
    """Copy a backbone into its shared network, and into the network and branch of every task.

    Returns:
        The backbone without its branched part; task -> its network, of the backbone's own class;
        and task -> a tree of modules with only the branched part that it keeps, under the same
        paths: the modules of the task's network, or their tensors.
    """
    modules = dict(backbone.named_modules())
    own = {id(tensor) for name, tensor in _named_tensors(backbone) if name in cut.tensors}
    owning = {path for path, module in modules.items() if any(id(tensor) in own for tensor in _held(module))}
    memo: dict[int, Any] = dict.fromkeys(own)
    for path, module in reversed(modules.items()):  # modules inside come before the module
        if path in cut.absent:
            memo[id(module)] = _standing_for(module, path, memo)
        elif path in owning.difference(cut.entered):
            memo[id(module)] = _rest(module, path, memo)
    shared = copy_network(backbone, memo)
    tied: dict[int, Any] = {}
    for path, module in modules.items():
        keep: list[Any] = [tensor for tensor in _held(module) if id(tensor) not in own]
        if path in cut.touched and path not in owning:
            keep.append(module._buffers)  # a module may put new tensors there in its forward
        if isinstance(module, torch.jit.ScriptModule):
            keep.append(module)  # deepcopy would copy tensors that are shared
        tied |= {id(part): memo[id(part)] for part in keep if id(part) in memo}
    networks: dict[str, nn.Module] = {}
    for task in sharing.tasks:
        networks[task] = copy_network(backbone, tied | _copies_of_group(backbone, networks, cut, sharing, task))
    share_tensors(shared, networks, cut, sharing)
    return shared, networks, nn.ModuleDict({task: _branch(networks[task], cut, sharing, task) for task in networks})


def _copies_of_group(
    backbone: nn.Module, networks: Mapping[str, nn.Module], cut: Cut, sharing: Sharing, task: str
) -> dict[int, Any]:
    """The copies that a task shares with tasks before it, by the id of the original."""
    tensors = dict(_named_tensors(backbone))
    held = {other: dict(_named_tensors(network)) for other, network in networks.items()}
    copies: dict[int, Any] = {}
    for name in cut.tensors:
        if (keeper := sharing.keeper(task, name)) != task:
            copies[id(tensors[name])] = held[keeper][name]
    for leaf in cut.leaves:
        if (keeper := sharing.keeper(task, leaf)) == task:
            continue
        copied = dict(networks[keeper].get_submodule(leaf).named_modules())
        for path, module in backbone.get_submodule(leaf).named_modules():
            copies[id(module)] = copied[path]
            # Handles refer to the dictionaries of hooks.
            own = vars(copied[path])
            copies |= {id(value): own[name] for name, value in vars(module).items() if isinstance(value, dict)}
    return copies


def share_tensors(shared: nn.Module, networks: Mapping[str, nn.Module], cut: Cut, sharing: Sharing) -> None:
    """Share the dictionaries of tensors with task modules that hold no tensor of the task alone."""
    homes = {path: module for path, module in shared.named_modules() if cut.is_shared(path)}
    inside = {task: dict(network.named_modules()) for task, network in networks.items()}
    for task, modules in inside.items():
        for path in homes.keys() & modules.keys():
            share_dictionaries(homes[path], modules[path])
        for path in cut.holders:
            share_dictionaries(inside[sharing.keeper(task, path)][path], modules[path])


def share_dictionaries(home: nn.Module, module: nn.Module) -> None:
    """Let a module hold the very tensors of another, also those that it gets later."""
    if home is not module:
        module.__dict__["_parameters"] = home._parameters
        module.__dict__["_buffers"] = home._buffers
        module._non_persistent_buffers_set = home._non_persistent_buffers_set


def tie(shared: nn.Module, branches: Mapping[str, nn.Module], sharing: Sharing) -> None:
    """Give the branches the tensors that they share again, wherever two modules hold one.

    Args:
        shared: The shared network.
        branches: Task -> its branch.
        sharing: Which tasks share a copy.
    """
    homes = dict(shared.named_modules())
    inside = {task: dict(branch.named_modules()) for task, branch in branches.items()}
    for task, modules in inside.items():
        for path, module in modules.items():
            if path in homes:
                _replace(module._parameters, homes[path]._parameters)
                _replace(module._buffers, homes[path]._buffers)
            for held in ("_parameters", "_buffers"):
                for name in vars(module)[held]:
                    whole = join(path, name)
                    if whole in sharing.partitions and (keeper := sharing.keeper(task, whole)) != task:
                        vars(module)[held][name] = vars(inside[keeper][path])[held][name]


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _replace(held: dict[str, Any], by: Mapping[str, Tensor | None]) -> None:
    held |= {name: tensor for name, tensor in by.items() if name in held and tensor is not None}


def _held(module: nn.Module) -> Collection[Tensor]:
    return own_tensors(module).values()


def _standing_for(module: nn.Module, path: str, memo: dict[int, Any]) -> Absent:
    """Make the substitute of a module in the shared network, also for the handles of its hooks."""
    absent = Absent(path)
    for name, value in vars(absent).items():
        if isinstance(value, dict) and name in vars(module):
            memo[id(vars(module)[name])] = value
    return absent


def _rest(module: nn.Module, path: str, memo: dict[int, Any]) -> Absent:
    """Make the shared part of a module of which every task has its own."""
    rest = Absent(path)
    rest._parameters = deep_copy(module._parameters, memo)
    rest._buffers = deep_copy(module._buffers, memo)
    rest._modules = deep_copy(module._modules, memo)
    rest._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    for name, value in vars(rest).items():
        if isinstance(value, dict):
            memo.setdefault(id(vars(module)[name]), value)
    return rest


def _branch(network: nn.Module, cut: Cut, sharing: Sharing, task: str) -> nn.Module:
    root = nn.Module()
    for path, module in network.named_modules():
        if path not in (*cut.leaves, *cut.holders) or sharing.keeper(task, path) != task:
            continue
        if path in cut.leaves:
            _place(root, path, module)
        else:
            share_dictionaries(module, _place(root, path, nn.Module()) if path else root)
    return root


def _place(root: nn.Module, path: str, module: nn.Module) -> nn.Module:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
    return module
