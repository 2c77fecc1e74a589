"""Routes with one backward through the shared part, where no task's own gradient is needed."""

from itertools import chain

import torch
from torch import Tensor

from recon.engine.protocols import KnowsWeights
from recon.engine.routes.route import Step
from recon.gradients.graph import reached_leaves
from recon.gradients.wrappers import is_partly_shared
from recon.methods import LossMethod


class SingleTask:
    """A single task trains plainly, whatever the method."""

    def backward(self, step: Step) -> bool:
        if len(step.losses) > 1:
            return False
        step.losses[0].backward()
        step.watch_sum()
        return True


class LossObjective:
    """A loss method is one objective to differentiate, unless an analyzer needs task gradients."""

    def backward(self, step: Step) -> bool:
        method = step.method
        if not isinstance(method, LossMethod) or (step.observed and step.shared.trains()):
            return False
        with step.naming():
            objective = method.objective(torch.stack(step.losses))
        (objective * step.scale).backward()
        step.watch_sum()
        return True


class FrozenSharedPart:
    """While the whole shared part is frozen, heads and branches train plainly."""

    def backward(self, step: Step) -> bool:
        if step.shared.trains():
            return False
        torch.autograd.backward(step.losses)
        return True


class KnownWeights:
    """A method that knows its weights beforehand takes one backward of the weighted losses.

    Each task's own parameters receive their unweighted gradient, by a backward that ends there.
    """

    def backward(self, step: Step) -> bool:
        weights = None if step.observed else _known_weights(step)
        if weights is None:
            return False
        shared = step.shared.trainable()
        reached = [reached_leaves(loss) for loss in step.losses]
        for loss, leaves in zip(step.losses, reached, strict=True):
            if own := [leaf for leaf in leaves if leaf not in shared]:
                loss.backward(retain_graph=True, inputs=own)
        step.info.weights = (weights * step.scale).to(step.losses[0])
        if together := shared.intersection(chain(*reached)):
            (step.info.weights * torch.stack(step.losses)).sum().backward(inputs=list(together))
        step.watch_sum()
        return True


def _known_weights(step: Step) -> Tensor | None:
    """The method's weights (K,), if it knows them and the knowledge saves a backward.

    Where early layers are branched it does not: a task's own parameters take a backward through the
    whole network anyway.
    """
    if not isinstance(step.method, KnowsWeights) or is_partly_shared(step.shared.module):
        return None
    return step.method.known_weights()
