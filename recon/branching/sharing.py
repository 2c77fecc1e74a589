"""Which tasks use the same copy of a module or tensor of the backbone."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from recon.branching.groups import Partition, meet, together
from recon.branching.layers import Cut, all_tensors, belonging_modules, join, own_tensors


@dataclass(frozen=True)
class Sharing:
    """The partition of the tasks for every module and tensor, by path.

    A module is shared by the tasks that share all tensors in it.

    Attributes:
        tasks: The tasks.
        partitions: The partition of every module and tensor of which tasks have different copies.
        inside: Modules of which the shared network holds nothing; their partitions are also those
            of modules without tensors in them.
        holders: The partitions of modules for the tensors that they hold themselves.
    """

    tasks: tuple[str, ...]
    partitions: Mapping[str, Partition]
    inside: tuple[str, ...]
    holders: Mapping[str, Partition]

    def of(self, target: str) -> Partition:
        """The partition of the tasks for a module or tensor."""
        if target in self.partitions:
            return self.partitions[target]
        around = [path for path in self.inside if target.startswith(f"{path}.")]
        return self.partitions[around[0]] if around else together(len(self.tasks))

    def keeper(self, task: str, path: str) -> str:
        """The task in whose branch the leaf, holder or tensor stands that a task uses."""
        groups = self.holders[path] if path in self.holders else self.of(path)
        return self.tasks[groups[self.tasks.index(task)]]

    def is_own(self, target: str) -> bool:
        """Whether tasks have different modules or tensors of this name."""
        return any(self.of(target))


def sharing(
    backbone: nn.Module,
    cut: Cut,
    layers: Mapping[str, Partition],
    statistics: Mapping[str, Partition],
    tasks: tuple[str, ...],
) -> Sharing:
    """Find the partition of every module and tensor that a cut touches.

    Args:
        backbone: The backbone.
        cut: The part of which tasks have copies.
        layers: Path of a branched layer -> its partition.
        statistics: Running statistics in the cut -> their partition.
        tasks: The tasks.
    """
    by_owner = {
        owner: partition
        for path, partition in layers.items()
        for owner in (path, *belonging_modules(backbone.get_submodule(path), path))
    }
    tensors = dict((*backbone.named_parameters(), *backbone.named_buffers()))
    of_tensor = {
        id(tensors[name]): statistics[name] if name in statistics else by_owner[name.rpartition(".")[0]]
        for name in cut.tensors
    }
    partitions: dict[str, Partition] = {}
    modules = dict(backbone.named_modules())
    for path, module in modules.items():
        direct = own_tensors(module).items()
        partitions |= {join(path, name): of_tensor[id(own)] for name, own in direct if id(own) in of_tensor}
        if path in cut.touched:
            partitions[path] = meet(*(of_tensor[id(own)] for own in all_tensors(module) if id(own) in of_tensor))
    holders = {
        path: meet(*(of_tensor[id(own)] for own in own_tensors(modules[path]).values() if id(own) in of_tensor))
        for path in cut.holders
    }
    return Sharing(tasks, partitions, cut.absent, holders)
