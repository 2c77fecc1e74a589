"""Networks are branched after training steps, when modules keep tensors of their last forward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from recon.branching import branch
from recon.branching.copying import deep_copy

TASKS = ("left", "right")


class KeepsTensors(nn.Module):
    """Keeps a loss of its own, and features in a list and in an object, as mixtures of experts and
    loggers do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 8)
        self.auxiliary: Tensor | None = None
        self.features: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.auxiliary = x.square().mean()
        self.features = [x]
        return self.last(x)


def pruned() -> nn.Module:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))
    prune.l1_unstructured(network[0], "weight", amount=0.5)  # type: ignore[no-untyped-call]
    return network


NETWORKS: dict[str, Callable[[], tuple[nn.Module, str]]] = {
    "kept tensors": lambda: (KeepsTensors(), "last"),
    "pruned": lambda: (pruned(), "2"),
    "pruned and branched": lambda: (pruned(), "0"),
    "weight norm": lambda: (nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.Linear(8, 8)), "1"),
    "spectral norm": lambda: (nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.Linear(8, 8)), "1"),
}


@pytest.mark.filterwarnings("ignore:.*cannot be traced", "ignore:.*weight_norm", "ignore::FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_branched_after_a_training_step(name: str) -> None:
    torch.manual_seed(0)
    network, layer = NETWORKS[name]()
    x = torch.randn(4, 6)
    network(x).square().mean().backward()
    net = branch(network, [layer], TASKS).eval()
    network.eval()
    for task in TASKS:
        assert torch.equal(net(x)[task], network(x))
        assert torch.equal(net.extract(task)(x), network(x))
    outputs = net(x)
    (outputs["left"].sum() + outputs["right"].sum()).backward()  # none of it reaches the graph of before
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_copied_tensors_with_a_graph_keep_their_values_and_identities() -> None:
    leaf = torch.ones(2, requires_grad=True)
    made = leaf * 3
    held = {"a": made, "b": [made, leaf]}
    copied = deep_copy(held)
    assert copied["a"] is copied["b"][0] and copied["a"] is not made
    assert torch.equal(copied["a"], made) and copied["a"].grad_fn is None
    assert copied["b"][1].requires_grad and copied["b"][1] is not leaf


def test_a_compiled_block_may_keep_tensors_with_a_graph() -> None:
    torch.manual_seed(0)
    block, last, x = pruned(), nn.Linear(8, 3), torch.randn(4, 6)
    network = branch(nn.Sequential(torch.compile(block, backend="eager"), last), ["1"], TASKS)
    for output in network(x).values():
        assert torch.equal(output, last(block(x)))
