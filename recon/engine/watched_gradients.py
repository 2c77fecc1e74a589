"""The task gradients of a watched step: backwards of their own, beside those of the training."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recon.engine.compiled import telling_of_plain_backwards
from recon.engine.routes.route import Step
from recon.gradients.graph import without_grad


def fill_rows(step: Step) -> None:
    """Fill the rows of the present tasks, summed over parts of the batch and processes."""
    gradients = step.shared.gradients
    step.held.check_rows(gradients)
    with without_grad(gradients.parameters):
        for task in step.present:
            with step.failing_for_all():
                if task in step.terms:
                    put_gradients(step.terms[task], gradients.parameters)
            if task in step.held.counts:
                gradients.scale_row(task, step.share_of_held(task))
                gradients.add_row(task)
            else:
                gradients.fill_row(task)
            if step.failure is not None:  # the other processes wait for the row, and have to know
                gradients.scale_row(task, math.nan)
            gradients.send_row(task)
        gradients.complete(step.present)


def put_gradients(term: Tensor, parameters: Sequence[Tensor]) -> None:
    """Put the gradients of a term into ``.grad``, and leave its graph."""
    try:
        with telling_of_plain_backwards():
            found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        raise RuntimeError("the graph of the losses is gone: call watch(losses) before loss.backward()") from error
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient
