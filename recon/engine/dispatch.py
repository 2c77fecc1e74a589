"""Dispatch of an evaluation: check it, hand it to its route, show it to the analyzer."""

import torch
from torch import Tensor

from recon.engine.checks import check_losses, check_representation, warn_of_parts_left_out
from recon.engine.evaluation import Evaluation
from recon.engine.processes import refuse_processes
from recon.engine.protocols import Analyzer
from recon.engine.routes import ROUTES, Step
from recon.engine.setting import Setting
from recon.engine.step_info import StepInfo
from recon.methods import LossMethod


def fill_grad(evaluation: Evaluation, setting: Setting, analyzer: Analyzer | None) -> StepInfo:
    """Fill ``.grad`` from an evaluation, by the first route that the step belongs to.

    Args:
        evaluation: The losses, and the features if gradients are weighted there.
        setting: What the engine keeps from step to step; its count of steps stays.
        analyzer: Observer of this evaluation; ``None`` for none.

    Returns:
        The record of the step.

    Raises:
        ValueError: As :meth:`recon.Engine.backward`.
        RuntimeError: More than one process takes part.
        TypeError: The features are missing, or no tensor; or the method is of no known kind.
    """
    refuse_processes()
    losses = check_losses(evaluation, setting.tasks, setting.step_count)
    detached = [loss.detach() for loss in losses]
    info = StepInfo(setting.step_count, dict(zip(setting.tasks, detached, strict=True)))
    setting.watches.losses.watch(info.step, torch.stack(detached))
    features = _checked_features(evaluation.features, setting)
    if info.step == 0 and _misses_parts_left_out(setting):
        warn_of_parts_left_out(losses, setting.tasks, set(setting.shared.parameters))
    observed = analyzer is not None and analyzer.observes()
    step = Step(info, losses, features, observed, setting.method, setting.shared, setting.scale, setting.watches)
    try:
        _take_route(step)
    except Exception:
        if analyzer is not None:
            analyzer.retract()
        raise
    if analyzer is not None and observed and info.layer_gramians is not None:
        analyzer.observe(info.layer_gramians)
    return info


def _take_route(step: Step) -> None:
    """Let the first route that the step belongs to fill ``.grad``."""
    for route in ROUTES:
        if route.backward(step):
            return


def _checked_features(features: Tensor | None, setting: Setting) -> Tensor | None:
    """The representation to weight gradients at; ``None`` where the method weights none there."""
    if setting.at == "representation":
        weighted = len(setting.tasks) > 1 and setting.shared.trains()
        return check_representation(features) if weighted else None
    if features is not None:
        raise ValueError("the engine takes gradients at the parameters; make it with at='representation' for these")
    return None


def _misses_parts_left_out(setting: Setting) -> bool:
    """Whether parameters that tasks share outside the shared part would be missed by method or map.

    A loss method sums outside the shared part as it does inside: only a map would lack something.
    """
    weighs_gradients = not isinstance(setting.method, LossMethod)
    return len(setting.tasks) > 1 and (weighs_gradients or setting.shared.analyzer is not None)
