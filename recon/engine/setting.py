"""The choices and the state of an engine, which its steps share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from recon.engine.checks import At, check_at
from recon.engine.nonfinite import StepWatches
from recon.engine.shared_part import SharedPart
from recon.gradients.layers import network_name, shared_layers
from recon.gradients.parts import Shared, as_one_module
from recon.methods import Method, create_method
from recon.tasks.names import check_task_names

UpdateScale = Literal["method", "sum", "mean"]


@dataclass
class Setting:
    """The choices and the state of an engine.

    Attributes:
        tasks: Names of the K tasks.
        method: The multi-task optimizer.
        shared: The shared part of the network.
        update_scale: The scale asked for; see :class:`recon.Engine`.
        at: Where the method takes the task gradients.
        watches: The values that have to be finite.
        step_count: Number of the next step, from 0.
    """

    tasks: tuple[str, ...]
    method: Method
    shared: SharedPart
    update_scale: UpdateScale
    at: At
    watches: StepWatches
    step_count: int = 0

    @property
    def scale(self) -> float:
        """The factor that brings the method's update to the scale asked for."""
        if self.update_scale == "method" or self.method.scale == self.update_scale:
            return 1.0
        return float(len(self.tasks)) if self.update_scale == "sum" else 1.0 / len(self.tasks)

    def __str__(self) -> str:
        layers = shared_layers(self.shared.module)
        parameters = sum(p.numel() for layer in layers.values() for p in layer)
        parts = [
            f"{network_name(self.shared.module)}: {len(layers)} layers, {parameters:,} parameters",
            f"tasks: {', '.join(self.tasks)}",
            f"method: {self.method}",
            *([f"analyzer: {self.shared.analyzer}"] if self.shared.analyzer is not None else []),
            *([f"update_scale: {self.update_scale}"] if self.update_scale != "method" else []),
            *([f"at: {self.at}"] if self.at != "parameters" else []),
        ]
        return "; ".join(parts)


def checked_setting(
    shared: Shared, tasks: Sequence[str], method: Method | str, update_scale: UpdateScale, at: At
) -> Setting:
    """The setting of an engine from the arguments of :class:`recon.Engine`.

    Raises:
        ValueError: Tasks are repeated or missing, nothing is shared, the method or the scale is
            unknown, or method or network have no use for gradients at the representation.
        TypeError: The shared part is no module, or the method is none.
    """
    method = create_method(method) if isinstance(method, str) else method
    if not isinstance(method, Method):
        raise TypeError(f"method must be a recon method, got {method!r}; make one with recon.create_method(name)")
    if update_scale not in get_args(UpdateScale):
        raise ValueError(f"update_scale must be 'method', 'sum' or 'mean', got {update_scale!r}")
    names = check_task_names(tasks)
    if not names:
        raise ValueError("there are no tasks; name at least one")
    module = as_one_module(shared)
    check_at(at, module, method, len(names))
    watches = StepWatches(names, type(method).__name__)
    return Setting(names, method, SharedPart(module, len(names)), update_scale, at, watches)
