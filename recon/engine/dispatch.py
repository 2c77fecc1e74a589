"""Dispatch of an evaluation: agree on its step, hand it to a route, show it to the analyzer."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from recon.engine.agreement import Agreed, Brought, agree, mixed_counts
from recon.engine.checks import (
    check_all_present,
    check_counts,
    check_losses,
    check_representation,
    warn_of_parts_left_out,
)
from recon.engine.compiled import telling_of_plain_backwards
from recon.engine.evaluation import Evaluation
from recon.engine.held import Held
from recon.engine.lessons import note_lesson
from recon.engine.own_gradients import CollectedGradients
from recon.engine.protocols import Analyzer
from recon.engine.refusal import MethodState
from recon.engine.routes import ROUTES, Step
from recon.engine.routes.head_backwards import check_heads
from recon.engine.routes.route import Passed
from recon.engine.setting import Setting
from recon.engine.step_info import StepInfo
from recon.gradients.graph import reached_leaves, without_grad
from recon.gradients.wrappers import branches_of
from recon.methods import LossMethod


def fill_grad(
    evaluate: Callable[[], Evaluation], setting: Setting, analyzer: Analyzer | None, overflowed: bool = False
) -> StepInfo:
    """Fill ``.grad`` from an evaluation, by the first route that the step belongs to.

    Args:
        evaluate: Gives the losses, with counts and with the features if gradients are weighted
            there. What it refuses ends the step in all processes.
        setting: What the engine keeps from step to step; its count of steps stays.
        analyzer: Observer of this evaluation; ``None`` for none.
        overflowed: Whether an earlier evaluation of the step has overflowed float16.

    Returns:
        The record of the step.

    Raises:
        ValueError: As :meth:`recon.Engine.backward`.
        TypeError: The features are missing, or no tensor; or the method is of no known kind.
    """
    try:
        brought, agreed = agree(setting, lambda: bring(evaluate(), setting))
        check_all_present(setting.method, agreed.present, setting.tasks, setting.step_count)
    finally:  # a refused batch takes its micro-batches with it
        held, setting.held = setting.held, Held()
    setting.present = agreed.present
    observed = analyzer is not None and analyzer.observes()
    before = MethodState(setting.method) if setting.scaling.active else None
    step = step_of(brought, agreed, held, setting, observed)
    step.info.overflow = overflowed
    try:
        if step.loss_scale is None:
            setting.watches.losses.watch(step.info.step, step.in_all_tasks(step.losses))
        _take_route(step)
    except Exception as error:
        if analyzer is not None:
            analyzer.retract()
        if step.failure is not None:
            raise step.failure from error
        raise
    if before is not None and step.info.overflow:
        before.restore()
        if analyzer is not None:
            analyzer.retract()
        setting.scaling.check_scale(step.loss_scale or 1, step.info.step)
    elif analyzer is not None and observed and step.info.layer_gramians is not None:
        analyzer.observe(step.info.layer_gramians)
    if not step.info.overflow:
        note_lesson(step, setting)
    if step.processes.several:
        step.processes.copy_of_first(setting.buffers())
    return step.info


def bring(evaluation: Evaluation, setting: Setting) -> Brought:
    """The checked losses of this process, with their counts and features."""
    losses = check_losses(evaluation, setting.tasks, setting.step_count)
    counts = check_counts(evaluation.counts, losses, setting.tasks, setting.step_count)
    features = _checked_features(evaluation.features, losses, setting)
    if setting.step_count == 0:
        setting.scaling.check_needed([*losses.values()])
        if _misses_parts_left_out(setting):
            # Copies that some tasks share are outside the shared layers, and meant to be.
            warn_of_parts_left_out(losses, setting.tasks, set(setting.shared.module.parameters()))
    if setting.processes.several:
        shared = setting.shared.trainable()
        for task, loss in losses.items():
            # Other leaves, such as inputs that a loss differentiates by, are this process's alone.
            reached = [leaf for leaf in reached_leaves(loss) if isinstance(leaf, nn.Parameter)]
            setting.own.learn(task, [leaf for leaf in reached if leaf not in shared])
    counted = evaluation.counts is not None if losses else None
    if None not in (counted, setting.held.counted) and counted != setting.held.counted:
        raise mixed_counts(setting.step_count, "micro-batches")
    return Brought(losses, counts, features, counted)


def step_of(brought: Brought, agreed: Agreed, held: Held, setting: Setting, observed: bool) -> Step:
    """The step that an agreed evaluation makes, without gradients yet."""
    processes = setting.processes
    losses = {setting.tasks[task]: loss for task, loss in zip(agreed.present, agreed.losses, strict=True)}
    alone = not (processes.several or held.counts or setting.scaling.active)
    terms = {
        task: loss if alone else setting.scaling.scaled(loss * (brought.counts[task] / agreed.totals[task]))
        for task, loss in brought.losses.items()
    }
    if processes.several and setting.synchronised:
        terms |= zero_terms(terms, agreed.evaluated)
    loss_scale = setting.scaling.factor_on(agreed.losses.device) if setting.scaling.active else None
    return Step(
        info=StepInfo(setting.step_count, losses),
        tasks=setting.tasks,
        present=agreed.present,
        losses=agreed.losses,
        terms=terms,
        at_representation=setting.at_representation,
        features=brought.features,
        observed=observed,
        method=setting.method,
        shared=setting.shared,
        scale=setting.scale_for(len(agreed.present)),
        watches=setting.watches,
        collected=None if alone else CollectedGradients(),
        held=held,
        accumulated=agreed.accumulated,
        totals=agreed.totals,
        own=setting.own,
        processes=processes,
        loss_scale=loss_scale,
        groups=setting.groups,
        memory=setting.memory,
        passed=Passed(wanted=bool(setting.learners)),
    )


def zero_terms(terms: dict[int, Tensor], evaluated: Iterable[int]) -> dict[int, Tensor]:
    """Terms of value 0 for the tasks that only other processes have a loss of.

    Their backwards pass through the shared part, where norms over all samples wait for them.
    """
    any_term = next(iter(terms.values()))
    return {task: any_term * 0 for task in evaluated if task not in terms}


def _take_route(step: Step) -> None:
    """Let the first route that the step belongs to fill ``.grad``."""
    absent = [task for index, task in enumerate(step.tasks) if index not in step.present]
    # A compiled branched network gives the branches of absent tasks zeros, by which momentum and
    # weight decay would move them.
    with without_grad(branches_of(step.shared.module, absent)), telling_of_plain_backwards():
        for route in ROUTES:
            if route.backward(step):
                break
    if step.failure is not None:
        raise step.failure


def _checked_features(features: Tensor | None, losses: dict[int, Tensor], setting: Setting) -> Tensor | None:
    """The representation to weight gradients at; ``None`` where the method weights none there."""
    if setting.at == "representation":
        if not setting.at_representation or not losses:
            return None
        representation = check_representation(features)
        check_heads(losses.values(), representation, setting.shared.trainable())
        return representation
    if features is not None:
        raise ValueError("the engine takes gradients at the parameters; make it with at='representation' for these")
    return None


def _misses_parts_left_out(setting: Setting) -> bool:
    """Whether parameters that tasks share outside the shared part would be missed by method or map.

    A loss method sums outside the shared part as it does inside: only a map would lack something.
    """
    weighs_gradients = not isinstance(setting.method, LossMethod)
    return len(setting.tasks) > 1 and (weighs_gradients or setting.shared.analyzer is not None)
