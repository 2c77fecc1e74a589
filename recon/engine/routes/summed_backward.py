"""Route with one backward of weighted losses, whose gradients are summed over the processes.

It serves the steps in which no task's own gradient is needed in the shared part, where gradients of
several processes, or losses scaled for float16, keep them from going straight into ``.grad``.
"""

import torch
from torch import Tensor

from recon.engine.routes.one_backward import known_weights
from recon.engine.routes.route import Step
from recon.engine.routes.weights import loss_weights
from recon.gradients.graph import reached_leaves
from recon.methods import LossMethod

_TOGETHER = "all tasks"


class SummedBackward:
    """One backward of the weighted terms of this process; then a sum over the processes."""

    def backward(self, step: Step) -> bool:
        collected = step.collected
        if collected is None or (step.accumulated and step.shared.trains()):
            return False
        if step.held.rows is not None and step.held.rows.size:
            step.held.check_rows(step.shared.gradients)
        if (weights := _weights(step)) is not None:
            _collect(step, weights)
        elif not step.observed and (weights := known_weights(step)) is not None:
            step.info.weights = step.in_all_tasks(weights).to(step.losses)
            _collect_own_unweighted(step, weights)
        else:
            return False
        step.put_totals()
        return True


def _weights(step: Step) -> Tensor | None:
    """Weights (K',) of the terms, heads included, where they follow without gradients."""
    if len(step.present) == 1 or not (step.shared.trains() or isinstance(step.method, LossMethod)):
        return torch.ones_like(step.losses)
    if isinstance(step.method, LossMethod) and not (step.observed and step.shared.trains()):
        return loss_weights(step, step.method)
    return None


def _collect(step: Step, weights: Tensor) -> None:
    """Collect the gradients of the weighted terms, and those of earlier micro-batches."""
    assert step.collected is not None
    by_task = dict(zip(step.present, weights, strict=True))
    step.passed.weights = weights
    step.add_held(by_task)
    terms = [by_task[task].to(term) * term for task, term in step.terms.items()]
    if not terms:
        return
    leaves = dict.fromkeys(leaf for term in step.terms.values() for leaf in reached_leaves(term))
    with step.failing_for_all(), step.collected.collecting(_TOGETHER, [*leaves]):
        torch.stack(terms).sum().backward(retain_graph=step.keeps_graph)


def _collect_own_unweighted(step: Step, weights: Tensor) -> None:
    """Collect the terms' gradients in the tasks' own parameters, and weighted ones in the rest."""
    assert step.collected is not None
    shared, weighted = step.shared_leaves, []
    together: dict[Tensor, None] = {}
    for task, weight in zip(step.present, weights, strict=True):
        if (term := step.terms.get(task)) is None:
            continue
        leaves = reached_leaves(term)
        own = [leaf for leaf in leaves if leaf not in shared]
        together |= dict.fromkeys(leaf for leaf in leaves if leaf in shared)
        weighted.append(weight.to(term) * term)
        if own:
            with step.failing_for_all(), step.collected.collecting(task, own):
                term.backward(retain_graph=True, inputs=own)
    if together:
        with step.failing_for_all(), step.collected.collecting(_TOGETHER, [*together]):
            torch.stack(weighted).sum().backward(inputs=[*together], retain_graph=step.keeps_graph)
