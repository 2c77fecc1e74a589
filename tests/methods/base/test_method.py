import copy

import pytest
import torch
from torch import Tensor, nn

import recon.methods as methods
from recon.methods import GramianMethod, create_method


class Uniform(GramianMethod):
    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        return torch.full((len(gramian),), 1 / len(gramian), dtype=torch.float64)


@pytest.mark.parametrize("name", ["joint", "mgda", "cagrad"])
def test_methods_without_randomness_can_be_reseeded_too(name: str) -> None:
    method = create_method(name)
    method.reseed(3)
    assert method.state_dict() == {}


@pytest.mark.parametrize(
    "call",
    [
        "Joint(weights=None)",
        "Joint(weights=[1.0, 0.5])",
        "MGDA(normalization='loss+')",
        "PCGrad(seed=3)",
        "CAGrad(c=0.4, rescale=2)",
        "GradDrop(leak=0.1, seed=0)",
    ],
)
def test_repr_reproduces_the_call(call: str) -> None:
    assert repr(eval(call, vars(methods))) == call


def test_a_method_of_one_function_has_defaults_for_the_rest() -> None:
    method = Uniform()
    assert method.scale == "mean"
    assert repr(method) == "Uniform()"
    assert method.combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist() == [1, 2]


def test_step_evaluates_once_and_returns_what_the_engine_says() -> None:
    parameter = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    parameter.grad = torch.tensor(100.0)  # of the last step

    class Engine:
        def backward(self, losses: dict[str, Tensor]) -> str:
            sum(losses.values(), torch.zeros(())).backward()
            return "info"

    assert Uniform().step(Engine(), lambda: {"a": 2 * parameter, "b": parameter}, optimizer) == "info"
    assert parameter.item() == -0.5


def test_methods_without_state_serve_any_number_of_tasks_and_any_epoch() -> None:
    method = Uniform()
    method.bind(2)
    method.bind(3)
    method.end_epoch()
    assert method.combine(torch.ones(4, 1)).tolist() == [1]


def test_state_keeps_its_precision_when_the_network_is_cast() -> None:
    for name in ("famo", "gradnorm", "dwa", "log_stch", "sdmgrad", "gradvac", "excess_mtl"):
        method = create_method(name)
        method.bind(2)
        before = {key: value.dtype for key, value in method.named_buffers()}
        nn.ModuleDict({"method": method}).to(torch.bfloat16)
        assert {key: value.dtype for key, value in method.named_buffers()} == before, name
    method = create_method("famo")
    method.bind(2)
    method.to(torch.bfloat16)
    for _ in range(300):
        method.update(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.5]))
    assert method.loss_weights(torch.ones(2))[0] > 0.9


def test_state_follows_the_module_where_only_the_place_changes() -> None:
    method = create_method("famo")
    method.bind(2)
    empty = copy.deepcopy(method).to("meta").to_empty(device="cpu")
    assert {name: b.dtype for name, b in empty.named_buffers()} == {name: b.dtype for name, b in method.named_buffers()}


@pytest.mark.parametrize("name", ["psmgd", "cr_mogm", "gradvac", "sdmgrad", "modo", "gradnorm"])
def test_state_of_what_is_solved_on_the_host_stays_there(name: str) -> None:
    method = create_method(name)
    method.bind(2)
    nn.ModuleDict({"method": method}).to("meta")  # stands for any other device
    assert {buffer.device.type for buffer in method.buffers()} == {"cpu"}
    assert method.combine(torch.eye(2), torch.ones(2)).isfinite().all()
