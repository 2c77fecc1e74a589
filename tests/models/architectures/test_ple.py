"""PLE against the formulas of Tang et al., RecSys 2020."""

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import CGC, MLP, PLE, heads_for
from recon.tasks import classification

TASKS = ["a", "b", "c"]


def two_levels(**options: int) -> PLE:
    return PLE([lambda: MLP(6, [5]), lambda: MLP(5, [4])], **{"experts": 2, "own": 3, "gate_inputs": 6, **options})


def test_its_features_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)
    net = two_levels().for_tasks(TASKS).double()
    x = torch.randn(7, 6, dtype=torch.float64)
    state = dict(net.named_parameters())

    def expert(level: int, name: str, value: Tensor) -> Tensor:
        return (value @ state[f"levels.{level}.{name}.0.weight"].T + state[f"levels.{level}.{name}.0.bias"]).clamp(
            min=0
        )

    def mixed(level: int, gate: str, value: Tensor, outputs: list[Tensor]) -> Tensor:
        scores = (value @ state[f"levels.{level}.{gate}.weight"].T).exp()
        total = torch.zeros_like(outputs[0])
        for j, output in enumerate(outputs):
            total += scores[:, [j]] / scores.sum(dim=1, keepdim=True) * output
        return total

    first_own = {task: [expert(0, f"own.{task}.{j}", x) for j in range(3)] for task in TASKS}
    first_shared = [expert(0, f"experts.{j}", x) for j in range(2)]
    between = {task: mixed(0, f"gates.{task}", x, first_own[task] + first_shared) for task in TASKS}
    common = mixed(0, "shared_gate", x, first_own["a"] + first_own["b"] + first_own["c"] + first_shared)
    second_shared = [expert(1, f"experts.{j}", common) for j in range(2)]
    features = net(x)
    assert [*features] == TASKS
    for task in TASKS:
        own = [expert(1, f"own.{task}.{j}", between[task]) for j in range(3)]
        torch.testing.assert_close(features[task], mixed(1, f"gates.{task}", between[task], own + second_shared))


def test_its_parameters_are_those_of_the_formulas() -> None:
    net = two_levels().for_tasks(TASKS)
    first, second = 6 * 5 + 5, 5 * 4 + 4
    experts = (2 + 3 * 3) * (first + second)
    gates = 3 * (3 + 2) * (6 + 5)
    shared_gate = (3 * 3 + 2) * 6
    assert sum(parameter.numel() for parameter in net.parameters()) == experts + gates + shared_gate


def test_one_level_is_cgc() -> None:
    net = PLE([lambda: MLP(6, [4])], experts=2, own=1, gate_inputs=6).for_tasks(["a", "b"]).double()
    cgc = CGC(lambda: MLP(6, [4]), experts=2, own=1, gate_inputs=6).double()
    reference = recon.branch(cgc, cgc.task_specific_layers(), ["a", "b"])
    tensors = {}
    for name, tensor in net.state_dict().items():
        part, _, rest = name.removeprefix("levels.0.").partition(".")
        if part == "experts":
            tensors[f"shared.experts.{rest}"] = tensor
        else:
            task, _, rest = rest.partition(".")
            tensors[f"branches.{task}.{part.replace('gates', 'gate')}.{rest}"] = tensor
    reference.load_state_dict(tensors)
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(net(x), reference(x))


def test_shared_experts_and_input_layer_are_shared_and_own_experts_and_gates_are_not() -> None:
    ple = PLE([lambda: MLP(6, [5]), lambda: MLP(5, [4])], experts=1, own=1, input_layer=MLP(10, [6]))
    assert list(shared_layers(ple.for_tasks(TASKS))) == [
        "input_layer.0",
        "levels.0.experts.0.0",
        "levels.1.experts.0.0",
    ]


def test_the_gradient_of_gates_and_own_experts_is_the_sum_of_the_tasks_gradients() -> None:
    torch.manual_seed(0)
    net = two_levels().for_tasks(TASKS)
    x = torch.randn(7, 6)

    def losses() -> dict[str, Tensor]:
        return {task: (features - n).square().mean() for n, (task, features) in enumerate(net(x).items())}

    torch.stack([*losses().values()]).sum().backward()
    expected = {name: parameter.grad for name, parameter in net.named_parameters()}
    net.zero_grad()
    recon.backward(losses(), net, recon.create_method("mgda"))
    shared = {name.rpartition(".")[0] for name in expected} & shared_layers(net).keys()
    for name, parameter in net.named_parameters():
        if name.rpartition(".")[0] not in shared:
            torch.testing.assert_close(parameter.grad, expected[name], msg=lambda m, at=name: f"{at}: {m}")


def test_shared_experts_can_be_branched() -> None:
    torch.manual_seed(0)
    plain = two_levels().for_tasks(TASKS).double()
    net = recon.branch(plain, ["levels.0.experts.1.0"], TASKS)
    x = torch.randn(5, 6, dtype=torch.float64)
    features = net(x)
    for task in TASKS:
        torch.testing.assert_close(features[task][task], plain(x)[task])
    for task in TASKS:
        nn.init.normal_(net.branches[task].levels.get_submodule("0.experts.1.0").weight)
        torch.testing.assert_close(net(x)[task][task], net.extract(task)(x)[task])


def test_its_heads_take_the_features_of_the_last_level() -> None:
    for network in (two_levels(), two_levels().for_tasks(TASKS)):
        assert heads_for(network, [classification("digit", 10)])["digit"].in_features == 4


def test_numbers_that_do_not_fit_are_refused() -> None:
    for name in ("experts", "own"):
        with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
            two_levels(**{name: 0})
        with pytest.raises(ValueError, match=rf"{name} is 2\.5; it must be a whole number, at least 1"):
            two_levels(**{name: 2.5})
    with pytest.raises(
        ValueError, match=r"levels\[1\] takes 7 values, and levels\[0\] gives 5; make its experts for 5 values"
    ):
        PLE([lambda: MLP(6, [5]), lambda: MLP(7, [4])], gate_inputs=6)
    with pytest.raises(ValueError, match="levels is empty"):
        PLE([])
    with pytest.raises(ValueError, match="gate_inputs is None"):
        PLE([lambda: MLP(6, [4])])
