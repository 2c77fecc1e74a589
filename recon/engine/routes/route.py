"""One way through a step, and the step that it is asked about."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from recon.engine.checks import naming_step
from recon.engine.nonfinite import StepWatches
from recon.engine.shared_part import SharedPart
from recon.engine.step_info import StepInfo
from recon.methods import Method


@dataclass
class Step:
    """A step with checked input and no gradients yet.

    Attributes:
        info: The record of the step; its route adds weights and layer Gramians.
        losses: K scalars with a graph, in the order of the tasks.
        features: The representation at which the method weights gradients; ``None`` for the
            parameters.
        observed: Whether an analyzer waits for the layer Gramians.
        method: The multi-task optimizer.
        shared: The shared part of the network.
        scale: Factor on the method's update.
        watches: The values that have to be finite.
    """

    info: StepInfo
    losses: list[Tensor]
    features: Tensor | None
    observed: bool
    method: Method
    shared: SharedPart
    scale: float
    watches: StepWatches

    def detached_losses(self) -> Tensor:
        """The losses (K,) without their graph."""
        return torch.stack(list(self.info.losses.values()))

    def naming(self) -> AbstractContextManager[None]:
        """Add the number of the step and the tasks' names to errors of the method."""
        return naming_step(self.info.step, tuple(self.info.losses))

    def watch_sum(self) -> None:
        """Note the norm of the gradient that one backward left in the shared parameters."""
        self.watches.watch_sum(self.info.step, self.shared.parameters)


class Route(Protocol):
    """One way from the losses of a step to ``.grad``."""

    def backward(self, step: Step) -> bool:
        """Fill ``.grad`` if the step is this route's own.

        Returns:
            Whether it is; ``False`` leaves the step untouched for the next route.
        """
