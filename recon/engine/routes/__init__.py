"""The ways through a step, a file for each kind; imports the engine's parts, methods and gradients.

:data:`ROUTES` lists them from the most special to the general one, and a step takes the first that
it belongs to. A new way through a step is one more object in this list.
"""

from recon.engine.routes.gramian_backwards import GramianBackwards
from recon.engine.routes.head_backwards import HeadBackwards
from recon.engine.routes.one_backward import FrozenSharedPart, KnownWeights, LossObjective, SingleTask
from recon.engine.routes.route import Route, Step
from recon.engine.routes.summed_backward import SummedBackward
from recon.engine.routes.task_backwards import ObservedLosses, TaskBackwards

ROUTES: tuple[Route, ...] = (
    SingleTask(),
    LossObjective(),
    FrozenSharedPart(),
    KnownWeights(),
    SummedBackward(),
    GramianBackwards(),
    ObservedLosses(),
    HeadBackwards(),
    TaskBackwards(),
)
"""Asked in this order; the last one takes every step."""

__all__ = ["ROUTES", "Route", "Step"]
