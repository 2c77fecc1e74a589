"""The tensors that a layer owns, and the modules to copy so that every task has its own.

A layer is a module that owns parameters directly. It is named by its path in the backbone, the root
by its ``root_name``. A tensor that several modules hold (a tied parameter) belongs to the first of
them, in the order of ``named_modules()``.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from recon.branching.leaves import is_leaf
from recon.errors import unknown_name
from recon.gradients.layers import root_name


def join(path: str, name: str) -> str:
    """The dotted name of an item in the module at ``path``; the root's path is empty."""
    return f"{path}.{name}" if path else name


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers that a module holds itself, not through its children."""
    held = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


def all_tensors(module: nn.Module) -> Iterator[Tensor]:
    """The parameters and buffers of a module and of the modules in it."""
    yield from module.parameters()
    yield from module.buffers()


def check_has_forward(backbone: nn.Module) -> None:
    """Raise a ValueError for a container of modules, such as ``nn.ModuleList``, or for a plan."""
    if type(backbone).forward is nn.Module.forward and "forward" not in vars(backbone):
        if hasattr(backbone, "for_tasks"):
            raise ValueError(
                f"{type(backbone).__name__} is the plan of a network that depends on the tasks; make the network by "
                "its for_tasks, and branch that"
            )
        raise ValueError(
            f"{type(backbone).__name__} has no forward, so there is nothing to branch: put its parts into one module "
            "whose forward runs them, and name layers by their paths in it; or branch the part that has the layers"
        )


def layer_paths(backbone: nn.Module, layers: Sequence[str]) -> list[str]:
    """Check the names of layers to branch and turn them into module paths.

    Raises:
        ValueError: One string stands for the list, or a name is unknown, repeated, or of a module
            without parameters of its own.
    """
    if isinstance(layers, str):
        raise ValueError(f"layers is {layers!r}; give a list of names: [{layers!r}]")
    modules = dict(backbone.named_modules())
    owner = _owners(backbone)
    root = root_name(backbone)
    owners = {owner[id(parameter)] for parameter in backbone.parameters()}
    paths = ["" if name == root else name for name in layers]
    for name, path in zip(layers, paths, strict=True):
        if path not in modules:
            known = [known or root for known in modules if known in owners]
            raise unknown_name("layer", name, known, type(backbone).__name__)
        if paths.count(path) > 1:
            raise ValueError(f"layer {name!r} is given {paths.count(path)} times; name every layer to branch once")
        if path not in owners:
            raise _without_parameters(name, modules[path], path, owner, owners)
    return paths


def _owners(backbone: nn.Module) -> dict[int, str]:
    """The path of the first module that holds a tensor, by the tensor's id."""
    owner: dict[int, str] = {}
    for path, module in backbone.named_modules():
        for tensor in own_tensors(module).values():
            owner.setdefault(id(tensor), path)
    return owner


def _without_parameters(name: str, module: nn.Module, path: str, owner: dict[int, str], owners: set[str]) -> ValueError:
    tied = sorted({owner[id(parameter)] for parameter in module.parameters(recurse=False)})
    inside = sorted(other for other in owners if other.startswith(join(path, "")))
    if tied:
        cure = f"its parameters are tied to those of {', '.join(map(repr, tied))}, which own them; branch these"
    elif inside:
        cure = f"layers in it: {', '.join(map(repr, inside[:5]))}{', ...' if len(inside) > 5 else ''}"
    else:
        cure = "there is nothing in it to branch"
    return ValueError(f"layer {name!r} ({type(module).__name__}) owns no parameters; {cure}")


@dataclass(frozen=True)
class Cut:
    """The line through a backbone between the shared part and the copies of tasks, by path.

    Attributes:
        tensors: The parameters and buffers of which tasks have copies, by the name of their owner.
        statistics: Running statistics in ``tensors`` of modules that are not branched. The other
            tensors belong to the branched layers, directly or in modules without parameters inside
            them.
        touched: The modules that hold such a tensor, directly or through modules inside them.
        entered: Modules in ``touched`` that the trace enters.
        leaves: Modules in ``touched`` that are copied whole, because the trace calls them as one
            operation. Shared tensors in them stay tied.
        holders: Modules in ``entered`` that own such a tensor directly; only these tensors are
            copied.
        absent: Modules in ``leaves`` that hold nothing shared.
    """

    tensors: frozenset[str]
    statistics: frozenset[str]
    touched: frozenset[str]
    entered: tuple[str, ...]
    leaves: tuple[str, ...]
    holders: tuple[str, ...]
    absent: tuple[str, ...]

    def is_shared(self, path: str) -> bool:
        """Whether the module at a path itself holds only shared tensors."""
        return path not in self.touched or (path in self.entered and path not in self.holders)

    def is_trunk(self, path: str) -> bool:
        """Whether the module at a path, with all modules in it, is the same for all tasks."""
        return path not in self.touched and not path.startswith(tuple(f"{leaf}." for leaf in self.leaves))


def cut(backbone: nn.Module, paths: Sequence[str], statistics: Collection[str] = frozenset()) -> Cut:
    """Find what to copy so that every task owns the layers at ``paths`` and these statistics."""
    owner = _owners(backbone)
    belonging = {inside for path in paths for inside in belonging_modules(backbone.get_submodule(path), path)}
    layers = {key for key, path in owner.items() if path in paths or path in belonging}
    buffers = backbone.named_buffers(remove_duplicate=False)
    kept = {id(buffer) for name, buffer in buffers if name in statistics} - layers
    wanted = layers | kept
    tensors: list[str] = []
    names_of_statistics: list[str] = []
    touched: list[str] = []
    entered: list[str] = []
    leaves: list[str] = []
    holders: list[str] = []
    absent: list[str] = []
    for path, module in backbone.named_modules():
        own = {name: id(tensor) for name, tensor in own_tensors(module).items() if id(tensor) in wanted}
        tensors += [join(path, name) for name, key in own.items() if owner[key] == path]
        names_of_statistics += [join(path, name) for name, key in own.items() if owner[key] == path and key in kept]
        held = [id(tensor) in wanted for tensor in all_tensors(module)]
        if not any(held):
            continue
        touched.append(path)
        if path.startswith(tuple(f"{leaf}." for leaf in leaves)):
            continue
        if path and is_leaf(module):
            leaves.append(path)
            absent += [path] * all(held)
        else:
            entered.append(path)
            holders += [path] * bool(own)
    return Cut(
        frozenset(tensors),
        frozenset(names_of_statistics),
        frozenset(touched),
        tuple(entered),
        tuple(leaves),
        tuple(holders),
        tuple(absent),
    )


def belonging_modules(layer: nn.Module, path: str) -> list[str]:
    """The modules in a layer whose buffers are a part of it: all, if none has parameters.

    Examples are the vectors of spectral norm and the observers of a quantised layer.

    Args:
        layer: The layer.
        path: Its path in the backbone, in which the modules are named.
    """
    inside = [join(path, name) for name, _ in layer.named_modules() if name]
    parameters = any(next(child.parameters(), None) is not None for child in layer.children())
    return [] if parameters else inside
