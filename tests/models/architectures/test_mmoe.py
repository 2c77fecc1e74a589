"""MMoE against the formulas of Ma et al., KDD 2018, and its branches against separate copies."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import MLP, ColumnEmbedding, MMoE, ResNet18, SegNet, heads_for
from recon.tasks import classification, depth

TASKS = ("a", "b", "c")


def branched(network: nn.Module, *more: str) -> recon.branching.BranchedModule:
    """The network of three tasks, with different gates."""
    torch.manual_seed(1)
    net = recon.branch(network, [*network.task_specific_layers(), *more], TASKS)
    for task in TASKS:
        for parameter in net.branches[task].parameters():
            nn.init.normal_(parameter)
    return net


def test_it_is_the_sum_of_experts_weighted_by_the_softmax_of_a_linear_map() -> None:
    network = MMoE(lambda: MLP(6, [5, 4]), experts=3, input_layer=MLP(10, [6])).double()
    net = branched(network)
    x = torch.randn(7, 10, dtype=torch.float64)
    state = dict(net.named_parameters())
    assert set(state) == {
        *(f"shared.input_layer.0.{kind}" for kind in ("weight", "bias")),
        *(f"shared.experts.{i}.{n}.{kind}" for i in range(3) for n in (0, 2) for kind in ("weight", "bias")),
        *(f"branches.{task}.gate.weight" for task in TASKS),
    }

    def linear(name: str, value: Tensor) -> Tensor:
        return (value @ state[f"shared.{name}.weight"].T + state[f"shared.{name}.bias"]).clamp(min=0)

    u = linear("input_layer.0", x)
    for task, features in net(x).items():
        scores = (u @ state[f"branches.{task}.gate.weight"].T).exp()
        expected = torch.zeros(7, 4, dtype=torch.float64)
        for i in range(3):
            weight = scores[:, i] / scores.sum(dim=1)
            expected += weight[:, None] * linear(f"experts.{i}.2", linear(f"experts.{i}.0", u))
        torch.testing.assert_close(features, expected)


def test_its_parameters_are_those_of_the_formulas() -> None:
    # Ma et al.: K gates of n x d, n experts; here an input layer from 10 to 6, and experts from 6 to 5 to 4.
    net = branched(MMoE(lambda: MLP(6, [5, 4]), experts=3, input_layer=MLP(10, [6])))
    expected = (10 * 6 + 6) + 3 * (6 * 5 + 5 + 5 * 4 + 4) + len(TASKS) * 3 * 6
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_experts_and_input_layer_are_shared_and_gates_are_not() -> None:
    net = branched(MMoE(lambda: MLP(6, [4]), experts=2, input_layer=MLP(10, [6])))
    assert list(net.shared_layers()) == ["input_layer.0", "experts.0.0", "experts.1.0"]
    assert net.layers == ("gate",)


def test_experts_start_from_weights_of_their_own_and_those_of_a_given_module_from_its() -> None:
    fresh = MMoE(lambda: MLP(6, [4]), experts=2, gate_inputs=6)
    assert not torch.equal(fresh.experts[0][0].weight, fresh.experts[1][0].weight)
    pretrained = MLP(6, [4])
    copied = MMoE(pretrained, experts=2, gate_inputs=6)
    for expert in copied.experts:
        assert expert is not pretrained
        assert torch.equal(expert[0].weight, pretrained[0].weight)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_layer_branched_inside_an_expert_gives_each_task_its_copy(training: bool) -> None:
    torch.manual_seed(0)
    network = MMoE(lambda: ResNet18(width=2, features=5), experts=3, gate_inputs=36 * 36).double().train(training)
    layers = ["experts.1.layer2.0.conv1", "experts.2.fc", "experts.0.bn1"]
    net = branched(network, *layers)
    alone = {task: net.extract(task) for task in TASKS}
    x = torch.rand(4, 1, 36, 36, dtype=torch.float64)
    weights = torch.randn(3, 4, 5, dtype=torch.float64)
    outputs = net(x)
    expected = {task: alone[task](x) for task in TASKS}
    for results in (outputs, expected):
        torch.stack([(results[task] * w).sum() for task, w in zip(TASKS, weights, strict=True)]).sum().backward()
    torch.testing.assert_close(outputs, expected)
    own = {"gate", *layers}
    for name, parameter in net.named_parameters():
        part, _, rest = name.partition(".")
        if part == "branches":
            task, _, rest = rest.partition(".")
            assert rest.rpartition(".")[0] in own
            reference = alone[task].get_parameter(rest).grad
        else:
            reference = sum(alone[task].get_parameter(rest).grad for task in TASKS)
        torch.testing.assert_close(parameter.grad, reference, msg=lambda m, at=name: f"{at}: {m}")


def test_an_analyzer_scores_the_layers_of_the_experts_and_a_step_moves_all_parts() -> None:
    torch.manual_seed(0)
    net = branched(MMoE(lambda: MLP(6, [4]), experts=2, gate_inputs=6), "experts.1.0")
    heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})
    analyzer = recon.ConflictAnalyzer(net, TASKS)
    engine = recon.Engine(net, TASKS, method="pcgrad", analyzer=analyzer)
    before = deepcopy(net.state_dict())
    optimizer = torch.optim.SGD([*net.parameters(), *heads.parameters()], lr=0.1)
    features = net(torch.randn(8, 6))
    engine.backward({task: (heads[task](features[task]) - n).square().mean() for n, task in enumerate(TASKS)})
    optimizer.step()
    assert list(analyzer.conflict_map().layers) == ["experts.0.0"]
    assert all(not torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_heads_are_those_of_the_experts_kind() -> None:
    vectors = MMoE(lambda: MLP(6, [4]), experts=1, gate_inputs=6)
    assert heads_for(vectors, [classification("digit", 10)])["digit"].in_features == 4
    maps = MMoE(lambda: SegNet(width=2), experts=2, gate_inputs=3 * 32 * 32)
    heads = heads_for(maps, [depth("depth")])
    assert heads["depth"](maps(torch.zeros(2, 3, 32, 32))).shape == (2, 1, 32, 32)


def test_experts_of_rows_of_a_table_share_an_embedding_which_can_be_branched() -> None:
    embedding = ColumnEmbedding(categories=[3, 5], numbers=1, size=4)
    net = branched(MMoE(lambda: MLP(9, [4]), experts=2, input_layer=embedding), "input_layer")
    rows = torch.tensor([[0.0, 4.0, 0.5], [2.0, 1.0, -1.0]])
    for task, features in net(rows).items():
        torch.testing.assert_close(features, net.extract(task)(rows))
    assert list(net.shared_layers()) == ["experts.0.0", "experts.1.0"]


def test_the_path_of_one_task_runs_unbranched() -> None:
    network = MMoE(lambda: MLP(6, [4]), experts=2, gate_inputs=6)
    assert network(torch.zeros(3, 6)).shape == (3, 4)
    assert "gate" in shared_layers(network)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="experts is 0; it must be at least 1"):
        MMoE(lambda: MLP(6, [4]), experts=0, gate_inputs=6)
    with pytest.raises(ValueError, match=r"experts is 2\.5; it must be a whole number, at least 1"):
        MMoE(lambda: MLP(6, [4]), experts=2.5, gate_inputs=6)
    with pytest.raises(ValueError, match="gate_inputs is None; give the number of values of an input"):
        MMoE(lambda: MLP(6, [4]), experts=2)
    with pytest.raises(ValueError, match=r"made for samples of 5 values, and got \(2, 3\).*set gate_inputs to 6"):
        MMoE(nn.Flatten, experts=2, gate_inputs=5)(torch.zeros(1, 2, 3))
