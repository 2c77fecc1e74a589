"""PLE, progressive layered extraction: levels of shared experts and experts of each task's own.

Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
Personalized Recommendations", RecSys 2020. On each level a task's gate mixes its own experts and
the shared ones. A shared gate mixes all experts of the level, and feeds the shared experts of the
next.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from recon.gradients.wrappers import NotShared
from recon.models.architectures.parts import (
    HeadsAsOf,
    PlanOfTasks,
    SoftmaxGate,
    Source,
    check_number_of,
    copies,
    mixture,
    values_at_gate,
)
from recon.tasks.names import check_task_names


class PLE(PlanOfTasks, HeadsAsOf):
    """Levels of shared experts and of experts of each task's own, mixed by gates.

    Shared experts, ``levels.0.experts.1``, and input layer are shared: a conflict map scores their
    layers, and Recon may branch them. The tasks' own experts and all gates are not: no map scores
    them, and their gradient is the sum of the tasks', since those of lower levels serve all tasks
    through the shared gate. With one level it is CGC. This module is a plan; a network of K tasks
    comes from :meth:`for_tasks`, which training calls.

    >>> import torch
    >>> from recon.models import MLP
    >>> ple = PLE([lambda: MLP(10, [8]), lambda: MLP(8, [4])], experts=2, own=1, gate_inputs=10)
    >>> network = ple.for_tasks(["income", "married"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(5, 10)).items()}
    {'income': (5, 4), 'married': (5, 4)}

    Args:
        levels: For each level a function that makes an expert; in YAML a list of ``class_path`` and
            ``init_args``. From the second level on it takes the features of the level before.
        experts: Number of shared experts of a level.
        own: Number of experts of each task on a level.
        input_layer: A module before all levels; none by default.
        gate_inputs: Number of values of a sample at the gates of the first level; by default the
            ``num_features`` of the input layer. Those of other levels take the ``num_features`` of
            the experts before.

    Raises:
        ValueError: There is no level, a number of experts is not positive, the number of values at
            a gate unknown, or a level of linear layers does not take the features before it.
    """

    def __init__(
        self,
        levels: list[Source],
        experts: int = 1,
        own: int = 1,
        input_layer: nn.Module | None = None,
        gate_inputs: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(levels, list | tuple):
            raise ValueError(f"levels is {levels!r}; give a list of functions, one that makes an expert for each level")
        if not levels:
            raise ValueError("levels is empty; give an expert for each level")
        for name, count in (("experts", experts), ("own", own)):
            check_number_of(name, count)
        self.levels = tuple(levels)
        self.counts = (experts, own)
        self.input_layer = input_layer
        self.samples = nn.ModuleList(copies(level, 1, "experts")[0] for level in levels)
        _check_chain(self.samples)
        self.gate_inputs = [
            values_at_gate(input_layer, gate_inputs),
            *(values_at_gate(expert, None) for expert in self.samples[:-1]),
        ]

    def for_tasks(self, tasks: Sequence[str]) -> "PLENetwork":
        """A new network of these tasks, whose forward returns ``{task: features}``.

        Args:
            tasks: Names of the tasks.
        """
        return PLENetwork(
            check_task_names(tasks), self.levels, *self.counts, deepcopy(self.input_layer), self.gate_inputs
        )

    def _pattern(self) -> nn.Module:
        return self.samples[-1]


class PLENetwork(nn.Module, HeadsAsOf):
    """The network of :class:`PLE` for some tasks.

    Args:
        tasks: The tasks.
        levels: For each level a function that makes an expert.
        experts: Number of shared experts of a level.
        own: Number of experts of each task on a level.
        input_layer: A module before all levels, or ``None``.
        gate_inputs: Number of values of a sample at the gates of each level.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        levels: Sequence[Source],
        experts: int,
        own: int,
        input_layer: nn.Module | None,
        gate_inputs: Sequence[int],
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.input_layer = input_layer
        self.levels = nn.ModuleList(
            PLELevel(tasks, level, experts, own, inputs, number == len(levels))
            for number, (level, inputs) in enumerate(zip(levels, gate_inputs, strict=True), start=1)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map inputs to ``{task: features}``."""
        x = x if self.input_layer is None else self.input_layer(x)
        states, common = dict.fromkeys(self.tasks, x), x
        for level in self.levels:
            states, common = level(states, common)
        return states

    def _pattern(self) -> nn.Module:
        return cast(PLELevel, self.levels[-1]).experts[0]


class PLELevel(nn.Module):
    """One level: shared experts, experts of the tasks' own, and gates.

    Args:
        tasks: The tasks.
        expert: A function that makes an expert.
        experts: Number of shared experts.
        own: Number of experts of each task.
        gate_inputs: Number of values of a sample at the gates.
        is_last: Whether no level follows, so that there is no shared gate.
    """

    def __init__(
        self, tasks: Sequence[str], expert: Source, experts: int, own: int, gate_inputs: int, is_last: bool
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(copies(expert, experts, "experts"))
        self.own = _NotSharedDict({task: nn.ModuleList(copies(expert, own, "own")) for task in tasks})
        self.gates = _NotSharedDict({task: SoftmaxGate(gate_inputs, own + experts) for task in tasks})
        self.shared_gate = None if is_last else _SharedGate(gate_inputs, own * len(tasks) + experts)

    def forward(self, states: Mapping[str, Tensor], common: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Take the features of each task, and of the shared experts, to those of the next level."""
        shared = [expert(common) for expert in self.experts]
        outputs = {
            task: [expert(state) for expert in cast(Iterable[nn.Module], self.own[task])]
            for task, state in states.items()
        }
        if self.shared_gate is not None:
            everything = [output for own in outputs.values() for output in own]
            common = mixture(self.shared_gate(common), [*everything, *shared])
        mixed = {task: mixture(self.gates[task](states[task]), [*own, *shared]) for task, own in outputs.items()}
        return mixed, common


def _check_chain(experts: Iterable[nn.Module]) -> None:
    """Refuse an expert whose first layer is linear and does not take the features before it."""
    for number, (before, expert) in enumerate(pairwise(experts), start=1):
        features = getattr(before, "num_features", None)
        first = expert[0] if isinstance(expert, nn.Sequential) and len(expert) else expert
        if isinstance(first, nn.Linear) and isinstance(features, int) and first.in_features != features:
            raise ValueError(
                f"levels[{number}] takes {first.in_features} values, and levels[{number - 1}] gives {features}; "
                f"make its experts for {features} values"
            )


class _NotSharedDict(nn.ModuleDict, NotShared):
    """Parts of the tasks' own, by task."""


class _SharedGate(SoftmaxGate, NotShared):
    """A gate for the shared experts."""
