"""Micro-batches that wait for the end of their step."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recon.engine.own_gradients import CollectedGradients
from recon.engine.protocols import LearnsFromGradients
from recon.gradients.sharded import Gradients


@dataclass
class Held:
    """The losses and gradients of the micro-batches since the last step.

    Gradients in the shared part wait in the rows of the Jacobian. A task's gradients are multiplied
    by the counts of their losses, in units of the task's first count, which keeps scaled gradients
    in the range of float16.

    Attributes:
        counts: Task index -> the sum of its counts.
        references: Task index -> its first count.
        sums: Task index -> the sum of its losses times their counts, detached.
        own: Gradients in the tasks' own parameters.
        rows: The buffer whose rows hold the gradients in the shared part.
        counted: Whether counts were given for the losses; ``None`` before the first.
        passed: The gradients that learners have taken after each micro-batch.

    Example:
        >>> import torch
        >>> held = Held()
        >>> held.add({0: torch.tensor(2.0)}, {0: 3.0})
        >>> held.with_losses({0: torch.tensor(4.0)}, {0: 1.0})
        ({0: 4.0}, {0: tensor(10.)})
    """

    counts: dict[int, float] = field(default_factory=dict)
    references: dict[int, float] = field(default_factory=dict)
    sums: dict[int, Tensor] = field(default_factory=dict)
    own: CollectedGradients = field(default_factory=CollectedGradients)
    rows: Gradients | None = None
    counted: bool | None = None
    passed: dict[LearnsFromGradients, list[dict[str, Tensor]]] = field(default_factory=dict)

    def factor(self, task: int, count: float) -> float:
        """The factor on a loss whose gradients are to wait."""
        return count / self.references.get(task, count)

    def with_losses(
        self, losses: Mapping[int, Tensor], counts: Mapping[int, float]
    ) -> tuple[dict[int, float], dict[int, Tensor]]:
        """Counts and sums of losses with those of one more micro-batch."""
        all_counts, all_sums = dict(self.counts), dict(self.sums)
        for task, loss in losses.items():
            value = loss.detach()
            weighted = value.to(torch.promote_types(value.dtype, torch.float32)) * counts[task]
            all_sums[task] = all_sums[task] + weighted if task in all_sums else weighted
            all_counts[task] = all_counts.get(task, 0.0) + counts[task]
        return all_counts, all_sums

    def add(self, losses: Mapping[int, Tensor], counts: Mapping[int, float]) -> None:
        """Add the losses of a micro-batch."""
        self.counts, self.sums = self.with_losses(losses, counts)
        self.references = {**counts, **self.references}

    def check_rows(self, rows: Gradients) -> None:
        """Refuse to go on where the rows that hold the gradients are no longer those of the engine.

        Raises:
            ValueError: Layers have been frozen, thawed, cast or moved since.
        """
        if self.rows is not None and self.rows is not rows:
            raise ValueError(
                "layers of the shared part have been frozen, thawed, cast or moved since engine.accumulate, and the "
                "gradients of its micro-batches are lost; change layers between steps only"
            )
