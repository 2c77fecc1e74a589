"""LTB, learning to branch: one column per task, and for each stage a learned choice of its input.

Guo, Lee & Ulbricht, "Learning to Branch for Multi-Task Learning", ICML 2020, in the form of LibMTL:
as many modules on each level as tasks. After a stage, the input of task i's next module is the
output of one task's module, drawn by the Gumbel-softmax of learned numbers.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.gradients.wrappers import NotShared
from recon.models.architectures.columns import Columns, ColumnsPlan
from recon.models.architectures.parts import Source, apart


class LTB(ColumnsPlan):
    """One copy of a backbone per task, whose stages learn which task's output they go on from.

    All columns are shared, as any task may choose them: a conflict map scores their layers,
    ``networks.seg.layer1.0.conv1``, and Recon may branch them. The choices, ``units``, are not.

    Training has ``E`` epochs. In epoch ``e`` below ``E / 100`` a stage takes the sum of all
    outputs, to warm up. Later it draws one, straight through, at temperature ``E / 20`` over the
    root of ``e + 1``, as in LibMTL. Evaluation takes the likeliest one, where LibMTL draws too. In
    a loop of your own the temperature is 1 until you call ``begin_epoch(epoch, epochs)`` of the
    units.

    >>> import torch
    >>> from recon.models import LeNet
    >>> network = LTB(LeNet, ["conv1", "conv2"]).for_tasks(["digit", "letter"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(2, 1, 36, 36)).items()}
    {'digit': (2, 50), 'letter': (2, 50)}
    >>> network.parents()["conv1"]
    {'digit': 'digit', 'letter': 'digit'}

    Args:
        backbone: A function that makes a backbone; in YAML its ``class_path`` and ``init_args``. A
            module is copied with its weights.
        stages: Modules of the backbone, by their paths, after which tasks choose.

    Raises:
        ValueError: A stage is unknown (the error names the nearest), inside of another, or not
            called exactly once.
    """

    def __init__(self, backbone: Source, stages: list[str]) -> None:
        super().__init__(backbone, stages)

    def for_tasks(self, tasks: Sequence[str]) -> "LTBNetwork":
        """A new network of these tasks, whose forward returns ``{task: features}``.

        Args:
            tasks: Names of the tasks.
        """
        network = super().for_tasks(tasks)
        assert isinstance(network, LTBNetwork)
        return network

    def _columns(self, networks: Mapping[str, nn.Module]) -> Columns:
        return LTBNetwork(networks, {stage: ParentChoice(len(networks)) for stage in self.stages})


class LTBNetwork(Columns):
    """The network of :class:`LTB` for some tasks."""

    def parents(self) -> dict[str, dict[str, str]]:
        """Stage -> task -> the task whose output its next module likeliest goes on from."""
        units = [unit for unit in self.units if isinstance(unit, ParentChoice)]
        return {
            stage: {
                task: self.tasks[parent]
                for task, parent in zip(self.tasks, unit.logits.argmax(dim=-1).tolist(), strict=True)
            }
            for stage, unit in zip(self.stages, units, strict=True)
        }


class ParentChoice(nn.Module, NotShared):
    """A choice, for each of K tasks, of one of K outputs.

    Args:
        tasks: K.

    Attributes:
        logits: Of shape (K, K): task, parent.
        temperature: Of the Gumbel-softmax, a scalar; infinite while all outputs are summed.
    """

    temperature: Tensor

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(tasks, tasks))
        self.register_buffer("temperature", torch.ones(()))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the temperature of an epoch, the first of which is 0.

        Raises:
            ValueError: The number of epochs is not known.
        """
        if epochs < 1:
            raise ValueError("LTB cools down over the epochs of training; set the trainer's max_epochs")
        warm = epoch < epochs / 100
        self.temperature.fill_(math.inf if warm else epochs / (20 * math.sqrt(epoch + 1)))

    def forward(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map K outputs ``(B, ...)`` of one shape to K inputs of the next stage."""
        choice = torch.where(self.temperature.isinf(), torch.ones_like(self.logits), self._choice())
        return apart(torch.einsum("ij,j...->i...", choice, torch.stack([*outputs])))

    def _choice(self) -> Tensor:
        if self.training:
            return F.gumbel_softmax(self.logits, tau=self.temperature, hard=True, dim=-1)  # type: ignore[arg-type]
        return F.one_hot(self.logits.argmax(dim=-1), len(self.logits)).to(self.logits)
