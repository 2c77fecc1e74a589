"""Where tensors live in a branched network: names, ties, and what moves, saves and takes them out
again.
"""

import copy
import pickle

import pytest
import torch
from separate_copies import differences, still
from torch import Tensor, nn

from recon.branching import BranchedModule, branch
from recon.gradients.layers import shared_layers

TASKS = ("left", "right")


class Tokens(nn.Module):
    """A class token, a layer scale and a table that are read directly, beside a buffer and
    modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.register_buffer("offset", torch.randn(4))
        self.block = Block()
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.offset.exp()
        return self.head(self.block(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(4))
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = nn.functional.linear(x, self.qkv.weight, self.qkv.bias).chunk(3, -1)
        return x + self.gamma * nn.functional.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.encoder(x + self.attention(x, x, x, need_weights=False)[0])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4))
        self.activation = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class UsesInsideOfLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale()
        self.weights = nn.ParameterList([torch.rand(4), torch.rand(4)])

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = self.scale.activation(self.scale(x) + weight)
        return x


class Twice(nn.Module):
    """One module under two names, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.blocks = nn.ModuleList([self.norm, nn.Linear(4, 4), self.norm])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc((x + self.block(x)).mean((2, 3)))


LAYERS = ["block.1", "fc"]
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def residual() -> BranchedModule:
    return branch(Residual(), LAYERS, TASKS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", ["Tokens", "block", "block.qkv", "head"])
def test_parameters_read_directly_belong_to_their_module(layer: str, training: bool) -> None:
    found = differences(Tokens().double(), [layer], [torch.randn(2, 3, 4).double()], training, TASKS)
    assert max(found.values()) < 1e-12, found


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize(
    "layer", ["embed", "attention", "attention.out_proj", "encoder.linear1", "encoder.self_attn", "encoder.norm2"]
)
def test_layer_inside_a_module_that_is_not_entered(layer: str) -> None:
    found = differences(still(Attention()), [layer], [torch.randn(2, 3, 4).double()], True, TASKS)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize("layers", [["first"], ["second"], ["third"], ["first", "second"]], ids="-".join)
def test_tied_parameters_stay_tied(layers: list[str]) -> None:
    found = differences(Tied().double(), layers, [torch.randn(3, 4).double()], True, TASKS)
    assert max(found.values()) < 1e-12, found


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("layer", ["scale", "weights"])
def test_inside_of_a_branched_layer_is_used_from_outside(layer: str) -> None:
    found = differences(UsesInsideOfLayer().double(), [layer], [torch.randn(3, 4).double()], True, TASKS)
    assert max(found.values()) < 1e-12, found


@pytest.mark.parametrize("layer", ["norm", "stem", "blocks.1"])
def test_module_used_twice(layer: str) -> None:
    found = differences(Twice().double(), [layer], [torch.randn(5, 4).double()], False, TASKS)
    assert max(found.values()) < 1e-12, found


def test_names_are_those_of_the_backbone() -> None:
    names = list(Residual().state_dict())
    own = [name for name in names if name.startswith(("block.1.", "fc."))]
    expected = {f"shared.{name}" for name in names if name not in own}
    expected |= {f"branches.{task}.{name}" for task in TASKS for name in own}
    assert set(residual().state_dict()) == expected


def test_shared_layers_and_branch_parameters_are_apart_and_complete() -> None:
    net = residual()
    backbone = Residual()
    assert list(net.shared_layers()) == [name for name in shared_layers(backbone) if name not in net.layers]
    shared = {p for layer in net.shared_layers().values() for p in layer}
    branches = [set(net.branch_parameters(task)) for task in TASKS]
    assert set(net.parameters()) == shared | branches[0] | branches[1]
    assert not shared & branches[0] and not branches[0] & branches[1]
    assert len(branches[0]) == 4


def test_branch_parameters_leave_out_what_stays_tied_to_shared_ones() -> None:
    net = branch(Attention(), ["attention.out_proj"], TASKS)
    assert [tuple(p.shape) for p in net.branch_parameters("left")] == [(4, 4), (4,)]
    assert "attention" in net.shared_layers()


def test_backbone_is_not_altered() -> None:
    backbone = Residual().eval()
    before, modules = copy.deepcopy(backbone.state_dict()), list(backbone.named_modules())
    net = branch(backbone, list(shared_layers(backbone)), TASKS, init="reset")
    net.train()(IMAGES)["left"].sum().backward()
    assert list(backbone.named_modules()) == modules
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


def test_extract_gives_an_independent_backbone_of_the_task() -> None:
    net = residual().eval()
    with torch.no_grad():
        net.branches["right"].get_submodule("fc").bias.add_(1)
    x = IMAGES
    before = net(x)
    plain = net.extract("right")
    assert type(plain) is Residual
    assert set(plain.state_dict()) == set(Residual().state_dict())
    assert torch.equal(plain(x), before["right"])
    plain.train()(x).sum().backward()
    assert all(torch.equal(net(x)[task], before[task]) for task in TASKS)
    assert all(parameter.grad is None for parameter in net.parameters())
    with pytest.raises(ValueError, match="unknown task 'rigth'; nearest: 'right'"):
        net.extract("rigth")


def test_extract_keeps_ties() -> None:
    plain = branch(Tied(), ["first"], TASKS).extract("left")
    assert plain.first.weight is plain.second.weight


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_copy_is_equal_and_independent(again: object) -> None:
    net = residual().eval()
    x = IMAGES
    before = net(x)
    other = again(net)  # type: ignore[operator]
    assert (other.layers, other.tasks, repr(other)) == (net.layers, net.tasks, repr(net))
    assert all(torch.equal(other(x)[task], before[task]) for task in TASKS)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert all(torch.equal(net(x)[task], before[task]) for task in TASKS)


def test_copy_keeps_what_is_tied() -> None:
    net = copy.deepcopy(branch(Attention(), ["attention.out_proj"], TASKS))
    assert net.branches["left"].attention.in_proj_weight is net.shared.attention.in_proj_weight


class Statistics(nn.Module):
    """A module that the trace does not enter, with statistics in and below it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.encoder.norm1 = nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm1d(4), nn.Unflatten(0, (-1, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@pytest.mark.parametrize("layer", ["encoder.linear1", "encoder.norm1.1"])
def test_conversion_reaches_every_tensor(layer: str) -> None:
    torch.manual_seed(0)
    net = branch(Statistics(), [layer], TASKS).double()
    x = torch.randn(2, 3, 4).double()
    net(x)
    plain = {task: net.extract(task) for task in TASKS}
    outputs = net(x)
    assert all(tensor.dtype != torch.float32 for tensor in net.state_dict().values())
    for task in TASKS:
        assert torch.equal(outputs[task], plain[task](x))
    shared = net.shared.encoder.norm1[1]
    if layer == "encoder.linear1":
        assert shared.num_batches_tracked == 4
        assert net.extract("left").encoder.norm1[1].running_mean.equal(shared.running_mean)


@pytest.mark.parametrize("layer", ["Tokens", "block", "block.qkv", "head"])
def test_conversion_adds_no_state(layer: str) -> None:
    net = branch(Tokens(), [layer], TASKS)
    names = list(net.state_dict())
    assert list(net.double().state_dict()) == names


def test_functional_call_leaves_tied_parameters_as_they_were() -> None:
    net = branch(Attention(), ["attention.out_proj"], TASKS)
    before = dict(net.named_parameters())
    zeros = {name: torch.zeros_like(parameter) for name, parameter in before.items()}
    torch.func.functional_call(net, zeros, (torch.randn(2, 3, 4),))
    assert all(parameter is before[name] for name, parameter in net.named_parameters())


def test_state_dict_loads() -> None:
    net, other = residual(), branch(Residual(), LAYERS, TASKS)
    other.load_state_dict(net.state_dict())
    x = IMAGES
    assert all(torch.equal(net.eval()(x)[task], other.eval()(x)[task]) for task in TASKS)


def test_modules_exchanged_later_are_used() -> None:
    net = nn.SyncBatchNorm.convert_sync_batchnorm(residual())
    assert isinstance(net.branches["left"].get_submodule("block.1"), nn.SyncBatchNorm)
    x = IMAGES
    assert torch.equal(net.eval()(x)["left"], net.extract("left")(x))


def test_shared_network_says_that_it_cannot_run_alone() -> None:
    with pytest.raises(RuntimeError, match="tasks have their own 'fc'; run the branched network"):
        branch(Residual(), ["fc"], TASKS).shared(IMAGES)
