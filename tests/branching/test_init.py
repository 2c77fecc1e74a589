import pytest
import torch
from torch import Tensor, nn

from recon.branching import branch

TASKS = ("left", "right")


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def backbone() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Scale(), nn.Linear(4, 4))
    with torch.no_grad():
        network[1].weight.uniform_()
        network[1].running_mean.uniform_()
        network[2].weight.uniform_()
    return network


def values(net: nn.Module, name: str) -> tuple[Tensor, ...]:
    return tuple(net.get_submodule(f"branches.{task}").state_dict()[name] for task in TASKS)


def test_copies_start_from_the_backbone() -> None:
    network = backbone()
    net = branch(network, ["0", "1"], TASKS)
    for name in ("0.weight", "1.weight", "1.running_mean"):
        for value in values(net, name):
            assert torch.equal(value, network.state_dict()[name])


def test_reset_copies_start_from_their_own_initialisation() -> None:
    network = backbone()
    net = branch(network, ["0", "1"], TASKS, init="reset")
    left, right = values(net, "0.weight")
    assert not torch.equal(left, right)
    assert not torch.equal(left, network[0].weight)
    for value in values(net, "1.running_mean"):
        assert not value.any()
    assert torch.equal(net.shared[3].weight, network[3].weight)


def test_layer_that_cannot_be_reset_is_copied_with_a_warning() -> None:
    network = backbone()
    with pytest.warns(UserWarning, match=r"layer '2' \(Scale\) has no reset_parameters; copied") as caught:
        net = branch(network, ["2"], TASKS, init="reset")
    assert len(caught) == 1
    for value in values(net, "2.weight"):
        assert torch.equal(value, network[2].weight)


def test_reset_leaves_tied_and_inner_parameters_alone() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    net = branch(network, ["1"], TASKS, init="reset")  # only its bias is its own
    assert torch.equal(net.shared[0].weight, network[0].weight)
    assert net.branches["left"].get_submodule("1").weight is net.shared[0].weight


def test_factory_makes_a_fresh_network_for_every_task() -> None:
    made: list[nn.Module] = []

    def factory() -> nn.Module:
        made.append(backbone())
        return made[-1]

    net = branch(backbone(), ["0", "1"], TASKS, init=factory)
    assert len(made) == 2
    for name in ("0.weight", "0.bias", "1.weight", "1.running_mean"):
        for value, fresh in zip(values(net, name), made, strict=True):
            assert torch.equal(value, fresh.state_dict()[name])


def test_factory_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the network that init made has no '0\.bias'"):
        branch(backbone(), ["0"], TASKS, init=lambda: nn.Sequential(nn.Linear(4, 4, bias=False)))
    with pytest.raises(ValueError, match=r"'0.weight' has shape \(4, 5\) in the network that init made"):
        branch(backbone(), ["0"], TASKS, init=lambda: nn.Sequential(nn.Linear(5, 4)))


def test_unknown_init_is_refused() -> None:
    with pytest.raises(ValueError, match="init is 'zeros'; it must be 'copy', 'reset' or a function"):
        branch(backbone(), ["0"], TASKS, init="zeros")  # type: ignore[arg-type]
