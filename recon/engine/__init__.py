"""The step: from task losses to ``.grad``; imports methods, gradients and tasks."""

from recon.engine.engine import Engine, backward
from recon.engine.step_info import StepInfo

__all__ = ["Engine", "StepInfo", "backward"]
