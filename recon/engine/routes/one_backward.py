"""Routes with one backward through the shared part, straight into ``.grad``.

No task's own gradient is needed there, and no gradients are summed over processes.
"""

from functools import partial
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
        if step.collected is not None or len(step.present) > 1:
            return False
        (loss,) = step.terms.values()
        loss.backward(retain_graph=step.keeps_graph)
        step.watch_sum()
        return True


class LossObjective:
    """A loss method is one objective to differentiate, unless an analyzer needs task gradients."""

    def backward(self, step: Step) -> bool:
        method = step.method
        if step.collected is not None or not isinstance(method, LossMethod):
            return False
        if step.observed and step.shared.trains():
            return False
        terms = torch.stack([*step.terms.values()])
        terms.register_hook(partial(_note_weights, step))
        with step.asking():
            objective = method.objective(terms) * step.scale
        if step.passed.wanted:
            [step.passed.weights] = torch.autograd.grad(objective, terms, retain_graph=True)
        objective.backward(retain_graph=step.keeps_graph)
        step.watch_sum()
        return True


def _note_weights(step: Step, weights: Tensor) -> None:
    """Record the weights (K',) of the task gradients, which an objective's backward passes."""
    step.info.weights = step.in_all_tasks(weights.detach())


class FrozenSharedPart:
    """While the whole shared part is frozen, heads and branches train plainly."""

    def backward(self, step: Step) -> bool:
        if step.collected is not None or step.shared.trains():
            return False
        torch.autograd.backward([*step.terms.values()])
        return True


class KnownWeights:
    """A method that knows its weights beforehand takes one backward of the weighted losses.

    Each task's own parameters receive their unweighted gradient, by a backward that ends there.
    """

    def backward(self, step: Step) -> bool:
        weights = None if step.collected is not None or step.observed else known_weights(step)
        if weights is None:
            return False
        shared, terms = step.shared_leaves, [*step.terms.values()]
        reached = [reached_leaves(loss) for loss in terms]
        for loss, leaves in zip(terms, reached, strict=True):
            if own := [leaf for leaf in leaves if leaf not in shared]:
                loss.backward(retain_graph=True, inputs=own)
        weights = weights.to(terms[0])
        step.info.weights = step.in_all_tasks(weights)
        if together := shared.keys() & set(chain(*reached)):
            weighted = (weights * torch.stack(terms)).sum()
            weighted.backward(inputs=list(together), retain_graph=step.keeps_graph)
        step.watch_sum()
        return True


def known_weights(step: Step) -> Tensor | None:
    """The method's weights (K',) at the engine's scale, if it knows them and that saves a backward.

    Where early layers are branched it does not: a task's own parameters take a backward through the
    whole network anyway. Nor do weights that differ between layers, or where modules learn from the
    gradients, which a weight of 0 would hide.
    """
    if not isinstance(step.method, KnowsWeights) or step.groups is not None or step.passed.wanted:
        return None
    if is_partly_shared(step.shared.module):
        return None
    with step.asking():
        weights = step.method.known_weights()
    return None if weights is None else weights * step.scale
