"""BMTAS: every task chooses one of several copies of each stage, by a Gumbel-softmax.

Bruggemann et al., "Automated Search for Resource-Efficient Branched Multi-Task Networks", BMVC
2020. Task t runs a stage as ``sum_c w_c stage_c(x)`` on its own input ``x``. The weights ``w`` are
a soft draw of the Gumbel-softmax of learned numbers. Tasks whose likeliest copies are the same in
every stage so far share the stage in the tree that a search finds.
"""

from collections.abc import Sequence

from torch import nn

from recon.models.architectures.bmtas.copies import check_stages_hold_layers
from recon.models.architectures.bmtas.network import BMTASNetwork
from recon.models.architectures.parts import HeadsAsOf, PlanOfTasks, Source, check_number_of, copies
from recon.models.architectures.stages import check_not_a_name, check_stages
from recon.models.contract import has_for_tasks, has_task_specific_layers
from recon.tasks.names import check_task_names


class BMTAS(PlanOfTasks, HeadsAsOf):
    """A backbone of whose stages tasks choose copies: the network that BMTAS searches with.

    ``recon search --by bmtas`` trains weights and choices as published and writes the tree that it
    finds (:class:`recon.TaskTree`); :func:`recon.branch` builds the tree. Any backbone will do,
    traceable or not. Modules outside of the stages are shared by all tasks.

    Training has E epochs. In the first ones, a share of ``warm_up`` but one at least, task number t
    takes copy t alone. Then the temperature of the Gumbel-softmax falls linearly from the first to
    the last of ``temperatures``. Evaluation takes the likeliest copy. In a loop of your own call
    ``begin_epoch(epoch, epochs)`` of the network.

    The copies of a stage start alike, and the last batch norm in each has no learned scale, as
    published: it would make up for the weights of the mixture.

    >>> import torch
    >>> from recon.models import LeNet
    >>> network = BMTAS(LeNet(), ["conv1", "conv2"]).for_tasks(["digit", "letter"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(2, 1, 36, 36)).items()}
    {'digit': (2, 50), 'letter': (2, 50)}
    >>> network.groups()["conv1"]
    (('digit', 'letter'),)

    Args:
        backbone: A function that makes a backbone; in YAML its ``class_path`` and ``init_args``. A
            module, such as a pretrained backbone, is copied with its weights.
        stages: Modules of the backbone, by their paths, in the order in which they run.
        copies: Number of copies of each stage; by default one for each task.
        temperatures: The first and the last temperature.
        warm_up: Share of the epochs in which the choices are fixed; 0 for none.

    Raises:
        ValueError: A stage is unknown (the error names the nearest), repeated, inside of another or
            without parameters; a number is out of range; or the backbone has layers of each task's
            own.
    """

    def __init__(
        self,
        backbone: Source,
        stages: list[str],
        copies: int | None = None,
        temperatures: tuple[float, float] = (5.0, 0.1),
        warm_up: float = 0.05,
    ) -> None:
        super().__init__()
        check_choices(copies, temperatures, warm_up)
        self.stages, self.copies = _checked(stages), copies
        self.temperatures, self.warm_up = (temperatures[0], temperatures[1]), warm_up
        self.backbone = backbone if isinstance(backbone, nn.Module) else backbone()
        _check_backbone(self.backbone)
        check_stages(self.backbone, self.stages)
        check_stages_hold_layers(self.backbone, self.stages)

    def for_tasks(self, tasks: Sequence[str]) -> BMTASNetwork:
        """A new network of these tasks, whose forward returns ``{task: features}``.

        Args:
            tasks: Names of the tasks.
        """
        names = check_task_names(tasks)
        backbones = copies(self.backbone, len(names) if self.copies is None else self.copies, "copies")
        return BMTASNetwork(backbones, self.stages, names, self.temperatures, self.warm_up)

    def _pattern(self) -> nn.Module:
        return self.backbone


def check_choices(copies: int | None, temperatures: Sequence[float], warm_up: float) -> None:
    """Refuse numbers that leave nothing to choose, or no way to cool down.

    Raises:
        ValueError: A number is out of range.
    """
    if copies is not None:
        check_number_of("copies", copies)
        if copies == 1:
            raise ValueError("copies is 1, which leaves tasks nothing to choose; give 2 or more, or leave it out")
    if len(temperatures) != 2 or not temperatures[0] >= temperatures[1] > 0:
        raise ValueError(f"temperatures is {list(temperatures)}; give the first and the last, which fall and stay > 0")
    if not 0 <= warm_up < 1:
        raise ValueError(f"warm_up is {warm_up}; it must be a share of the epochs, from 0 to below 1")


def _checked(stages: Sequence[str]) -> tuple[str, ...]:
    check_not_a_name(stages)
    if not stages:
        raise ValueError("stages is empty; name one or more, by their paths in the backbone")
    if repeated := [stage for stage in stages if list(stages).count(stage) > 1]:
        raise ValueError(f"stage {repeated[0]!r} is named {len(repeated)} times; name it once")
    return tuple(stages)


def _check_backbone(backbone: nn.Module) -> None:
    if has_for_tasks(backbone) or has_task_specific_layers(backbone):
        raise ValueError(
            f"{type(backbone).__name__} has layers of each task's own already; give BMTAS a backbone that all tasks "
            "share"
        )
