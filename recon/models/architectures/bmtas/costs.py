"""The floating-point operations of one copy of each stage."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recon.branching.copying import modes_of, set_modes


def stage_costs(network: nn.Module, stages: Mapping[str, nn.Module], args: Any, kwargs: Any) -> Tensor:
    """Count the operations of stages during one forward in evaluation; a multiply-add is two.

    Args:
        network: The network; its flags and statistics stay as they are.
        stages: Name -> module of the network.
        args: An example of its positional inputs.
        kwargs: Its keyword arguments.

    Returns:
        ``(L,)`` in float64, in the order of the stages.

    Raises:
        ValueError: A stage is not called once, or the stages run in another order.
    """
    calls: list[str] = []
    costs = dict.fromkeys(stages, 0.0)

    def enter(stage: str, *_: Any) -> None:
        calls.append(stage)
        costs[stage] -= counter.get_total_flops()

    def leave(stage: str, *_: Any) -> None:
        costs[stage] += counter.get_total_flops()

    modes, handles = modes_of(network), []
    try:
        for stage, module in stages.items():
            handles.append(module.register_forward_pre_hook(partial(enter, stage)))
            handles.append(module.register_forward_hook(partial(leave, stage)))
        network.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        set_modes(network, modes)
    _check_calls(calls, list(stages))
    return torch.tensor([*costs.values()], dtype=torch.float64)


def _check_calls(calls: list[str], stages: list[str]) -> None:
    for stage in stages:
        if calls.count(stage) != 1:
            raise ValueError(
                f"stage {stage!r} is called {calls.count(stage)} times in a forward; name a module that is called once"
            )
    if calls != stages:
        raise ValueError(f"the stages run in the order {calls}; name them in this order, not {stages}")
