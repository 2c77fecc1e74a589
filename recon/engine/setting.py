"""The choices and the state of an engine, which its steps share."""

from dataclasses import dataclass
from typing import Literal

from recon.engine.checks import At
from recon.engine.nonfinite import StepWatches
from recon.engine.shared_part import SharedPart
from recon.methods import Method

UpdateScale = Literal["method", "sum", "mean"]


@dataclass
class Setting:
    """What an engine keeps from step to step.

    Attributes:
        tasks: Names of the K tasks.
        method: The multi-task optimizer.
        shared: The shared part of the network.
        update_scale: The scale asked for; see :class:`recon.Engine`.
        at: Where the gradients are taken that the method weights.
        watches: The values that have to be finite.
        step_count: Number of the next step, from 0.
    """

    tasks: tuple[str, ...]
    method: Method
    shared: SharedPart
    update_scale: UpdateScale
    at: At
    watches: StepWatches
    step_count: int = 0

    @property
    def scale(self) -> float:
        """The factor that brings the method's update to the scale asked for."""
        if self.update_scale == "method" or self.method.scale == self.update_scale:
            return 1.0
        return float(len(self.tasks)) if self.update_scale == "sum" else 1.0 / len(self.tasks)
