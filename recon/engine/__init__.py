"""The step: from task losses to ``.grad``; imports conflict, methods, gradients, names of tasks."""

from recon.engine.engine import Engine
from recon.engine.evaluation import Evaluation
from recon.engine.one_call import backward
from recon.engine.setting import UpdateScale
from recon.engine.step_info import StepInfo
from recon.engine.watching import Watch, watch

__all__ = ["Engine", "Evaluation", "StepInfo", "UpdateScale", "Watch", "backward", "watch"]
