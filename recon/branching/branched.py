"""Networks with one copy of some layers per task or group of tasks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, cast, get_args

import torch
from torch import nn

from recon.branching.call import Call, plain_call, variables
from recon.branching.copying import copy_network, without_wrappers
from recon.branching.graph.program import Program, Refusal, warn_untraceable, write_program
from recon.branching.graph.programs import Programs
from recon.branching.graph.trace import in_mode
from recon.branching.groups import Groups, groups_of, keep_groups, layer_partitions
from recon.branching.init import Init, initialise
from recon.branching.layers import check_has_forward, cut, layer_paths
from recon.branching.notebook import InNotebooks
from recon.branching.running_statistics import Statistics, statistics_by_group
from recon.branching.sharing import sharing
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
    groups: Mapping[str, Groups] | None = None,
) -> "BranchedModule":
    """Give layers of a network one copy per task, or per group of tasks.

    Args:
        backbone: Any module with a forward; it is copied, not altered. The copy leaves out wrappers
            around the backbone or in it, such as those of ``torch.compile``: compile the returned
            module instead.
        layers: The layers to branch, by their paths in ``backbone.named_modules()`` without
            wrappers. The root is named by :func:`recon.gradients.root_name`, which is the name of
            its class.
        tasks: Two tasks or more.
        init: Start of the copies. ``"copy"`` takes the backbone's weights and statistics.
            ``"reset"`` calls each layer's own ``reset_parameters``; a layer without one is copied,
            with a warning. A function without arguments makes a fresh backbone and is called once
            per task.
        statistics: Place of the running statistics of norms that stay shared but run once per task.
            ``"shared"`` keeps one set, as published: it mixes the tasks, and evaluation normalises
            every task by the mix. ``"per_task"`` keeps one set of buffers per task, which start
            from the backbone's, beside shared parameters. It costs no operations. Tasks that share
            all copies before a norm share its set. In a backbone that cannot be traced, all norms
            then have a set per task.
        groups: Branched layer -> the groups of tasks that share one copy, ``[["a", "c"], ["b"]]``.
            A layer without groups has one copy per task. A layer with all tasks in one group is not
            branched. :meth:`recon.ConflictMap.groups` finds groups.

    Returns:
        A module whose forward takes the backbone's arguments and returns ``{task: the backbone's
        output}``.

    Raises:
        ValueError: A layer is unknown, repeated or without parameters, a task name cannot be used,
            ``init`` or ``statistics`` is unknown, or the backbone is a container of modules, which
            has no forward. Or groups name a layer that is not branched, miss, repeat or do not know
            a task, or are empty.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import recon
        >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> network = recon.branch(backbone, layers=["2"], tasks=["seg", "depth"])
        >>> features = network(torch.zeros(3, 4))
        >>> {task: tuple(output.shape) for task, output in features.items()}
        {'seg': (3, 2), 'depth': (3, 2)}
        >>> groups = {"0": [["a", "c"], ["b"]]}
        >>> grouped = recon.branch(backbone, ["0", "2"], ["a", "b", "c"], groups=groups)
        >>> [name for name, _ in grouped.branches.named_parameters() if name.endswith("weight")]
        ['a.0.weight', 'a.2.weight', 'b.0.weight', 'b.2.weight', 'c.2.weight']
    """
    return BranchedModule(backbone, layers, tasks, init, statistics, groups)


class BranchedModule(nn.Module, PartlyShared, InNotebooks):
    """A network with one copy of some layers per task or group; made by :func:`branch`.

    Operations that depend on no branched layer run once. From the first branched layer on there is
    one activation per task. Layers that are still shared run on each of them in task order, and
    update their running statistics once per task, or a separate set for each task. Tasks that have
    shared every copy so far share the activation, and count as one task.

    A backbone that torch.fx cannot trace runs once per task, with a warning. In it, a module that
    no branch touches still runs once if all tasks call it with the very same tensors (see
    ``untraced``). Only tasks that share all copies share a run.

    The module's ``training`` flag and the Python state that the forward reads select the trace (see
    ``reads``). The next call notices a change and traces again if it must; a number that keeps
    changing becomes an input. Activation checkpoints in a traced backbone are traced through: the
    results are the same, but no memory is saved. Backward hooks of blocks that the trace enters do
    not run.

    State is named ``shared.<path in the backbone>`` and ``branches.<task>.<path in the backbone>``.
    A norm with running statistics per task has them under the second name, and its parameters, the
    same tensors, under both. A copy that tasks share is named by the first of them. The buffer
    ``partitions`` then tells the groups, and a state with other groups is refused.

    Attributes:
        layers: The branched layers.
        groups: Branched layer -> the groups of tasks that share a copy.
        tasks: The tasks.
        statistics: ``"per_task"`` if norms that stay shared keep running statistics per task.
        shared: The backbone without the branched layers. It cannot run alone.
        branches: Task -> its copies of the branched layers. A copy that tasks share stands with the
            first of them.

    Example:
        >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> branch(backbone, layers=["2"], tasks=["seg", "depth"])
        BranchedModule(Sequential, tasks: seg, depth
          branched: 2
          branches: 1 layer, 18 parameters for each task
          shared:   1 layer, 40 parameters
          trunk:    2 operations, run once; the other 1, from '2' on, run once per task
        )
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
        groups: Mapping[str, Groups] | None = None,
    ) -> None:
        super().__init__()
        if statistics not in get_args(Statistics):
            raise ValueError(f"statistics is {statistics!r}; it must be 'shared' or 'per_task'")
        backbone = without_wrappers(backbone)
        self.tasks = check_task_names(tasks)
        if len(self.tasks) < 2:
            raise ValueError(f"tasks is {tasks!r}; branch needs at least two tasks")
        check_has_forward(backbone)
        paths = layer_paths(backbone, layers)
        parted = layer_partitions(layers, self.tasks, groups)
        self.layers = tuple(parted)
        self.groups = {layer: groups_of(partition, self.tasks) for layer, partition in parted.items()}
        self.statistics = statistics
        branched = {path: parted[layer] for path, layer in zip(paths, layers, strict=True) if layer in parted}
        calls = [plain_call(backbone, training) for training in (True, False)]
        by_group = statistics_by_group(backbone, branched, self.tasks, calls) if statistics == "per_task" else {}
        self._cut = cut(backbone, [*branched], [*by_group])
        self._sharing = sharing(backbone, self._cut, branched, by_group, self.tasks)
        self.shared, networks, self.branches = part(backbone, self._cut, self._sharing)
        self._networks = TaskNetworks(self.shared, networks, dict(self.branches.items()), self._cut, self._sharing)
        own = self._cut.tensors - self._cut.statistics
        initialise(dict(self.branches.items()), init, backbone, [*branched], own)
        self.training = backbone.training
        self._programs = Programs()
        self._reason = ""
        for call in calls:
            _write_program(self, call)
        keep_groups(self, parted)
        self.register_load_state_dict_post_hook(_tie_again)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the backbone for all tasks.

        Args:
            *args: The backbone's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Task -> the backbone's output, of any structure. A tensor that depends on no branched
            layer is the same for every task.
        """
        call = Call.of(self.training, args, kwargs)
        program = self._programs.find(call) or self._trace(call)
        if isinstance(program, Refusal):
            return self._networks.run(args, kwargs)
        return program.forward(self, *program.constants, *variables(args, kwargs))

    def run(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """Run the path of one task alone, for tasks that have data of their own.

        The task's branch sees only this input. Running statistics that tasks share are updated by
        it.

        Args:
            task: The task.
            *args: The backbone's positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The backbone's output: the task's entry of the whole forward.

        Raises:
            ValueError: There is no such task.

        Example:
            >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
            >>> network = branch(backbone, ["2"], ["photos", "sketches"])
            >>> network.run("sketches", torch.zeros(3, 4)).shape
            torch.Size([3, 2])
        """
        return self._network(task)(*args, **kwargs)

    def extract(self, task: str) -> nn.Module:
        """Return an unbranched copy of the backbone with the weights and statistics of one task.

        The copy has the backbone's own class.
        """
        return copy_network(self._network(task))

    def shared_layers(self) -> dict[str, list[nn.Parameter]]:
        """Layer -> its trainable parameters that all tasks share, named as in the backbone."""
        return shared_layers(self.shared)

    def branch_parameters(self, task: str) -> list[nn.Parameter]:
        """The parameters of one task's copies, without parameters that all tasks share."""
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        shared = set(self.shared.parameters())
        return [parameter for parameter in self._network(task).parameters() if parameter not in shared]

    def train(self, mode: bool = True) -> "BranchedModule":
        """Set training or evaluation as the backbone's own ``train`` does.

        Many backbones keep their norm layers in evaluation.
        """
        for module in self.modules():
            module.training = mode
        self._networks.train(mode)
        return self

    def __repr__(self) -> str:
        text = summary(
            self.tasks,
            self.groups,
            [self.branch_parameters(task) for task in self.tasks],
            self.shared_layers(),
            {name.rpartition(".")[0] for name in self._cut.statistics},
            self._programs.latest(plain_call(self.shared, self.training)),
        )
        return f"{type(self).__name__}({type(self.shared).__name__}, {text}\n)"

    def _network(self, task: str) -> nn.Module:
        """The network of one task, on the tensors of this one."""
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        return self._networks.follow()[task]

    def _trace(self, call: Call) -> Program | Refusal:
        """Write the program for one way of calling the backbone, outside of compiled code."""
        # A decorator would make ``import recon`` load the compiler.
        return cast("Program | Refusal", torch.compiler.disable(_write_program)(self, call))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        tie(self.shared, dict(self.branches.items()), self._sharing)
        # The forward made its tensors on the parameters' earlier device; the next call traces
        # again.
        self._programs.drop_constants()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Generated functions do not pickle; they are made again from their calls.
        return {**self.__dict__, "_programs": self._programs.calls, "_modes": self._networks.modes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modes = state.pop("_modes")
        super().__setstate__({**state, "_programs": Programs()})
        self._networks.mend_copy(modes)
        for call in state["_programs"]:
            _write_program(self, call)


def _write_program(network: BranchedModule, call: Call) -> Program | Refusal:
    traced = network._network(network.tasks[0])
    if call.training != network.training:
        traced = in_mode(traced, call.training)
    homes = partial(_homes, network)
    written = network._programs.add(
        call, lambda opened: write_program(traced, call, network._cut, network._sharing, homes, opened)
    )
    if isinstance(written, Refusal) and not network._reason:
        network._reason = written.reason
        warn_untraceable(type(network.shared).__name__, written.reason, len(network.tasks))
    return written


def _homes(network: BranchedModule, path: str) -> list[nn.Module]:
    """The modules that stand for a module of the backbone: a shared one, or one per copy."""
    for leaf in network._cut.leaves:
        if path == leaf or path.startswith(f"{leaf}."):
            keepers = dict.fromkeys(network._sharing.keeper(task, leaf) for task in network.tasks)
            return [network.branches[task].get_submodule(path) for task in keepers]
    return [network.shared.get_submodule(path)]


def _tie_again(network: BranchedModule, _: Any) -> None:
    # Loading with assign=True replaces tensors.
    tie(network.shared, dict(network.branches.items()), network._sharing)
