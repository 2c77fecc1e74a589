"""Layers of any network, one copy per task."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self, cast, get_args

import torch
from torch import nn

from recon.branching.call import Call, plain_call, variables
from recon.branching.copying import copy_network, without_wrappers
from recon.branching.graph.program import Program, Refusal, write_program
from recon.branching.graph.programs import Programs
from recon.branching.graph.trace import in_mode
from recon.branching.init import Init, initialise
from recon.branching.layers import cut, layer_paths
from recon.branching.running_statistics import Statistics, per_task_statistics
from recon.branching.state import part, tie
from recon.branching.summary import summary
from recon.branching.untraced.networks import TaskNetworks
from recon.errors import unknown_name
from recon.gradients.layers import shared_layers
from recon.gradients.wrappers import PartlyShared
from recon.tasks.names import check_task_names


def branch(
    backbone: nn.Module,
    layers: Sequence[str],
    tasks: Sequence[str],
    init: Init = "copy",
    statistics: Statistics = "shared",
) -> "BranchedModule":
    """Give layers of a network one copy per task.

    Args:
        backbone: Any module with a forward; it is copied, not altered. Wrappers around it or in it, such as those of
            ``torch.compile``, are left out of the copy: compile what this function returns.
        layers: The layers to branch, by their paths in ``backbone.named_modules()`` without wrappers; the root by its
            :func:`recon.gradients.root_name`, which is that of its class.
        tasks: Two tasks or more.
        init: Where the copies start: ``"copy"``, from the backbone's weights and statistics; ``"reset"``, from each
            layer's own ``reset_parameters`` (a layer without one is copied, with a warning); or a function without
            arguments that makes a fresh backbone, called once per task.
        statistics: Where running statistics are kept of norms that stay shared but run once per task: ``"shared"``, in
            one place, as published: they mix the tasks, and evaluation normalises every task by the mix;
            ``"per_task"``, in one set of buffers per task that start from the backbone's, beside parameters that stay
            shared. It costs no operations. All norms of a backbone that cannot be traced then have a set per task.

    Returns:
        A module whose forward takes the backbone's arguments and returns ``{task: the backbone's output}``.

    Raises:
        ValueError: For unknown or repeated layers, modules without parameters, task names that cannot be used, an
            unknown `init` or `statistics`, or a container of modules, which has no forward.
    """
    return BranchedModule(backbone, layers, tasks, init, statistics)


class BranchedModule(nn.Module, PartlyShared):
    """A network in which some layers have one copy per task; made by :func:`branch`.

    Operations that depend on no branched layer run once. From the first branched one on there is one activation per
    task, and layers that are still shared run on each of them, in task order: their running statistics are updated
    once per task, or there is a set for each.

    A backbone that torch.fx cannot trace runs once per task, with a warning; but a module in it that no branch touches
    and that all tasks call with the very same tensors runs once, its output remembered until the call is over. Its
    hooks run for every task. Run for every task are also modules that set attributes of theirs, what is computed
    between modules, and all inside of activation checkpoints.

    Which trace runs follows this module's own ``training`` flag, and all that the forward reads in Python: flags and
    other attributes of the modules in `shared`, what lists, dictionaries and objects among them hold, modules, hooks,
    and plain values that methods read from globals and closures. What has changed is seen at the next call, which
    traces again if need be; a number that keeps changing becomes an input. Activation checkpoints in a traced backbone
    are traced through: the results are the same, but no memory is saved. Backward hooks of blocks that the trace enters
    do not run.

    State is named ``shared.<path in the backbone>`` and ``branches.<task>.<path in the backbone>``. A norm with running
    statistics per task has them under the second name, and its parameters, the same tensors, under both.

    Attributes:
        layers: The branched layers.
        tasks: The tasks.
        statistics: Whether norms that stay shared keep running statistics per task.
        shared: The backbone without the branched layers. It cannot run alone.
        branches: Task -> the task's copies of the branched layers.
    """

    shared: nn.Module
    branches: nn.ModuleDict

    def __init__(
        self,
        backbone: nn.Module,
        layers: Sequence[str],
        tasks: Sequence[str],
        init: Init = "copy",
        statistics: Statistics = "shared",
    ) -> None:
        super().__init__()
        if statistics not in get_args(Statistics):
            raise ValueError(f"statistics is {statistics!r}; it must be 'shared' or 'per_task'")
        backbone = without_wrappers(backbone)
        self.tasks = check_task_names(tasks)
        if len(self.tasks) < 2:
            raise ValueError(f"tasks is {tasks!r}; branch needs at least two tasks")
        _refuse_containers(backbone)
        paths = layer_paths(backbone, layers)
        self.layers = tuple(layers)
        self.statistics = statistics
        calls = [plain_call(backbone, training) for training in (True, False)]
        own = per_task_statistics(backbone, paths, calls) if statistics == "per_task" else frozenset()
        self._cut = cut(backbone, paths, own)
        self.shared, networks, self.branches = part(backbone, self._cut, self.tasks)
        self._networks = TaskNetworks(self.shared, networks, dict(self.branches.items()), self._cut)
        initialise(dict(self.branches.items()), init, backbone, paths, self._cut.tensors - self._cut.statistics)
        self.training = backbone.training
        self._programs = Programs()
        self._reason = ""
        for call in calls:
            self._write_program(call)
        self.register_load_state_dict_post_hook(_tie_again)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the backbone for all tasks.

        Args:
            *args: The backbone's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Task -> what the backbone returns, whatever its structure. What does not depend on a branched layer is the
            same tensor for every task.
        """
        call = Call.of(self.training, args, kwargs)
        program = self._programs.find(call) or self._trace(call)
        if isinstance(program, Refusal):
            return self._networks.run(args, kwargs)
        return program.forward(self, *program.constants, *variables(args, kwargs))

    def run(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """Run one task's path alone, for tasks that have data of their own.

        The task's branch sees this input and no other. Running statistics that tasks share are updated by it.

        Args:
            task: The task.
            *args: The backbone's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What the backbone returns: the task's entry of the whole forward.

        Raises:
            ValueError: If there is no such task.

        Example:
            >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
            >>> network = branch(backbone, ["2"], ["photos", "sketches"])
            >>> network.run("sketches", torch.zeros(3, 4)).shape
            torch.Size([3, 2])
        """
        return self._network(task)(*args, **kwargs)

    def extract(self, task: str) -> nn.Module:
        """An unbranched copy of the backbone, of its own class, with the weights and statistics of one task."""
        return copy_network(self._network(task))

    def shared_layers(self) -> dict[str, list[nn.Parameter]]:
        """Layer -> the trainable parameters of it that all tasks share, named as in the backbone."""
        return shared_layers(self.shared)

    def branch_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters of one task's copies, without those that stay tied to shared ones."""
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        shared = set(self.shared.parameters())
        return [parameter for parameter in self.branches[task].parameters() if parameter not in shared]

    def train(self, mode: bool = True) -> "BranchedModule":
        """Set training or evaluation as the backbone itself does it: many keep their norm layers in evaluation."""
        for module in self.modules():
            module.training = mode
        self._networks.train(mode)
        return self

    def __repr__(self) -> str:
        text = summary(
            self.tasks,
            self.layers,
            self.branch_parameters(self.tasks[0]),
            self.shared_layers(),
            {name.rpartition(".")[0] for name in self._cut.statistics},
            self._programs.latest(plain_call(self.shared, self.training)),
        )
        return f"{type(self).__name__}({type(self.shared).__name__}, {text}\n)"

    def _network(self, task: str) -> nn.Module:
        """One task's network, on the tensors of this one."""
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        return self._networks.follow()[task]

    def _trace(self, call: Call) -> Program | Refusal:
        """Write the program for one way of calling the backbone, outside of compiled code."""
        # Not as a decorator, which would make `import recon` load the compiler.
        return cast("Program | Refusal", torch.compiler.disable(self._write_program)(call))

    def _write_program(self, call: Call) -> Program | Refusal:
        network = self._network(self.tasks[0])
        if call.training != self.training:
            network = in_mode(network, call.training)
        written = self._programs.add(
            call, lambda opened: write_program(network, call, self._cut, self.tasks, self._homes, opened)
        )
        if isinstance(written, Refusal) and not self._reason:
            self._reason = written.reason
            _warn_untraceable(type(self.shared).__name__, written.reason, len(self.tasks))
        return written

    def _homes(self, path: str) -> list[nn.Module]:
        """The modules that stand for one of the backbone: a shared one, or one for each task."""
        if any(path == leaf or path.startswith(f"{leaf}.") for leaf in self._cut.leaves):
            return [self.branches[task].get_submodule(path) for task in self.tasks]
        return [self.shared.get_submodule(path)]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        tie(self.shared, self.branches.values())
        # Tensors that the forward makes were made for where the parameters were: trace again when needed.
        self._programs.drop_constants()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions do not pickle; they are made again from the calls that they are for.
        return {**self.__dict__, "_programs": self._programs.calls, "_modes": self._networks.modes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modes = state.pop("_modes")
        super().__setstate__({**state, "_programs": Programs()})
        self._networks.mend_copy(modes)
        for call in state["_programs"]:
            self._write_program(call)


def _refuse_containers(backbone: nn.Module) -> None:
    if type(backbone).forward is nn.Module.forward and "forward" not in vars(backbone):
        raise ValueError(
            f"{type(backbone).__name__} has no forward, so there is nothing to branch: put its parts into one module "
            "whose forward runs them, and name layers by their paths in it; or branch the part that has the layers"
        )


def _warn_untraceable(kind: str, reason: str, tasks: int) -> None:
    warnings.warn(
        f"{kind} cannot be traced ({reason}). It runs once per task, with that task's "
        f"copies: of what comes before the first branched layer, modules run once, but all between them "
        f"{tasks} times.",
        stacklevel=6,
    )


def _tie_again(network: BranchedModule, _: Any) -> None:
    tie(network.shared, network.branches.values())  # loading with assign=True replaces tensors
