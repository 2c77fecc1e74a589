"""The network of BMTAS for some tasks, and the choices of copies in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.branching.groups import groups_of, meet, together
from recon.branching.task_tree import TaskTree, tree_stage
from recon.errors import unknown_name
from recon.gradients.layers import all_layers, network_name, root_name
from recon.gradients.wrappers import NotShared
from recon.models.architectures.bmtas.copies import replace_stages
from recon.models.architectures.bmtas.costs import stage_costs
from recon.models.architectures.bmtas.expected import expected_copies
from recon.models.architectures.parts import HeadsAsOf
from recon.version import __version__


class BMTASNetwork(nn.Module, HeadsAsOf):
    """The network of :class:`recon.models.BMTAS` for some tasks.

    Copies of a stage are named ``backbone.<stage>.copies.<number>``.

    >>> from recon.models import BMTAS, LeNet
    >>> network = BMTAS(LeNet(), ["conv1", "conv2"]).for_tasks(["digit", "letter"])
    >>> network.expected_copies()
    tensor([1.5000, 1.7500], dtype=torch.float64, grad_fn=<MvBackward0>)
    >>> network.costs(torch.zeros(1, 1, 36, 36)).tolist()  # of one copy of each stage
    [1270080.0, 1000000.0]

    Args:
        backbones: As many backbones of one structure as there are copies; they become part of it.
        stages: Stages of the backbones, in the order in which they run.
        tasks: The tasks.
        temperatures: The first and the last temperature.
        warm_up: Share of the epochs in which the choices are fixed.

    Attributes:
        tasks: The tasks.
        stages: The stages.
        backbone: The first backbone, with copies in place of its stages.
        choices: One :class:`CopyChoice` for each stage.
        warming_up: Whether the choices are fixed: task number t takes copy t.
        temperature: Temperature of the Gumbel-softmax.
    """

    def __init__(
        self,
        backbones: Sequence[nn.Module],
        stages: Sequence[str],
        tasks: Sequence[str],
        temperatures: tuple[float, float],
        warm_up: float,
    ) -> None:
        super().__init__()
        self.tasks, self.stages = tuple(tasks), tuple(stages)
        self._temperatures, self._warm_up = temperatures, warm_up
        self.warming_up, self.temperature = False, temperatures[0]
        replace_stages(backbones, stages)
        self.backbone = backbones[0]
        self.choices = nn.ModuleList(CopyChoice(len(tasks), len(backbones)) for _ in stages)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Map the backbone's inputs to ``{task: features}``; every task has a draw of its own."""
        return {task: self.run(task, *args, **kwargs) for task in self.tasks}

    def run(self, task: str, *args: Any, **kwargs: Any) -> Any:
        """The features of one task, by one draw of its copies.

        Args:
            task: The task.
            *args: The backbone's positional arguments.
            **kwargs: Its keyword arguments.

        Raises:
            ValueError: There is no such task.
        """
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        number = self.tasks.index(task)
        stages = self._copies()
        try:
            for stage, choice in zip(stages, self.choices, strict=True):
                fixed = number % len(stage.copies) if self.warming_up else None
                stage.choice = choice(number, self.temperature) if fixed is None else fixed
            return self.backbone(*args, **kwargs)
        finally:
            for stage in stages:  # no graph stays behind
                stage.choice = 0

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set warm-up and temperature of an epoch, the first of which is 0.

        Raises:
            ValueError: The number of epochs is not known.
        """
        if epochs < 1:
            raise ValueError("BMTAS cools down over the epochs of training; set the trainer's max_epochs")
        warm = min(max(1, int(self._warm_up * epochs)), epochs - 1) if self._warm_up else 0
        cooled = max(0, epoch - warm) / max(1, epochs - warm - 1)
        first, last = self._temperatures
        self.warming_up, self.temperature = epoch < warm, first + min(1.0, cooled) * (last - first)

    def probabilities(self) -> dict[str, Tensor]:
        """Stage -> ``(K, copies)``, the probability that a task chooses a copy."""
        logits = (choice.get_parameter("logits") for choice in self.choices)
        return {stage: own.softmax(dim=-1) for stage, own in zip(self.stages, logits, strict=True)}

    def groups(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Stage -> the groups of tasks whose likeliest copies are the same up to this stage."""
        found, before = {}, together(len(self.tasks))
        for stage, own in self.probabilities().items():
            before = meet(before, tuple(own.argmax(dim=1).tolist()))
            found[stage] = groups_of(before, self.tasks)
        return found

    def expected_copies(self) -> Tensor:
        """The expected number of copies of each stage in a drawn tree, ``(L,)`` in float64."""
        return expected_copies([*self.probabilities().values()])

    def costs(self, *args: Any, **kwargs: Any) -> Tensor:
        """Floating-point operations of one copy of each stage, ``(L,)``; a multiply-add is two.

        Args:
            *args: An example of the backbone's inputs.
            **kwargs: Its keyword arguments.

        Raises:
            ValueError: A stage is not called once, or the stages run in another order.
        """
        return stage_costs(self.backbone, dict(zip(self.stages, self._copies(), strict=True)), args, kwargs)

    def task_tree(self, settings: Mapping[str, Any] | None = None, **provenance: Any) -> TaskTree:
        """The tree of the likeliest copies, which :func:`recon.branch` builds.

        Args:
            settings: Options of the search, to keep with the tree.
            **provenance: Where the tree comes from, such as ``dataset`` or ``seed``.
        """
        probabilities = self.probabilities()
        stages = [
            tree_stage(stage, groups, self._layers(stage), probabilities[stage].tolist())
            for stage, groups in self.groups().items()
        ]
        made = {
            "recon": __version__,
            "torch": torch.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        origin = {"network": network_name(self.backbone), **provenance, **made}
        return TaskTree(self.tasks, tuple(stages), dict(settings or {}), origin)

    def _layers(self, stage: str) -> list[str]:
        """The layers of a stage, as the backbone names them."""
        copy = self.backbone.get_submodule(stage).get_submodule("copies.0")
        return [stage if layer == root_name(copy) else f"{stage}.{layer}" for layer in all_layers(copy)]

    def weight_parameters(self) -> list[nn.Parameter]:
        """The trainable weights of the backbone and of all copies, without the choices."""
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    @contextmanager
    def statistics_kept(self) -> Iterator[None]:
        """Let batch norms of the stages normalise by the batch, and keep their statistics."""
        norms = [norm for norm in self._norms() if norm.track_running_stats]
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True

    def reset_statistics(self) -> None:
        """Begin the running statistics of the stages' norms anew."""
        for norm in self._norms():
            norm.reset_running_stats()

    def _copies(self) -> list[Any]:
        return [self.backbone.get_submodule(stage) for stage in self.stages]

    def _norms(self) -> Iterator[Any]:
        return chain.from_iterable(stage.norms() for stage in self._copies())

    def _pattern(self) -> nn.Module:
        return self.backbone


class CopyChoice(nn.Module, NotShared):
    """A choice, for each task, of one of several copies of a stage.

    Args:
        tasks: K.
        copies: Number of copies.

    Attributes:
        logits: ``(K, copies)``, zeros at first.
    """

    def __init__(self, tasks: int, copies: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(tasks, copies))

    def forward(self, task: int, temperature: float) -> Tensor | int:
        """A soft draw of weights, ``(copies,)``; in evaluation the likeliest copy."""
        if self.training:
            return F.gumbel_softmax(self.logits[task], tau=temperature, dim=-1)
        return int(self.logits[task].argmax())
