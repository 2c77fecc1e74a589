"""One network per task, run side by side, with a unit that mixes them after each named stage."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from recon.models.architectures.parts import HeadsAsOf, PlanOfTasks, Source, copies
from recon.models.architectures.stages import check_not_a_name, record
from recon.tasks.names import check_task_names


class Columns(nn.Module, HeadsAsOf):
    """Networks of one structure, one per task, and units between their stages.

    Layers are named ``networks.<task>.<layer>``. Units are ``units.<number of the stage>``.

    Args:
        networks: Task -> its network.
        units: Stage -> the module that mixes the outputs there: a list with one per task in, as
            many out.

    Attributes:
        tasks: The tasks.
        stages: The stages.
    """

    def __init__(self, networks: Mapping[str, nn.Module], units: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = tuple(networks)
        self.stages = tuple(units)
        self.networks = nn.ModuleDict(networks)
        self.units = nn.ModuleList(units.values())
        self._steps = record(self._pattern(), self.stages)

    def forward(self, x: Any) -> dict[str, Any]:
        """Map inputs to ``{task: features}``."""
        networks = [self.networks[task] for task in self.tasks]
        return dict(zip(self.tasks, self._steps[self.training].run(networks, x, self._mixed), strict=True))

    def _mixed(self, stage: str, outputs: Sequence[Any]) -> Any:
        return self.units[self.stages.index(stage)](outputs)

    def _pattern(self) -> nn.Module:
        return self.networks[self.tasks[0]]


class ColumnsPlan(PlanOfTasks, HeadsAsOf):
    """Base of architectures with one copy of a backbone per task.

    It holds one backbone, by which heads are made and stages are checked. A network of K tasks
    comes from :meth:`for_tasks`; training calls it.

    Args:
        backbone: A function that makes a backbone; or a backbone, whose copies keep its weights.
        stages: Stages to mix after.

    Raises:
        ValueError: No stage is given, one is unknown (the error names the nearest), inside of
            another, or not called exactly once.
    """

    def __init__(self, backbone: Source, stages: Collection[str]) -> None:
        super().__init__()
        check_not_a_name(stages)
        if not stages:
            raise ValueError("stages is empty; name one or more, by their paths in the backbone")
        self._source = (backbone,)  # a module in a tuple is not a part of this one
        self.stages = tuple(stages)
        [self.backbone] = copies(backbone, 1, "backbones")
        record(self.backbone, self.stages)

    def for_tasks(self, tasks: Sequence[str]) -> Columns:
        """A new network of these tasks, whose forward returns ``{task: features}``.

        Args:
            tasks: Names of the tasks; one task has the backbone alone.
        """
        names = check_task_names(tasks)
        networks = dict(zip(names, copies(self._source[0], len(names), "tasks"), strict=True))
        return self._columns(networks)

    def _columns(self, networks: Mapping[str, nn.Module]) -> Columns:
        raise NotImplementedError

    def _pattern(self) -> nn.Module:
        return self.backbone
