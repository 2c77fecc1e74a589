"""The backward of several tasks in one call, where nothing needs to be kept between steps."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from recon.engine.checks import At
from recon.engine.engine import Engine
from recon.engine.groups import Granularity
from recon.engine.protocols import Analyzer
from recon.engine.setting import UpdateScale
from recon.engine.step_info import StepInfo
from recon.gradients.parts import Shared
from recon.methods import Method


def backward(
    losses: Mapping[str, Tensor],
    shared: Shared,
    method: Method,
    analyzer: Analyzer | None = None,
    update_scale: UpdateScale = "method",
    at: At = "parameters",
    representation: Tensor | None = None,
    tasks: Sequence[str] | None = None,
    counts: Mapping[str, float] | None = None,
    granularity: Granularity = "network",
) -> StepInfo:
    """Run ``loss.backward()`` for several tasks in one call.

    A training loop is better served by :class:`recon.Engine`, which keeps its buffer between steps.

    Args:
        losses: Task -> scalar loss with a graph, which is freed.
        shared: The shared part of the network, or several; see :class:`recon.Engine`.
        method: A multi-task optimizer (:func:`recon.create_method`), made once, before the loop: it
            holds all that it learns.
        analyzer: Observer of conflicts; ``None`` for none.
        update_scale: See :class:`recon.Engine`.
        at: See :class:`recon.Engine`.
        representation: The features that all heads take; with ``at="representation"``, and only
            then.
        tasks: Names of all K tasks, in the same order at every call, where some batches lack
            labels of some; by default those of the losses.
        counts: See :meth:`recon.Engine.backward`.
        granularity: See :class:`recon.Engine`.

    Raises:
        ValueError: As :class:`recon.Engine` and :meth:`recon.Engine.backward`.
        TypeError: As those two; or the method is given by its name.

    Example:
        >>> import torch, recon
        >>> backbone = torch.nn.Linear(4, 3)
        >>> heads = {"a": torch.nn.Linear(3, 1), "b": torch.nn.Linear(3, 1)}
        >>> features = backbone(torch.ones(2, 4))
        >>> losses = {task: head(features).square().mean() for task, head in heads.items()}
        >>> info = backward(losses, backbone, recon.create_method("mgda"))
        >>> info.cosines.shape, backbone.weight.grad.shape
        (torch.Size([2, 2]), torch.Size([3, 4]))
    """
    if isinstance(method, str):
        raise TypeError(
            f"method is the name {method!r}; make it once, before the loop, with recon.create_method({method!r}): "
            "what it learns and draws goes on from step to step; or use recon.Engine, which takes names"
        )
    names = list(losses) if tasks is None else tasks
    engine = Engine(shared, names, method, analyzer, update_scale, at, granularity=granularity)
    info = engine.backward(losses, representation, counts)
    engine.check_finite()
    return info
