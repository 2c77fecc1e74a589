"""Networks inside wrappers: names, and copies without them."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import recon
from recon.branching.copying import without_wrappers
from recon.gradients.layers import network_name, root_name, shared_layers
from recon.gradients.wrappers import NotShared, shared_modules


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Tanh()))


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")  # type: ignore[return-value]


def with_a_compiled_block() -> nn.Module:
    net = network()
    net[2] = compiled(net[2])
    return net


def in_fabric() -> nn.Module:
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup_module(network())


def with_a_checkpointed_block() -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    net = network()
    net[2] = checkpoint_wrapper(net[2])
    return net


WRAPPED: list[Callable[[], nn.Module]] = [
    lambda: compiled(network()),
    lambda: nn.DataParallel(network()),
    lambda: nn.DataParallel(compiled(network())),
    lambda: compiled(with_a_compiled_block()),
    with_a_compiled_block,
    in_fabric,
    with_a_checkpointed_block,
]


@pytest.mark.parametrize("make", WRAPPED)
def test_layers_are_named_as_in_the_network_itself(make: Callable[[], nn.Module]) -> None:
    wrapped = make()
    layers = shared_layers(wrapped)
    assert list(layers) == ["0", "2.0"]
    assert network_name(wrapped) == "Sequential"
    assert {p for own in layers.values() for p in own} == set(wrapped.parameters())


@pytest.mark.parametrize("make", WRAPPED)
def test_a_map_of_the_wrapped_network_branches_wrapped_and_plain_networks(make: Callable[[], nn.Module]) -> None:
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    wrapped = make()
    expected = network()(x)
    for backbone in (wrapped, network()):
        branched = recon.branch(backbone, ["2.0"], ["a", "b"])
        assert list(branched.state_dict()) == list(recon.branch(network(), ["2.0"], ["a", "b"]).state_dict())
        for features in branched(x).values():
            torch.testing.assert_close(features, expected)
    assert [name for name, _ in wrapped.named_parameters()] == [name for name, _ in make().named_parameters()]


def test_fresh_networks_for_branches_may_be_wrapped() -> None:
    def fresh() -> nn.Module:
        net = with_a_compiled_block()
        nn.init.constant_(net[2].get_parameter("_orig_mod.0.bias"), 7.0)
        return net

    branched = recon.branch(network(), ["2.0"], ["a", "b"], init=fresh)
    assert all((branched.get_parameter(f"branches.{task}.2.0.bias") == 7).all() for task in ("a", "b"))


def test_a_copy_without_wrappers_holds_the_same_tensors_and_is_made_only_if_needed() -> None:
    net = network()
    assert without_wrappers(net) is net
    assert without_wrappers(compiled(net)) is net
    inner = with_a_compiled_block()
    plain = without_wrappers(inner)
    assert [(name, id(p)) for name, p in plain.named_parameters()] == [
        (name.replace("_orig_mod.", ""), id(p)) for name, p in inner.named_parameters()
    ]


def test_a_child_called_module_is_no_wrapper() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    assert list(shared_layers(Own())) == ["module"]
    assert list(shared_layers(AveragedModel(nn.Linear(2, 2)))) == ["module"]


def test_modules_come_in_the_order_and_with_the_names_of_torchs_own_walk() -> None:
    net = nn.Sequential(network(), nn.ReLU(), network())
    net.append(net[0][2])  # one module in two places has its first name
    assert list(shared_modules(net)) == list(net.named_modules())


def test_a_branched_part_among_others_counts_with_what_is_shared_of_it() -> None:
    branched = recon.branch(network(), ["0"], ["a", "b"])
    parts = nn.ModuleDict({"encoder": compiled(branched), "neck": nn.Linear(8, 8)})
    assert list(shared_layers(parts)) == ["encoder.2.0", "neck"]
    with pytest.raises(ValueError, match="a branched network has features for each task"):
        recon.Engine(parts, ["a", "b"], recon.create_method("mgda"), at="representation")


# A root that is named like its child ----------------------------------------------------------------------------------


class encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.arange(6.0))
        self.encoder = nn.Linear(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x + self.token)


def test_a_root_named_like_its_child_is_a_layer_beside_it() -> None:
    net = encoder()
    assert shared_layers(net) == {"encoder_root": [net.token], "encoder": list(net.encoder.parameters())}
    assert root_name(network()) == "Sequential"
    analyzer = recon.ConflictAnalyzer(net, ["a", "b"])
    assert analyzer.parameters == {"encoder_root": 6, "encoder": 56}


@pytest.mark.parametrize(("layer", "shared"), [("encoder_root", "encoder"), ("encoder", "encoder_root")])
def test_either_of_them_can_be_branched(layer: str, shared: str) -> None:
    net = encoder()
    branched = recon.branch(copy.deepcopy(net), [layer], ["a", "b"])
    assert list(branched.shared_layers()) == [shared]
    own = {"encoder_root": [net.token], "encoder": list(net.encoder.parameters())}[layer]
    torch.testing.assert_close(branched.branch_parameters("a"), own)
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(branched(x)["b"], net(x))


@pytest.mark.filterwarnings("ignore:layer .encoder_root. .encoder. has no reset_parameters")
def test_a_root_that_cannot_be_reset_is_warned_of_by_its_layer_name() -> None:
    with pytest.warns(UserWarning, match="layer 'encoder_root'"):
        recon.branch(encoder(), ["encoder_root"], ["a", "b"], init="reset")


class Mixing(nn.Sequential, NotShared):
    pass


def test_a_module_that_says_that_it_is_not_shared_is_no_layer() -> None:
    net = nn.Sequential(nn.Linear(6, 8), Mixing(nn.Linear(8, 8)), nn.Linear(8, 2))
    assert [*shared_layers(net)] == ["0", "2"]
    branched = recon.branch(net, ["2"], ["a", "b"])
    assert [*shared_layers(branched)] == ["0"]
