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
        kind: What torch.fx calls ``op``: ``call_module``, ``call_function``, ...
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
            or not called exactly once; or the forward around the stages cannot be traced.
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
    try:
        nodes = [*_Tracer(stages).trace(network).nodes]
    except Exception as error:  # a forward may raise anything when it runs on traced values
        raise ValueError(
            f"the forward of {type(network).__name__} cannot be stopped after its stages ({reason_of(error)}); write "
            "it so that torch.fx can trace it down to them"
        ) from error
    for stage in stages:
        calls = sum(node.op == "call_module" and node.target == stage for node in nodes)
        if calls != 1:
            raise ValueError(
                f"stage {stage!r} of {type(network).__name__} is called {calls} times; name a module that is called "
                "once in a forward"
            )
    return Steps(tuple(map(_step, nodes, _spent(nodes))), stages)


def _step(node: fx.Node, spent: tuple[str, ...]) -> Step:
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
        case "placeholder" | "output":  # another argument of the forward, at its default; the end
            return args[0]
        case "get_attr":
            return attrgetter(step.target)(network)
        case "call_module":
            return network.get_submodule(step.target)(*args, **kwargs)
        case "call_method":
            return getattr(args[0], step.target)(*args[1:], **kwargs)
        case _:
            return step.target(*args, **kwargs)
