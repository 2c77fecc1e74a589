"""What modules beside the shared part learn from a step: the gradients that passed through them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from recon.engine.precision import full_precision
from recon.engine.protocols import LearnsFromGradients
from recon.engine.routes import Step
from recon.engine.setting import Setting


@contextmanager
def teaching(setting: Setting) -> Iterator[None]:
    """Let the learners learn at the end of a ``with`` block, unless it ends with an error.

    By then the evaluations of the step are over, which need the learners as they were.
    """
    setting.lesson = None
    yield
    lesson, setting.lesson = setting.lesson, None
    if lesson is not None:
        with full_precision(setting.shared.parameters[0].device):
            lesson()


def hold_passed(setting: Setting) -> None:
    """Keep the gradients that passed in a micro-batch for the step."""
    for learner in setting.learners:
        setting.held.passed.setdefault(learner, []).append(learner.take_gradients())


def note_lesson(step: Step, setting: Setting) -> None:
    """Note the gradients of the first evaluation of a step, for its end."""
    if not setting.learners or setting.lesson is not None:
        return
    scale = 1 / (step.loss_scale or 1)
    shares = {step.tasks[task]: scale * step.share_of_held(task) for task in step.held.counts}
    latest = dict.fromkeys(step.tasks, scale) | _unweighted(step, scale)
    taken = {}
    for learner in setting.learners:
        held = [_scaled(batch, shares) for batch in step.held.passed.get(learner, [])]
        taken[learner] = [*held, _scaled(learner.take_gradients(), latest)]
    names = [step.tasks[task] for task in step.present]
    setting.lesson = partial(_teach, taken, names, setting.processes.sum)


def _teach(
    taken: Mapping[LearnsFromGradients, Sequence[Mapping[str, Tensor]]],
    tasks: Sequence[str],
    summed: Callable[[Tensor], Tensor],
) -> None:
    for learner, batches in taken.items():
        learner.learn(batches, tasks, summed)


def _unweighted(step: Step, scale: float) -> dict[str, Tensor]:
    """Task -> the factor that makes a weighted gradient the task's own; none if they are plain."""
    weights = step.passed.weights
    if weights is None:
        return {}
    factors = scale / torch.where(weights == 0, 1, weights)
    return {step.tasks[task]: factor for task, factor in zip(step.present, factors, strict=True)}


def _scaled(batch: Mapping[str, Tensor], factors: Mapping[str, float | Tensor]) -> dict[str, Tensor]:
    return {task: _in_full(gradient) * factors[task] for task, gradient in batch.items()}


def _in_full(gradient: Tensor) -> Tensor:
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))
