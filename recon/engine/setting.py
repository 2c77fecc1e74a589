"""The choices and the state of an engine, which its steps share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from recon.engine.checks import At, check_at, check_one_process
from recon.engine.groups import Granularity, LayerGroups, checked_groups
from recon.engine.held import Held
from recon.engine.memory import Memory, check_alone, check_memory
from recon.engine.nonfinite import StepWatches
from recon.engine.own_parameters import OwnParameters
from recon.engine.protocols import LearnsFromGradients
from recon.engine.scaling import LossScaling
from recon.engine.shared_part import SharedPart
from recon.errors import number_of
from recon.gradients.layers import network_name, number_of_layers, shared_layers
from recon.gradients.parts import Shared, as_one_module
from recon.gradients.processes import Processes
from recon.methods import JacobianMethod, Method, create_method
from recon.tasks.names import check_task_names

UpdateScale = Literal["method", "sum", "mean"]


@dataclass
class Setting:
    """The choices and the state of an engine.

    Attributes:
        tasks: Names of the K tasks.
        method: The multi-task optimizer.
        shared: The shared part of the network.
        update_scale: The scale asked for; see :class:`recon.Engine`.
        at: Where the method takes the task gradients.
        watches: The values that have to be finite.
        scaling: The scale of the losses in float16.
        step_count: Number of the next step, from 0.
        present: Indices of the tasks of the latest step.
        held: The micro-batches since the last step.
        agreed_with: Number of processes whose settings were found to be alike.
        heads: The modules outside the shared part, as far as the engine was told.
        granularity: The groups of layers, as asked for.
        memory: Whether the Jacobian of the shared part is held.
        groups: The groups that the method weighs each by itself; ``None`` for all layers together.
        learners: The modules among the heads that learn from the gradients of a step.
        lesson: What they learn at the end of the step.
    """

    tasks: tuple[str, ...]
    method: Method
    shared: SharedPart
    update_scale: UpdateScale
    at: At
    watches: StepWatches
    scaling: LossScaling
    step_count: int = 0
    present: tuple[int, ...] = ()
    held: Held = field(default_factory=Held)
    agreed_with: int = 1
    heads: tuple[nn.Module, ...] = ()
    granularity: Granularity = "network"
    memory: Memory = "jacobian"
    groups: LayerGroups | None = None
    learners: tuple[LearnsFromGradients, ...] = ()
    lesson: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        # The same in all processes, whatever dtype their losses have, if they have any.
        self.loss_dtype = torch.promote_types(self.shared.parameters[0].dtype.to_real(), torch.float32)
        self.own = OwnParameters(self.shared.parameters)
        self.own.declare(self.shared.module.parameters(), complete=False)  # branches
        for module in self.heads:
            self.own.declare(module.parameters())
        inside = [each for module in self.heads for each in module.modules()]
        self.learners = tuple(each for each in inside if isinstance(each, LearnsFromGradients))

    @property
    def processes(self) -> Processes:
        """The processes that take part in a step."""
        return self.shared.processes

    @property
    def at_representation(self) -> bool:
        """Whether the method weights gradients at the representation while it trains."""
        return self.at == "representation" and len(self.tasks) > 1 and self.shared.trains()

    @property
    def synchronised(self) -> bool:
        """Whether norms of the network take statistics over the samples of all processes."""
        return any(isinstance(module, nn.SyncBatchNorm) for module in self.shared.module.modules())

    def buffers(self) -> list[Tensor]:
        """Running statistics and other buffers of the network, as far as it is known."""
        modules = [self.shared.module, *self.heads]
        return [*dict.fromkeys(buffer for module in modules for buffer in module.buffers())]

    def in_all_tasks(self, values: Tensor) -> Tensor:
        """Values (K',) of the latest step's tasks among those of all K, which are zero."""
        if len(self.present) == len(self.tasks):
            return values
        whole = values.new_zeros(len(self.tasks))
        whole[list(self.present)] = values
        return whole

    def check_processes(self) -> None:
        """Refuse several processes to a method, or a use of memory, that works in one."""
        check_one_process(self.method, len(self.tasks), self.processes.number)
        check_alone(self.memory, self.processes.several)

    def scale_for(self, tasks: int) -> float:
        """The factor that brings the method's update for some tasks to the scale asked for."""
        if self.update_scale == "method" or self.method.scale == self.update_scale:
            return 1.0
        return float(tasks) if self.update_scale == "sum" else 1.0 / tasks

    def __str__(self) -> str:
        layers = shared_layers(self.shared.module)
        parameters = sum(p.numel() for layer in layers.values() for p in layer)
        parts = [
            f"{network_name(self.shared.module)}: {number_of_layers(layers)}, {parameters:,} parameters",
            f"tasks: {', '.join(self.tasks)}",
            f"method: {self.method}",
            *([f"analyzer: {self.shared.analyzer}"] if self.shared.analyzer is not None else []),
            *([f"update_scale: {self.update_scale}"] if self.update_scale != "method" else []),
            *([f"at: {self.at}"] if self.at != "parameters" else []),
            *([f"memory: {self.memory}"] if self.memory != "jacobian" else []),
            *([f"granularity: {_shown(self.granularity)}"] if self.groups is not None else []),
        ]
        return "; ".join(parts)


def checked_setting(
    shared: Shared,
    tasks: Sequence[str],
    method: Method | str,
    update_scale: UpdateScale,
    at: At,
    scaler: Any = None,
    process_group: Any = None,
    heads: Shared | None = None,
    granularity: Granularity = "network",
    memory: Memory = "jacobian",
) -> Setting:
    """The setting of an engine from the arguments of :class:`recon.Engine`.

    Raises:
        ValueError: Tasks are repeated or missing, nothing is shared, the method or the scale is
            unknown, method or network have no use for gradients at the representation, or the
            granularity or the memory is refused.
        TypeError: The shared part is no module, or the method is none.
    """
    method = create_method(method) if isinstance(method, str) else method
    if not isinstance(method, Method):
        raise TypeError(f"method must be a recon method, got {method!r}; make one with recon.create_method(name)")
    if update_scale not in get_args(UpdateScale):
        raise ValueError(f"update_scale must be 'method', 'sum' or 'mean', got {update_scale!r}")
    names = check_task_names(tasks)
    if not names:
        raise ValueError("there are no tasks; name at least one")
    module = as_one_module(shared)
    check_at(at, module, method, len(names))
    check_memory(memory, method, at, granularity == "network", len(names))
    groups = checked_groups(granularity, module, method, len(names), at)
    watches = StepWatches(names, type(method).__name__)
    whole_rows = isinstance(method, JacobianMethod) and not method.elementwise
    part = SharedPart(module, len(names), whole_rows, process_group)
    return Setting(
        names,
        method,
        part,
        update_scale,
        at,
        watches,
        LossScaling(scaler),
        heads=() if heads is None else (as_one_module(heads),),
        granularity=granularity,
        memory=memory,
        groups=groups,
    )


def _shown(granularity: Granularity) -> str:
    if isinstance(granularity, str):
        return granularity
    return f"{number_of(len(granularity), 'group')} ({', '.join(granularity)})"
