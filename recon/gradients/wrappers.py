"""Networks without their wrappers: ``torch.compile``, ``DataParallel``, Lightning Fabric, ...

A wrapper runs another module and prefixes the names of everything in it (``module.conv1``,
``_orig_mod.conv1``). Layers keep their names in the network itself, so that a conflict map does not
depend on how the network was run.
"""

from collections.abc import Collection, Iterable, Iterator

from torch import nn

# Where torch.compile, Fabric, activation checkpoints and fully sharded training keep the module
# that they wrap. The search goes by name: the classes would import a compiler and Lightning.
_WRAPPED = ("_orig_mod", "_forward_module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")


class PartlyShared:
    """Base of networks with a part of each task's own, such as those of :func:`recon.branch`.

    Attributes:
        shared: The part that all tasks share; its layers have their names in the network.
        layers: Names of the layers of which each task has its own.
        tasks: The tasks.
    """

    shared: nn.Module
    layers: tuple[str, ...] = ()
    tasks: tuple[str, ...]

    def branch_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters of one task's own part."""
        raise NotImplementedError


class NotShared:
    """Base of modules whose parameters several tasks reach, but that are no shared layers.

    Examples are the units that mix the networks of several tasks. No map scores such a module, no
    method weighs the gradients in it: they add up, as those of a plain sum of the losses do.
    """


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside all wrappers; any other module itself.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(network)) is network
        True
    """
    while (inner := _wrapped(module)) is not None:
        module = inner
    return module


def _wrapped(module: nn.Module) -> nn.Module | None:
    held = module._modules
    for name in _WRAPPED:
        if name in held:
            return held[name]
    # Many networks call a child "module", so the name alone does not tell.
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return held["module"]
    return None


def is_compiled(network: nn.Module) -> bool:
    """Whether ``torch.compile`` has compiled the network or a part of it.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 1))
        >>> is_compiled(network)
        False
    """
    seen, waiting = set(), [network]
    while waiting:  # network.modules() would build the name of each, in every step
        module = waiting.pop()
        if module._compiled_call_impl is not None or "_orig_mod" in module._modules:
            return True
        seen.add(module)
        waiting += [child for child in module._modules.values() if child is not None and child not in seen]
    return False


def is_partly_shared(network: nn.Module) -> bool:
    """Whether tasks have layers of their own somewhere in the network."""
    return any(isinstance(module, PartlyShared) for module in network.modules())


def unshared_layers(network: nn.Module) -> list[str]:
    """Names of the layers of which each task has its own, as of :func:`recon.branch`."""
    found, waiting = [], [("", network)]
    while waiting:
        path, module = waiting.pop()
        module = unwrapped(module)
        prefix = f"{path}." if path else ""
        if isinstance(module, PartlyShared):
            found += [prefix + layer for layer in module.layers]
            waiting.append((path, module.shared))
        else:
            waiting.extend((prefix + name, child) for name, child in module._modules.items() if child is not None)
    return found


def branches_of(network: nn.Module, tasks: Collection[str]) -> list[nn.Parameter]:
    """The parameters of a network that some tasks alone use.

    A copy that one of them shares with another task is not among them.
    """
    modules: Iterable[object] = network.modules() if tasks else ()
    found: list[nn.Parameter] = []
    for module in modules:
        if isinstance(module, PartlyShared):
            others = {p for task in module.tasks if task not in tasks for p in module.branch_parameters(task)}
            own = (p for task in tasks if task in module.tasks for p in module.branch_parameters(task))
            found += [p for p in dict.fromkeys(own) if p not in others]
    return found


def shared_part(module: nn.Module) -> nn.Module:
    """The module without wrappers; of a partly shared one its shared part."""
    module = unwrapped(module)
    return shared_part(module.shared) if isinstance(module, PartlyShared) else module


def shared_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """``network.named_modules()`` without wrappers, their prefixes, and modules not shared."""
    seen: set[nn.Module] = set()
    waiting = [("", network)]
    while waiting:
        path, module = waiting.pop()
        module = shared_part(module)
        if module in seen or isinstance(module, NotShared):
            continue
        seen.add(module)
        yield path, module
        prefix = f"{path}." if path else ""
        children = [(prefix + name, child) for name, child in module._modules.items() if child is not None]
        waiting.extend(reversed(children))
