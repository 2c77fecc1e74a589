"""A backbone's forward as a list of steps that can stop after named stages.

torch.fx traces the forward and enters only the modules around stages. All others are one step each,
so that their own code need not be traceable.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import fx, nn

from recon.branching.graph.trace import in_mode, reason_of
from recon.branching.layers import join
from recon.errors import unknown_name

Stop = Callable[[str, Sequence[Any]], Sequence[Any]]
"""Name of a stage and its outputs, one per network -> the outputs to go on with."""


@dataclass(frozen=True)
class Value:
    """Stands for the result of a step among the arguments of another."""

    name: str


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: Name of its result.
        kind: What torch.fx calls ``op``: ``call_module``, ``call_function``, ...; or ``constant``.
        target: The module's path, the function, or the name of the method.
        args: Arguments.
        kwargs: Keyword arguments.
        spent: Names of results that no later step needs.
    """

    name: str
    kind: str
    target: Any
    args: Any
    kwargs: Any
    spent: tuple[str, ...]


@dataclass(frozen=True)
class Steps:
    """The forward of a backbone in one mode, for networks of its structure side by side.

    Attributes:
        steps: The operations in order.
        stages: The modules after whose calls a run stops.
    """

    steps: tuple[Step, ...]
    stages: frozenset[str]

    def run(self, networks: Sequence[nn.Module], x: Any, stop: Stop) -> list[Any]:
        """Run networks side by side.

        Args:
            networks: Networks of the recorded structure.
            x: The input of them all.
            stop: Called after each stage.

        Returns:
            The outputs, one per network.
        """
        results: list[dict[str, Any]] = [{} for _ in networks]
        for step in self.steps:
            outputs = [_carry_out(step, net, own, x) for net, own in zip(networks, results, strict=True)]
            if step.kind == "call_module" and step.target in self.stages:
                mixed = stop(step.target, outputs)
                outputs = [mixed[number] for number in range(len(networks))]
            for own, output in zip(results, outputs, strict=True):
                own[step.name] = output
                for name in step.spent:
                    del own[name]
        return [own["output"] for own in results]


def record(network: nn.Module, stages: Collection[str]) -> dict[bool, Steps]:
    """The steps of a network in training and in evaluation.

    Args:
        network: The network; it stays unchanged.
        stages: Paths of modules, each called once in a forward.

    Returns:
        Whether in training -> the steps.

    Raises:
        ValueError: There is no such stage (the error names the nearest), it is inside of another,
            or not called exactly once; or the forward around the stages cannot be traced, or writes
            to a buffer, which only modules that are called whole can do.
    """
    check_stages(network, stages)
    return {training: _recorded(in_mode(network, training), frozenset(stages)) for training in (True, False)}


def check_not_a_name(stages: object) -> None:
    """Refuse one name, whose letters would pass for stages.

    Raises:
        ValueError: It is one; the error shows the list to give.
    """
    if isinstance(stages, str):
        raise ValueError(f"stages is the name {stages!r}; give a list of names: [{stages!r}]")


def check_stages(network: nn.Module, stages: Collection[str]) -> None:
    """Refuse names of stages that a network does not have, or one inside of another.

    Raises:
        ValueError: There is such a name; the nearest are named.
    """
    known = [path for path, _ in network.named_modules() if path]
    for stage in stages:
        if stage not in known:
            raise unknown_name("stage", stage, known, type(network).__name__)
        for other in stages:
            if stage.startswith(f"{other}."):
                raise ValueError(f"stage {stage!r} is inside of stage {other!r}; name one of them")


class _Tracer(fx.Tracer):
    def __init__(self, stages: Collection[str]) -> None:
        super().__init__()
        self._stages = stages

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(stage.startswith(f"{module_qualified_name}.") for stage in self._stages)


def _recorded(network: nn.Module, stages: frozenset[str]) -> Steps:
    tracer = _Tracer(stages)
    entered = [(path, one) for path, one in network.named_modules() if not path or not tracer.is_leaf_module(one, path)]
    buffers = [_Buffer(path, name) for path, module in entered for name in module._buffers]
    before = [buffer.state(network) for buffer in buffers]
    try:
        nodes = [*tracer.trace(network).nodes]
    except Exception as error:  # a forward may raise anything when it runs on traced values
        raise ValueError(
            f"the forward of {type(network).__name__} cannot be stopped after its stages ({reason_of(error)}); write "
            "it so that torch.fx can trace it down to them"
        ) from error
    for buffer, state in zip(buffers, before, strict=True):
        buffer.refuse_write(network, state)
    for stage in stages:
        calls = sum(node.op == "call_module" and node.target == stage for node in nodes)
        if calls != 1:
            raise ValueError(
                f"stage {stage!r} of {type(network).__name__} is called {calls} times; name a module that is called "
                "once in a forward"
            )
    return Steps(tuple(_step(node, spent, network) for node, spent in zip(nodes, _spent(nodes), strict=True)), stages)


@dataclass(frozen=True)
class _Buffer:
    """A buffer of a module whose forward is traced, where a write would happen once, if at all.

    Attributes:
        path: The module.
        name: Its name in the module.
    """

    path: str
    name: str

    def state(self, network: nn.Module) -> tuple[Any, int, Any]:
        """The buffer, the number of writes to it, and a copy."""
        buffer = network.get_submodule(self.path)._buffers[self.name]
        return (None, 0, None) if buffer is None else (buffer, buffer._version, buffer.clone())

    def refuse_write(self, network: nn.Module, state: tuple[Any, int, Any]) -> None:
        """Raise a ValueError if the buffer is another, or was written to; its old values return."""
        buffer, version, copied = state
        module = network.get_submodule(self.path)
        if module._buffers[self.name] is buffer and (buffer is None or buffer._version == version):
            return
        if buffer is not None:
            buffer.copy_(copied)
        raise ValueError(
            f"the forward of {type(network).__name__} cannot be stopped after its stages: {type(module).__name__} "
            f"writes to its buffer {join(self.path, self.name)!r}; write to it in a module that is called whole, such "
            "as a stage"
        )


def _step(node: fx.Node, spent: tuple[str, ...], network: nn.Module) -> Step:
    if node.op == "get_attr" and str(node.target).startswith("_tensor_constant"):  # made by the forward
        return Step(node.name, "constant", node.target, (getattr(network, str(node.target)),), {}, spent)
    args, kwargs = (fx.node.map_aggregate(given, _reference) for given in (node.args, node.kwargs))
    is_input = node.op == "placeholder" and node.prev.op == "root"
    return Step(node.name, "input" if is_input else node.op, node.target, args, kwargs, spent)


def _reference(argument: Any) -> Any:
    return Value(argument.name) if isinstance(argument, fx.Node) else argument


def _spent(nodes: Sequence[fx.Node]) -> list[tuple[str, ...]]:
    last = {used.name: number for number, node in enumerate(nodes) for used in (node, *node.all_input_nodes)}
    return [
        tuple(name for name, at in last.items() if at == number and name != "output") for number in range(len(nodes))
    ]


def _carry_out(step: Step, network: nn.Module, results: dict[str, Any], x: Any) -> Any:
    args = fx.node.map_aggregate(step.args, lambda it: results[it.name] if isinstance(it, Value) else it)
    kwargs = fx.node.map_aggregate(step.kwargs, lambda it: results[it.name] if isinstance(it, Value) else it)
    match step.kind:
        case "input":
            return x
        case "placeholder" | "output" | "constant":  # an argument of the forward at its default; the end
            return args[0]
        case "get_attr":
            return attrgetter(step.target)(network)
        case "call_module":
            return network.get_submodule(step.target)(*args, **kwargs)
        case "call_method":
            return getattr(args[0], step.target)(*args[1:], **kwargs)
        case _:
            return step.target(*args, **kwargs)
