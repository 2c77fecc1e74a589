"""BMTAS against the formulas of Bruggemann et al., BMVC 2020, with a network written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.models import BMTAS, LeNet, ResNet18, timm_backbone
from recon.models.architectures.bmtas.network import BMTASNetwork

TASKS = ["a", "b", "c"]


def network(**options: Any) -> BMTASNetwork:
    torch.manual_seed(0)
    net = BMTAS(lambda: LeNet(features=5), ["conv1", "conv2"], **options).for_tasks(TASKS).double()
    for parameter in net.parameters():  # copies start alike
        nn.init.normal_(parameter, std=0.3)
    return net


def written_out(net: BMTASNetwork, task: int, weights: list[Tensor], x: Tensor) -> Tensor:
    """One task's LeNet, whose two convolutions are weighted sums over the copies."""
    state = dict(net.named_parameters())
    for layer, own in zip(("conv1", "conv2"), weights, strict=True):
        kernels = [
            F.conv2d(x, state[f"backbone.{layer}.copies.{copy}.weight"], state[f"backbone.{layer}.copies.{copy}.bias"])
            for copy in range(3)
        ]
        mixed = torch.stack([own[copy] * kernels[copy] for copy in range(3)]).sum(dim=0)
        x = F.max_pool2d(F.relu(mixed), 2)
    return F.relu(x.flatten(1) @ state["backbone.fc.weight"].T + state["backbone.fc.bias"])


def test_in_training_each_task_mixes_copies_by_soft_draws_of_its_own() -> None:
    net, x = network(), torch.rand(4, 1, 36, 36, dtype=torch.float64)
    net.begin_epoch(7, 10)
    torch.manual_seed(5)
    features = net(x)
    torch.manual_seed(5)
    expected = {}
    for number, task in enumerate(TASKS):
        draws = [F.gumbel_softmax(choice.logits[number], tau=net.temperature) for choice in net.choices]
        expected[task] = written_out(net, number, draws, x)
    torch.testing.assert_close(features, expected)
    logits = [choice.logits for choice in net.choices]
    grads = [torch.autograd.grad(sum(own.sum() for own in each.values()), logits) for each in (features, expected)]
    torch.testing.assert_close(*grads)
    assert all(grad.abs().max() > 0 for grad in grads[0])


def test_in_the_warm_up_task_t_takes_copy_t_and_in_evaluation_the_likeliest() -> None:
    net, x = network(), torch.rand(4, 1, 36, 36, dtype=torch.float64)
    net.begin_epoch(0, 40)
    one_hot = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(net(x)["b"], written_out(net, 1, [one_hot[1]] * 2, x))
    net.begin_epoch(2, 40)
    net.eval()
    likeliest = [one_hot[int(choice.logits[1].argmax())] for choice in net.choices]
    torch.testing.assert_close(net(x)["b"], written_out(net, 1, likeliest, x))
    assert [net.run("b", x).shape, net(x)["b"].shape] == [(4, 5)] * 2


def test_warm_up_and_temperatures_are_those_of_the_authors() -> None:
    net = network()
    seen = []
    for epoch in range(160):
        net.begin_epoch(epoch, 160)
        seen.append((net.warming_up, net.temperature))
    for number, (warming_up, temperature) in enumerate(seen, start=1):  # epochs count from 1 there
        published = min(5.0 - (number - 8 - 1) / (160 - 8 - 1) * (5.0 - 0.1), 5.0)
        assert warming_up == (number <= 8)
        assert temperature == pytest.approx(published)
    short = [(net.begin_epoch(epoch, 3), net.warming_up)[1] for epoch in range(3)]
    assert short == [True, False, False]
    with pytest.raises(ValueError, match="set the trainer's max_epochs"):
        net.begin_epoch(0, -1)


def test_the_tree_parts_tasks_once_and_for_all() -> None:
    net = network()
    for choice, copies in zip(net.choices, ([0, 1, 0], [2, 2, 2]), strict=True):
        choice.logits.data = torch.eye(3)[copies]
    assert net.groups() == {"conv1": (("a", "c"), ("b",)), "conv2": (("a", "c"), ("b",))}
    tree = net.task_tree({"lr": 0.1}, seed=3)
    assert (tree.settings, tree.provenance["seed"], tree.provenance["network"]) == ({"lr": 0.1}, 3, "LeNet")
    assert tree.groups == {"conv1": (("a", "c"), ("b",)), "conv2": (("a", "c"), ("b",))}
    assert tree.stages[0].probabilities[1] == pytest.approx((0.211942, 0.576117, 0.211942))


def test_layers_of_the_tree_have_the_backbones_names() -> None:
    backbone = ResNet18(width=2)
    tree = BMTAS(backbone, ["layer3", "fc"]).for_tasks(TASKS).task_tree()
    assert tree.stages[1].layers == ("fc",)
    inside = [name for name, module in backbone.layer3.named_modules() if [*module.parameters(recurse=False)]]
    assert set(tree.stages[0].layers) == {f"layer3.{name}" for name in inside}


def test_copies_start_as_the_backbone_but_for_the_last_norm_of_a_stage() -> None:
    backbone = ResNet18(width=2)
    nn.init.normal_(backbone.layer2[1].bn2.weight)
    stage = BMTAS(backbone, ["layer1", "layer2"]).for_tasks(TASKS).backbone.layer2
    for copy in stage.copies:
        torch.testing.assert_close(copy[1].conv2.weight, backbone.layer2[1].conv2.weight)
        assert copy[1].bn1.weight.requires_grad
        assert (copy[1].bn2.weight == 1).all() and (copy[1].bn2.bias == 0).all()
        assert not copy[1].bn2.weight.requires_grad and not copy[1].bn2.bias.requires_grad
    assert len({id(copy[1].conv2.weight) for copy in stage.copies}) == 3


def test_statistics_rest_while_choices_learn_and_begin_anew() -> None:
    net = BMTAS(ResNet18(width=2), ["layer1"]).for_tasks(TASKS)
    x = torch.rand(4, 1, 36, 36)
    norm = net.backbone.layer1.copies[0][0].bn1
    with net.statistics_kept():
        kept = net(x)["a"]
        assert norm.num_batches_tracked == 0
    net(x)
    assert norm.num_batches_tracked == 3
    net.reset_statistics()
    assert norm.num_batches_tracked == 0 and (norm.running_mean == 0).all() and kept.isfinite().all()


def test_costs_are_the_operations_of_one_copy() -> None:
    net = BMTAS(lambda: LeNet(features=5), ["conv1", "conv2", "fc"]).for_tasks(TASKS).train()
    conv1, conv2, fc = net.costs(torch.zeros(2, 1, 36, 36)).tolist()
    weights = [LeNet(features=5).get_parameter(f"{layer}.weight") for layer in ("conv1", "conv2", "fc")]
    shapes = [net.backbone.conv1(torch.zeros(2, 1, 36, 36)).shape]
    assert conv1 == 2 * weights[0].numel() * 2 * shapes[0][2] * shapes[0][3]
    assert fc == 2 * weights[2].numel() * 2
    assert conv2 > fc and net.training and net.backbone.conv1.training


class Twice(nn.Module):
    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.none = nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()

    def forward(self, x: Tensor) -> dict[str, Any]:
        if x.sum() < 0:  # no trace passes here
            return {"out": self.two(self.one(self.one(x)))}
        x = self.none(self.two(self.one(x)))
        return {"out": x, "more": (x, 3)}


def test_any_module_will_do_and_outputs_may_be_nested() -> None:
    class Nested(Twice):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Twice()

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    net = BMTAS(Nested(), ["inner"]).for_tasks(TASKS)
    features = net(torch.ones(3, 2))
    assert features["a"]["out"].shape == (3, 2) and features["a"]["more"][1] == 3


def test_inputs_are_not_overwritten_by_a_copy() -> None:
    backbone = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Hardtanh(0.1, 0.2, inplace=True), nn.Linear(2, 2)))
    net = BMTAS(backbone, ["1"]).for_tasks(TASKS)
    net(torch.ones(3, 2))["a"].sum().backward()
    assert backbone[0].weight is not net.backbone[0].weight
    assert net.backbone[0].weight.grad is not None


@pytest.mark.parametrize(
    ("stages", "options", "text"),
    [
        (["one", "tow"], {}, "unknown stage 'tow' in Twice; nearest: 'two'"),
        ("one", {}, r"give a list of names: \['one'\]"),
        ([], {}, "stages is empty; name one or more"),
        (["one", "one"], {}, "stage 'one' is named 2 times; name it once"),
        (["none"], {}, "stage 'none' of Twice has no parameters; name one that has some"),
        (["one"], {"copies": 1}, "copies is 1, which leaves tasks nothing to choose; give 2 or more"),
        (["one"], {"copies": 0}, "copies is 0; it must be at least 1"),
        (["one"], {"temperatures": (0.1, 5.0)}, "which fall and stay > 0"),
        (["one"], {"temperatures": (1.0, 0.0)}, "which fall and stay > 0"),
        (["one"], {"warm_up": 1.0}, "warm_up is 1.0; it must be a share of the epochs"),
    ],
)
def test_bad_settings_are_refused_with_the_cure(stages: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        BMTAS(Twice(), stages, **options)


def test_stages_in_another_order_or_called_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"run in the order \['one', 'two'\]; name them in this order"):
        BMTAS(Twice(), ["two", "one"]).for_tasks(TASKS).costs(torch.ones(1, 2))
    with pytest.raises(ValueError, match="stage 'one' is called 2 times in a forward; name a module that is called"):
        BMTAS(Twice(), ["one", "two"]).for_tasks(TASKS).costs(-torch.ones(1, 2))


def test_a_network_with_parts_of_each_task_is_refused() -> None:
    with pytest.raises(ValueError, match="BMTAS has layers of each task's own already"):
        BMTAS(BMTAS(Twice(), ["one"]), ["backbone.two"])


def test_fewer_copies_than_tasks_may_be_had() -> None:
    net = BMTAS(Twice(), ["one"], copies=2).for_tasks(TASKS)
    assert len(net.backbone.one.copies) == 2 and net.probabilities()["one"].shape == (3, 2)
    net.begin_epoch(0, 4)
    assert net(torch.ones(3, 2))["c"]["out"].isfinite().all()


def test_networks_of_timm_are_searched() -> None:
    pytest.importorskip("timm")
    backbone = timm_backbone("test_vit", pretrained=False)
    stages = [name for name, _ in backbone.named_modules() if name.endswith(("blocks.0", "blocks.1"))]
    assert BMTAS(backbone, stages).for_tasks(["a", "b"]).costs(torch.zeros(1, 1, 160, 160)).min() > 0
