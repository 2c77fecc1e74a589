"""The scaler of a step, and the wrappers of optimizers that have one of their own."""

from typing import Any

import pytest
import torch
from lightning_fabric.wrappers import _FabricOptimizer
from torch import nn

import recon
from recon.engine.scaling import LossScaling


class Lookahead(torch.optim.Optimizer):
    """An optimizer around another one, which knows no scaler."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.optimizer = inner

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step()


def make() -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    return network, torch.optim.SGD(network.parameters(), lr=0.1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_step_with_a_scaler_is_the_step_without(wrapped: bool) -> None:
    moved = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**8)):
        network, optimizer = make()

        def closure(batch: Any = None, network: nn.Linear = network) -> dict[str, torch.Tensor]:
            with torch.autocast("cpu", torch.float16):
                outputs = network(torch.ones(4, 3))
            return {"a": outputs[:, 0].float().square().mean(), "b": (outputs[:, 1].float() - 1).square().mean()}

        engine = recon.Engine(network, ["a", "b"], "pcgrad", scaler=scaler)
        engine.step(closure, Lookahead(optimizer) if wrapped else optimizer)
        moved.append(network.weight.detach().clone())
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(moved[0], make()[0].weight)


def test_the_optimizers_of_lightning_step_by_their_own_scaler() -> None:
    _, optimizer = make()
    scaling = LossScaling(torch.amp.GradScaler("cpu"))
    wrapper = _FabricOptimizer(optimizer, strategy=None)  # type: ignore[arg-type]
    assert isinstance(wrapper, torch.optim.Optimizer)
    assert scaling.stepping(wrapper) is wrapper
    assert scaling.stepping(optimizer) is not optimizer
    assert LossScaling(None).stepping(optimizer) is optimizer
