"""The settings of all processes, which have to be alike before their first step."""

from collections.abc import Iterable, Mapping
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from recon.engine.setting import Setting
from recon.gradients.layers import shared_layers
from recon.gradients.layout import as_real
from recon.gradients.processes import Processes


def check_same_setting(setting: Setting, processes: Processes) -> None:
    """Refuse processes with different settings, at their first step.

    Raises:
        ValueError: They differ in tasks, layers, method, options, step, or in the values of
            parameters. The error is the same in all processes.
    """
    if setting.agreed_with == processes.number:
        return
    descriptions = processes.gather_objects((_description(setting), _values(setting)))
    first, first_values = descriptions[0]
    for rank, (own, values) in enumerate(descriptions):
        for what, value in own.items():
            if value != first[what]:
                raise ValueError(
                    f"process {rank} has other {what} than process 0: {_difference(value, first[what])}; "
                    "make the engine alike in all processes"
                )
        for part, value in values.items():
            if value != first_values.get(part, value):
                raise ValueError(
                    f"process {rank} has other parameters than process 0 in {part}; start all processes from one "
                    "network: call torch.manual_seed(seed) before it is made, or load the same state in all"
                )
    setting.agreed_with = processes.number


def _description(setting: Setting) -> dict[str, Any]:
    layers = shared_layers(setting.shared.module)
    return {
        "tasks": list(setting.tasks),
        "layers": {name: [tuple(p.shape) for p in own] for name, own in layers.items()},
        "method": repr(setting.method),
        "options": {"update_scale": setting.update_scale, "at": setting.at, "granularity": setting.granularity},
        "analyzer": repr(setting.shared.analyzer),
        "loss scaling": setting.scaling.active,
        "steps before this one": setting.step_count,
    }


def _values(setting: Setting) -> dict[str, int]:
    """A number for the values of each part of the network that this process knows."""
    parts: dict[str, Iterable[Tensor]] = {
        f"layer {name!r}": own for name, own in shared_layers(setting.shared.module).items()
    }
    parts |= {"the heads or branches": own} if (own := setting.own.of([])) else {}
    parts |= {
        f"the head of task {task!r}": learned
        for index, task in enumerate(setting.tasks)
        if (learned := setting.own.learned(index))
    }
    return {part: _checksum(parameters) for part, parameters in parts.items()}


def _checksum(parameters: Iterable[Tensor]) -> int:
    checksum = 0
    for parameter in parameters:
        numbers = as_real(parameter.detach()).contiguous().flatten()
        checksum = crc32(numbers.view(torch.uint8).cpu().numpy().data, checksum)
    return checksum


def _difference(value: Any, first: Any) -> str:
    if isinstance(value, Mapping) and isinstance(first, Mapping):
        for key in [*value, *first]:
            if value.get(key) != first.get(key):
                return f"{key!r} is {value.get(key, 'missing')}, not {first.get(key, 'missing')}"
    return f"{value}, not {first}"
