"""Methods with one primary task, which the other tasks follow."""

from typing import ClassVar

import torch
from torch import Tensor

from recon.methods.base.hyperparameters import check_count
from recon.methods.base.registry import registered_name
from recon.methods.base.state import StatefulMethod


class PrimaryTaskMethod(StatefulMethod):
    """Mixin for methods with one primary task. All others are auxiliary.

    Args:
        primary: Index of the primary task, in task order.

    Example:
        >>> import torch
        >>> from recon.methods import GramianMethod
        >>> class PrimaryAlone(PrimaryTaskMethod, GramianMethod):
        ...     def weights(self, gramian, losses=None):
        ...         return self.is_primary.double()
        >>> PrimaryAlone(primary=1).combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([-1.,  2.])
    """

    state_of_losses: ClassVar[tuple[str, ...]] = ("is_primary",)
    is_primary: Tensor

    def __init__(self, primary: int = 0) -> None:
        super().__init__()
        self.primary = check_count(registered_name(type(self)), "primary", primary, low=0)

    def make_state(self, tasks: int) -> None:
        """Mark the primary task, (K,).

        Raises:
            ValueError: There is no such task.
        """
        if self.primary >= tasks:
            name = registered_name(type(self))
            raise ValueError(f"{name}: primary must be the index of one of {tasks} tasks, got {self.primary}")
        self.register_buffer("is_primary", torch.arange(tasks) == self.primary)

    def primary_row(self) -> int | None:
        """The primary task's row among the present tasks; ``None`` in a step without it."""
        rows: list[bool] = self.is_primary.tolist()
        return rows.index(True) if True in rows else None
