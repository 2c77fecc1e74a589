"""The networks of all tasks, which follow changes of the branched network.

Tensors are shared (see ``state``). Everything else of a module is the task's own, as in separate
copies: state that its forward keeps stays there. Changes that a user makes in the shared network
(flags, attributes, hooks, exchanged modules) are carried over into every task's network before it
runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from recon.branching.copying import modes_of, set_modes
from recon.branching.layers import Cut, all_tensors
from recon.branching.sharing import Sharing
from recon.branching.state import Absent, share_dictionaries, share_tensors
from recon.branching.untraced.arguments import Arguments, out_of_inference
from recon.branching.untraced.effects import attributes, modules_seen_from
from recon.branching.untraced.following import Carrier, Kept, carry_over
from recon.branching.untraced.remembering import Memory


class TaskNetworks:
    """A network per task, of the backbone's own class, on the tensors of a branched one.

    Args:
        shared: The shared network.
        networks: Task -> its network.
        branches: Task -> its branch.
        cut: The part of which tasks have copies.
        sharing: Which tasks share a copy.
    """

    def __init__(
        self,
        shared: nn.Module,
        networks: Mapping[str, nn.Module],
        branches: Mapping[str, nn.Module],
        cut: Cut,
        sharing: Sharing,
    ) -> None:
        self._shared = shared
        self._networks = dict(networks)
        self._branches = dict(branches)
        self._cut = cut
        self._sharing = sharing
        whole = sharing.of("")
        self._runs = {task: sharing.tasks[first] for task, first in zip(sharing.tasks, whole, strict=True)}
        self._unsteady: set[str] = set()  # modules that set their own attributes in their forward
        self._written: set[str] = set()  # modules whose output others write into
        self._record()

    def follow(self) -> dict[str, nn.Module]:
        """Task -> its network, with all changes since of the shared network and of the branches."""
        leaves = self._leaves()
        if leaves != self._known_leaves:
            for (task, path), leaf in leaves.items():
                _exchange(self._networks[task], self._known_leaves[task, path], leaf)
            self._record_modules()
        kept, changed = Kept(), []
        for module, twins, seen in self._watched:
            changes = kept.changes(module, seen)
            if changes or type(module) is not seen["__class__"]:
                changed.append((module, twins, seen, changes))
        if changed:
            carriers = self._carriers()
            for change in changed:
                carry_over(*change, carriers)
            self._record()
        return self._networks

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Task -> the output of its network; modules without a branch run once if possible."""
        networks = self.follow()
        runs = dict.fromkeys(self._runs.values())
        if torch.compiler.is_compiling():
            return self._for_all({task: networks[task](*args, **kwargs) for task in runs})
        with out_of_inference(args, kwargs) as (args, kwargs):
            memory = Memory(self._trunk - self._unsteady, self._written)
            first, *others = [(task, self._modules[task]) for task in runs]
            before = attributes(first[1])
            given = Arguments(args, kwargs)
            outputs = {first[0]: memory.run(first[1], args, kwargs)}
            after = attributes(first[1])
            self._unsteady = {path for path in before if after.get(path) != before[path]}
            memory.forget(self._unsteady)
            outputs.update((task, memory.run(modules, *given.again())) for task, modules in others)
            return self._for_all(outputs)

    def _for_all(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of all tasks, from those of the first of the tasks that share all copies."""
        return {task: outputs[run] for task, run in self._runs.items()}

    def train(self, mode: bool) -> None:
        """Set training or evaluation as the backbone's own ``train`` does, in all networks."""
        for network in self.follow().values():
            network.train(mode)
        for module, twins, seen in self._watched:
            module.training = seen["training"] = twins[0].training

    def modes(self) -> list[dict[str, bool]]:
        """The modules in training, in the shared network and in every task's."""
        self.follow()
        return [modes_of(network) for network in (self._shared, *self._networks.values())]

    def mend_copy(self, modes: Sequence[Mapping[str, bool]]) -> None:
        """Repair copies of modules that torch.fx wrote: give them their own tensors and modes."""
        for network, own in zip((self._shared, *self._networks.values()), modes, strict=True):
            set_modes(network, own)
        for task, branch in self._branches.items():
            modules = dict(self._networks[task].named_modules())
            for path in self._cut.holders:
                if self._sharing.keeper(task, path) == task:
                    share_dictionaries(branch.get_submodule(path), modules[path])
        share_tensors(self._shared, self._networks, self._cut, self._sharing)
        self._record()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_pairs", "_watched")}

    def _leaves(self) -> dict[tuple[str, str], nn.Module]:
        return {
            (task, path): self._branches[self._sharing.keeper(task, path)].get_submodule(path)
            for task in self._branches
            for path in self._cut.leaves
        }

    def _record_modules(self) -> None:
        self._known_leaves = self._leaves()
        self._modules = {task: dict(network.named_modules()) for task, network in self._networks.items()}

    def _record(self) -> None:
        """Record the present state of the shared network."""
        self._record_modules()
        self._pairs = [
            (module, [modules[path] for modules in self._modules.values()])
            for path, module in self._shared.named_modules()
            if all(path in modules for modules in self._modules.values())
        ]
        self._trunk = self._untouched()
        kept = Kept()
        self._watched = [(own, twins, kept.state(own)) for own, twins in self._pairs if not isinstance(own, Absent)]

    def _untouched(self) -> set[str]:
        """The modules that no branch touches, directly or through their attributes."""
        modules = next(iter(self._modules.values()))
        branched = {module for path, module in modules.items() if not self._cut.is_trunk(path)}
        reaching = [path for path, module in modules.items() if not branched.isdisjoint(modules_seen_from(module))]
        inside = tuple(f"{path}." for path in reaching)
        return {
            path
            for path in modules
            if self._cut.is_trunk(path) and not any(other.startswith(f"{path}.") for other in inside)
        }

    def _carriers(self) -> list[Carrier]:
        tensors = {id(tensor): tensor for tensor in all_tensors(self._shared)}
        return [
            Carrier({id(own): others[i] for own, others in self._pairs}, tensors) for i in range(len(self._networks))
        ]


def _exchange(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
