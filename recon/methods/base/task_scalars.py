"""Numbers that the network's optimizer learns, one per task."""

import torch
from torch import Tensor, nn

from recon.methods.base.present import Present


class TaskScalars(nn.Module):
    """One learned number per task, from 0, each a parameter of its own.

    In a step without a task its parameter has no gradient. So no optimizer moves it, with momentum
    and weight decay or without.

    Args:
        tasks: K.

    Example:
        >>> import torch
        >>> scalars = TaskScalars(3)
        >>> scalars.stacked()
        tensor([0., 0., 0.], grad_fn=<StackBackward0>)
        >>> (scalars.stacked()[:2] * torch.tensor([3.0, 1.0])).sum().backward()
        >>> [parameter.grad for parameter in scalars.parameters()]
        [tensor(3.), tensor(1.), tensor(0.)]
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        for task in range(tasks):
            self.register_parameter(str(task), nn.Parameter(torch.zeros(())))

    def stacked(self) -> Tensor:
        """The numbers, (K,), with their graph."""
        return torch.stack(list(self.parameters()))

    @torch.no_grad()
    def set(self, values: Tensor) -> None:
        """Replace the numbers by those of a tensor (K,)."""
        for parameter, value in zip(self.parameters(), values, strict=True):
            parameter.copy_(value)

    def add_gradient(self, gradient: Tensor) -> None:
        """Add (K,) numbers to ``.grad`` of the parameters."""
        like = next(self.parameters())
        for parameter, part in zip(self.parameters(), gradient.to(like), strict=True):
            parameter.grad = part if parameter.grad is None else parameter.grad + part


class ScalarsOfTasks:
    """The :class:`TaskScalars` of a method, as a part with one row per task."""

    def __init__(self, scalars: TaskScalars) -> None:
        self.scalars = scalars

    def narrow(self, present: Present) -> None:
        self._all = self.scalars._parameters
        self.scalars._parameters = {str(row): self._all[str(task)] for row, task in enumerate(present)}

    def widen(self, keep: bool) -> None:
        self.scalars._parameters = self._all
