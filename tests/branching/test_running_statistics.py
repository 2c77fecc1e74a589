"""Norms that stay shared behind a branched layer, with one set of running statistics per task."""

import copy
import pickle
import warnings

import pytest
import torch
from separate_copies import differences_after_training, still
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from recon.branching import BranchedModule, branch
from recon.branching.growth import flops
from recon.branching.running_statistics import running_statistics
from recon.gradients.layers import shared_layers

TASKS = ("left", "right")


class Network(nn.Module):
    """Norms before, in and behind the middle, which is branched in most tests."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.early, self.norm1 = nn.Linear(4, 4), nn.BatchNorm1d(4, **options)  # type: ignore[arg-type]
        self.middle, self.norm2 = nn.Linear(4, 4), nn.BatchNorm1d(4, **options)  # type: ignore[arg-type]
        self.late = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.early(x)).relu()
        return self.late(self.norm2(self.middle(x)).relu())


class ControlFlow(Network):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 1e6 else super().forward(x)


class ControlFlowInTraining(Network):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training and x.sum() > 1e6 else super().forward(x)


class NormalisesByFunction(Network):
    def forward(self, x: Tensor) -> Tensor:
        norm, x = self.norm2, self.middle(self.norm1(x))
        mean, variance = norm.running_mean, norm.running_var
        return self.late(nn.functional.batch_norm(x, mean, variance, norm.weight, norm.bias, self.training))


class UsesNormTwice(Network):
    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.norm2(self.norm1(self.early(x))).relu())
        return self.late(self.norm1(x))


class SecondInput(Network):
    """The second norm is reached with a second input only."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = self.late(self.middle(self.norm1(self.early(x))))
        return x if y is None else x + self.norm2(self.middle(y))


class Convolutions(nn.Module):
    """An instance norm behind the branch, and a norm inside a module that the trace does not
    enter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.encoder.norm1 = nn.Sequential(nn.Flatten(0, 1), nn.BatchNorm1d(4), nn.Unflatten(0, (-1, 16)))
        self.encoder.norm1.eps = 0.0  # unlike that of the other norm: no fused operation takes the place of both

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.norm(self.conv(x)).flatten(2).mT)


class RunningNorm(nn.Module):
    """A norm that is none of torch's, whose counter has a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("running_square", torch.ones(4))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        square = self.running_square
        if self.training:
            self.steps += 1
            square = x.square().mean(0)
            self.running_square.lerp_(square.detach(), 1 / self.steps.item())
        return self.scale * x / square.sqrt()


def per_task(network: nn.Module, layers: list[str], tasks: tuple[str, ...] = TASKS) -> BranchedModule:
    return branch(network, layers, tasks, statistics="per_task")


def train(net: nn.Module, batches: int = 3) -> None:
    net.train()
    with torch.no_grad():
        for seed in range(batches):
            net(torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)).to(next(net.parameters())))


def apart(net: BranchedModule) -> BranchedModule:
    """The network with unlike copies."""
    with torch.no_grad():
        for i, task in enumerate(TASKS):
            for parameter in net.branch_parameters(task):
                parameter.mul_(1 + i).add_(2 * i)
    return net


def names_of_statistics(net: BranchedModule) -> set[str]:
    return {name for name, _ in net.named_buffers()}


def test_evaluation_is_what_training_converges_to_only_with_statistics_per_task() -> None:
    torch.manual_seed(0)
    network, x = Network(momentum=0.5).double(), torch.randn(4096, 4).double()
    errors = {}
    for statistics in ("shared", "per_task"):
        net = apart(branch(network, ["middle"], TASKS, statistics=statistics))
        with torch.no_grad():
            for _ in range(60):
                expected = net.train()(x)
            found = net.eval()(x)
        errors[statistics] = [((found[t] - expected[t]).norm() / expected[t].norm()).item() for t in TASKS]
    assert max(errors["per_task"]) < 1e-3  # running variances are unbiased, those of a batch are not
    assert min(errors["shared"]) > 0.1


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize(
    "network",
    [
        Network(),
        Network(momentum=None),
        Network(affine=False),
        Network(track_running_stats=False),
        NormalisesByFunction(),
        UsesNormTwice(),
    ],
    ids=["plain", "momentum-none", "affine-false", "no-statistics", "by-function", "used-twice"],
)
@pytest.mark.parametrize("layers", [["middle"], ["early"], ["early", "late"]], ids="-".join)
def test_trained_network_equals_tied_copies(network: nn.Module, layers: list[str]) -> None:
    torch.manual_seed(0)
    batches = list(torch.randn(4, 8, 4).double())
    found = differences_after_training(still(copy.deepcopy(network)), layers, batches, ("a", "b", "c"))
    assert max(found.values()) < 1e-10, found


@pytest.mark.parametrize("network", [ControlFlow, ControlFlowInTraining])
def test_untraceable_network_equals_tied_copies_and_keeps_all_statistics_per_task(network: type[Network]) -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="all between them 2 times.$"):
        found = differences_after_training(still(network()), ["late"], list(torch.randn(4, 8, 4).double()), TASKS)
        net = per_task(network(), ["late"])
    assert max(found.values()) < 1e-10, found
    assert all(name.startswith("branches.") for name in names_of_statistics(net))
    train(net, batches=3)
    assert net.branches["left"].norm1.num_batches_tracked == 3


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("layers", [["conv"], ["encoder.linear1"], ["encoder.norm1.1"]], ids="-".join)
def test_other_norms_and_norms_inside_modules_that_are_not_entered(layers: list[str]) -> None:
    torch.manual_seed(0)
    batches = list(torch.randn(3, 2, 3, 6, 6).double())
    found = differences_after_training(still(Convolutions()), layers, batches, TASKS)
    assert max(found.values()) < 1e-10, found


def test_norms_of_other_libraries_are_known_by_the_names_of_their_buffers() -> None:
    net = apart(per_task(nn.Sequential(nn.Linear(4, 4), RunningNorm()), ["0"]))
    train(net, batches=5)
    own = [net.branches[task].get_submodule("1") for task in TASKS]
    assert own[0].scale is own[1].scale
    assert [norm.steps.item() for norm in own] == [5, 5]
    assert not torch.allclose(own[0].running_square, own[1].running_square, rtol=0.1)


def test_running_statistics_are_those_of_norms_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False), nn.LayerNorm(4))
    network.register_buffer("table", torch.zeros(4))
    assert running_statistics(network) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_only_norms_behind_the_branch_have_statistics_per_task() -> None:
    net = per_task(Network(), ["middle"])
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    expected = {f"branches.{task}.norm2.{buffer}" for task in TASKS for buffer in buffers}
    expected |= {f"shared.norm1.{buffer}" for buffer in buffers}
    assert names_of_statistics(net) == expected
    train(net, batches=2)
    counts = {name: int(buffer) for name, buffer in net.named_buffers() if name.endswith("tracked")}
    assert set(counts.values()) == {2}


def test_norm_used_before_and_behind_the_branch_counts_as_behind() -> None:
    net = per_task(UsesNormTwice(), ["middle"])
    assert all(name.startswith("branches.") for name in names_of_statistics(net))


def test_norm_that_no_known_call_reaches_counts_as_behind() -> None:
    net = apart(per_task(SecondInput(), ["middle"]))
    x, y = torch.randn(2, 8, 4)
    net(x, y)
    plain = {task: net.extract(task).eval() for task in TASKS}
    outputs = net.eval()(x, y)
    assert not torch.equal(plain["left"].norm2.running_mean, plain["right"].norm2.running_mean)
    assert all(torch.equal(outputs[task], plain[task](x, y)) for task in TASKS)


def test_parameters_shared_layers_and_branches_are_those_of_shared_statistics() -> None:
    shared, net = (branch(Network(), ["middle"], TASKS, statistics=s) for s in ("shared", "per_task"))
    for mine, theirs in ((net, shared), (net.branches["left"], shared.branches["left"])):
        own = [p for p in mine.parameters() if mine is net or p not in set(net.shared.parameters())]
        assert [p.shape for p in own] == [p.shape for p in theirs.parameters()]
    assert net.layers == shared.layers == ("middle",)
    assert dict(net.named_parameters()).keys() == dict(shared.named_parameters()).keys()
    assert [p.shape for p in net.branch_parameters("left")] == [p.shape for p in shared.branch_parameters("left")]
    layers = [shared_layers(network) for network in (net, shared)]
    assert [(name, len(own)) for name, own in layers[0].items()] == [
        (name, len(own)) for name, own in layers[1].items()
    ]
    assert net.branches["left"].norm2.weight is net.branches["right"].norm2.weight is net.shared.norm2.weight
    x = torch.randn(8, 4)
    assert flops(net, x) == flops(shared, x)


def test_training_step_is_that_of_shared_statistics() -> None:
    network, x = Network(), torch.randn(8, 4)
    gradients = []
    for statistics in ("shared", "per_task"):
        net = apart(branch(network, ["middle"], TASKS, statistics=statistics))
        sum(output.square().sum() * (i + 1) for i, output in enumerate(net(x).values())).backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    assert all(torch.equal(gradients[0][name], gradient) for name, gradient in gradients[1].items())


@pytest.mark.parametrize("init", ["copy", "reset", Network], ids=["copy", "reset", "factory"])
def test_statistics_start_from_the_backbone(init: object) -> None:
    network = still(Network()).float()
    net = branch(network, ["middle"], TASKS, init=init, statistics="per_task")  # type: ignore[arg-type]
    for task in TASKS:
        assert torch.equal(net.branches[task].norm2.running_var, network.norm2.running_var)
    net.branches["left"].norm2.running_var.add_(1)
    assert torch.equal(net.branches["right"].norm2.running_var, network.norm2.running_var)


def test_extract_gives_the_statistics_of_the_task() -> None:
    net = apart(per_task(Network(), ["middle"]))
    train(net)
    x = torch.randn(8, 4)
    outputs = net.eval()(x)
    for task in TASKS:
        plain = net.extract(task)
        assert set(plain.state_dict()) == set(Network().state_dict())
        assert torch.equal(plain.norm2.running_mean, net.branches[task].norm2.running_mean)
        assert torch.equal(plain(x), outputs[task])
    plain.train()(x).sum().backward()
    assert net.shared.norm2.weight.grad is None
    assert torch.equal(net(x)["right"], outputs["right"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("network", [Network, Convolutions])
def test_copy_keeps_statistics_and_ties(network: type[nn.Module], again: object) -> None:
    net = per_task(network(), ["middle"] if network is Network else ["conv"])
    x = torch.randn(8, 4) if network is Network else torch.randn(2, 3, 6, 6)
    net(x)
    other = again(net)  # type: ignore[operator]
    assert len(list(other.parameters())) == len(list(net.parameters()))
    assert not set(map(id, other.buffers())) & set(map(id, net.buffers()))
    before = net.eval()(x)
    assert all(torch.equal(other.eval()(x)[task], before[task]) for task in TASKS)
    other.train()(x)
    assert all(torch.equal(net(x)[task], before[task]) for task in TASKS)


def test_state_names_survive_conversion_and_loading() -> None:
    net = apart(per_task(Network(), ["middle"]))
    names = list(net.state_dict())
    assert [name for name in names if "norm2" in name and "running_mean" in name] == [
        f"branches.{task}.norm2.running_mean" for task in TASKS
    ]
    train(net.double())
    other = per_task(Network(), ["middle"]).double()
    other.load_state_dict(net.state_dict())
    x = torch.randn(8, 4).double()
    assert list(other.state_dict()) == names
    assert all(torch.equal(other.eval()(x)[task], output) for task, output in net.eval()(x).items())


def test_state_without_version_numbers_loads() -> None:
    net = per_task(Network(), ["middle"])
    net.load_state_dict(dict(net.state_dict()))


@pytest.mark.parametrize("network", [Network, Convolutions])
def test_parameters_stay_tied_when_tensors_are_replaced(network: type[nn.Module]) -> None:
    """From the meta device and with assign=True, modules get new parameters one by one."""
    layers = ["middle"] if network is Network else ["conv", "encoder.linear1"]
    with torch.device("meta"):
        net = per_task(network(), layers)
    other = per_task(network(), layers)
    names = [name for name, _ in net.named_parameters()]
    for replace in (lambda: net.to_empty(device="cpu"), lambda: net.load_state_dict(other.state_dict(), assign=True)):
        replace()
        assert [name for name, _ in net.named_parameters()] == names
    assert list(net.state_dict()) == list(other.state_dict())


def test_functional_call_leaves_the_network_as_it_was() -> None:
    net = per_task(Network(), ["middle"])
    before = dict(net.named_parameters())
    other = {name: torch.zeros_like(parameter) for name, parameter in before.items()}
    output = torch.func.functional_call(net, other, (torch.randn(8, 4),))
    assert not any(value.any() for value in output.values())
    assert all(parameter is before[name] for name, parameter in net.named_parameters())


def test_train_and_eval_reach_the_norms_of_every_task() -> None:
    class KeepsNormsInEvaluation(Network):
        def train(self, mode: bool = True) -> "KeepsNormsInEvaluation":
            super().train(mode)
            self.norm2.eval()
            return self

    net = per_task(KeepsNormsInEvaluation(), ["middle"]).train()
    train(net)
    assert all(net.branches[task].norm2.num_batches_tracked == 0 for task in TASKS)
    assert net.shared.norm1.num_batches_tracked == 3


def test_statistics_are_found_by_what_walks_over_norms() -> None:
    net = apart(per_task(Network(), ["middle"]))
    x = torch.randn(64, 4)
    update_bn([x], net)
    outputs = net.train()(x)
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(net.branches["left"].norm2, nn.SyncBatchNorm)
    assert net.branches["left"].norm2.weight is net.shared.norm2.weight
    found = net.eval()(x)
    assert all((found[task] - outputs[task]).norm() < 0.05 * outputs[task].norm() for task in TASKS)


def test_compiled_without_breaks_in_the_graph() -> None:
    net = apart(per_task(Network(), ["middle"]))
    train(net)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    x = torch.randn(8, 4)
    for mode in (True, False):
        net.train(mode)
        expected = copy.deepcopy(net)(x)
        assert all(torch.equal(output, expected[task]) for task, output in compiled(x).items())


def test_print_counts_the_norms() -> None:
    line = "  per task: running statistics of 1 unbranched module"
    assert line in repr(per_task(Network(), ["middle"])).splitlines()
    assert "per task: " not in repr(per_task(Network(), ["middle", "norm2"]))
    assert "per task: " not in repr(branch(Network(), ["middle"], TASKS))


def test_trunk_is_that_of_shared_statistics() -> None:
    plans = [repr(branch(Network(), ["middle"], TASKS, statistics=s)).splitlines()[-2] for s in ("shared", "per_task")]
    assert plans[0] == plans[1]


def test_backbone_is_not_altered_and_nothing_is_drawn() -> None:
    network = Network().eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with warnings.catch_warnings(action="error"):
        train(apart(per_task(network, ["middle"])))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_unknown_kind_of_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="statistics is 'each'; it must be 'shared' or 'per_task'"):
        branch(Network(), ["middle"], TASKS, statistics="each")  # type: ignore[arg-type]
