"""Cross-stitch networks: one network per task, mixed linearly after some of their stages.

Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016. After a stage, the output
of task i is ``sum_j a_ij x_j`` of the outputs ``x_j`` of all tasks, with learned ``a``.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recon.gradients.wrappers import NotShared
from recon.models.architectures.columns import Columns, ColumnsPlan
from recon.models.architectures.parts import Source, apart


class CrossStitch(ColumnsPlan):
    """One copy of a backbone per task, with cross-stitch units after named stages.

    All networks are shared, since every task's loss reaches them through the units: a conflict map
    scores their layers, ``networks.seg.layer1.0.conv1``, and Recon may branch them. The units are
    not: no map scores them, and their gradient is the sum of the tasks'.

    A unit starts with ``same`` at the task's own output and shares the rest among the others: 0.9
    and 0.1 for two tasks, as published. The paper trains units with a learning rate of 100 to 1000
    times the networks', which ``unit_lr_scale`` gives them in :class:`recon.MultiTaskModule`; in a
    loop of your own put them into a parameter group.

    >>> import torch
    >>> from recon.models import LeNet
    >>> network = CrossStitch(LeNet, {"conv1": 10, "conv2": 20}).for_tasks(["digit", "letter"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(2, 1, 36, 36)).items()}
    {'digit': (2, 50), 'letter': (2, 50)}

    Args:
        backbone: A function that makes a backbone; in YAML its ``class_path`` and ``init_args``. A
            module, such as a pretrained backbone, is copied with its weights, as published.
        stages: Modules of the backbone, by their paths, whose outputs are mixed. A list gives each
            stage one unit. A mapping to numbers of channels gives each channel its own, as
            published.
        same: Start of a unit at the task's own output, from 0 to 1.
        unit_lr_scale: Factor on the learning rate of the units, positive. Schedules multiply the
            rate; ``OneCycleLR``, which sets it, has the rates of both from you, as a list.

    Raises:
        ValueError: A stage is unknown (the error names the nearest), inside of another, or not
            called exactly once; a number of channels is not a positive whole one, or ``same`` or
            the scale out of range.
    """

    def __init__(
        self,
        backbone: Source,
        stages: list[str] | dict[str, int],
        same: float = 0.9,
        unit_lr_scale: float = 1.0,
    ) -> None:
        super().__init__(backbone, stages)
        if not 0 <= same <= 1:
            raise ValueError(f"same is {same}; it must be from 0 to 1")
        if not 0 < unit_lr_scale < math.inf:
            raise ValueError(f"unit_lr_scale is {unit_lr_scale}; it must be a positive number")
        self.same = same
        self.unit_lr_scale = float(unit_lr_scale)
        self.channels = dict(stages) if isinstance(stages, Mapping) else dict.fromkeys(stages)
        for stage, channels in self.channels.items():
            if channels is not None and (type(channels) is not int or channels < 1):
                raise ValueError(
                    f"stage {stage!r} has {channels!r} channels; give a whole number, at least 1, or stages as a list"
                )

    def _columns(self, networks: Mapping[str, nn.Module]) -> Columns:
        units = {stage: CrossStitchUnit(len(networks), self.same, own, stage) for stage, own in self.channels.items()}
        for unit in units.values():
            unit.own_lr_scale = self.unit_lr_scale
        return CrossStitchNetwork(networks, units)


class CrossStitchNetwork(Columns):
    """The network of :class:`CrossStitch` for some tasks."""


class CrossStitchUnit(nn.Module, NotShared):
    """A learned linear mix of the outputs of all tasks' networks.

    Args:
        tasks: K.
        same: Start of the diagonal; the other entries of a row share the rest.
        channels: Channels of the outputs, each with a mix of its own; ``None`` for one mix.
        stage: Name of the stage, for errors.

    Attributes:
        weight: ``a``, of shape (K, K), or (K, K, channels).
        own_lr_scale: Factor on the learning rate of ``a``.
    """

    own_lr_scale: float = 1.0

    def __init__(self, tasks: int, same: float, channels: int | None, stage: str) -> None:
        super().__init__()
        start = torch.full((tasks, tasks), (1 - same) / max(1, tasks - 1)).fill_diagonal_(same if tasks > 1 else 1.0)
        self.weight = nn.Parameter(start if channels is None else start.unsqueeze(-1).repeat(1, 1, channels))
        self.channels = channels
        self.stage = stage

    def forward(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Mix K tensors ``(B, channels, ...)`` of one shape.

        Raises:
            ValueError: They have another number of channels.
        """
        stacked = torch.stack([*outputs])
        if self.channels is None:
            return apart(torch.einsum("ij,j...->i...", self.weight, stacked))
        if stacked.shape[2] != self.channels:
            raise ValueError(
                f"stage {self.stage!r} has {stacked.shape[2]} channels, not {self.channels}; correct stages"
            )
        return apart(torch.einsum("ijc,jbc...->ibc...", self.weight, stacked))
