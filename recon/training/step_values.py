"""The values of a step for loggers, beside its losses: method weights and gradient norms.

They are logged where the trainer logs (``log_every_n_steps``), so other steps cost nothing more.
"""

from collections.abc import Sequence

import pytorch_lightning as pl
from torch import Tensor, nn

from recon.engine.step_info import StepInfo
from recon.gradients.graph import total_norm
from recon.gradients.precision import in_double

_PREFIXES = ("weight/", "gradient_norm")


def step_values(info: StepInfo, tasks: Sequence[str], norm: Tensor | None) -> dict[str, Tensor]:
    """The weights of the tasks, and the norms of their gradients in the shared part.

    Args:
        info: The record of the step.
        tasks: Names of the K tasks.
        norm: Norm of the whole gradient that the optimizer takes, before clipping.

    Returns:
        ``weight/TASK`` of the methods that weight tasks, of groups of layers their mean;
        ``gradient_norm/TASK`` where the step computes task gradients; and ``gradient_norm``.

    Example:
        >>> import torch
        >>> loss, gramian = torch.tensor(1.0), torch.tensor([[[9.0, 0.0], [0.0, 4.0]]])
        >>> info = StepInfo(0, {"a": loss, "b": loss}, torch.tensor([0.25, 0.75]), gramian)
        >>> {name: float(value) for name, value in step_values(info, ["a", "b"], None).items()}
        {'weight/a': 0.25, 'weight/b': 0.75, 'gradient_norm/a': 3.0, 'gradient_norm/b': 2.0}
    """
    values: dict[str, Tensor] = {}
    if info.weights is not None:
        weights = info.weights.mean(0) if info.weights.dim() == 2 else info.weights
        values |= {f"weight/{task}": weight for task, weight in zip(tasks, weights, strict=True)}
    if info.layer_gramians is not None:
        norms = in_double(info.layer_gramians).sum(0).diagonal().sqrt().float()
        values |= {f"gradient_norm/{task}": own for task, own in zip(tasks, norms, strict=True)}
    present = {name: value for name, value in values.items() if name.partition("/")[2] in info.losses}
    return present if norm is None else {**present, "gradient_norm": norm}


def step_value_names(tasks: Sequence[str]) -> list[str]:
    """The names of all values that :func:`step_values` may give."""
    return [*(f"{kind}/{task}" for kind in ("weight", "gradient_norm") for task in tasks), "gradient_norm"]


def is_step_value(name: str) -> bool:
    """Whether a metric is one of these, which loggers show and lines of progress leave out."""
    return name.startswith(_PREFIXES)


def logs_now(trainer: pl.Trainer) -> bool:
    """Whether loggers take the values of the present step."""
    return bool(trainer.loggers) and trainer._logger_connector.should_update_logs


def gradient_norm(module: nn.Module) -> Tensor | None:
    """The norm of ``.grad`` of all parameters; ``None`` without any."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return total_norm([g.detach() for g in gradients]).float() if gradients else None
