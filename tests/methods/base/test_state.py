import copy

import pytest
import torch
from torch import Tensor, nn

from recon.methods import JacobianMethod, StatefulMethod, create_method


class Momentum(StatefulMethod, JacobianMethod):
    """A running mean of the task gradients, summed with learned factors."""

    gradients: Tensor
    factors: nn.Parameter

    def make_state(self, tasks: int) -> None:
        self.register_buffer("gradients", torch.zeros(tasks, 0))
        self.factors = nn.Parameter(torch.ones(tasks))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        gradients = self.tracked("gradients", jacobian)
        gradients.lerp_(jacobian, 0.5)
        return self.factors.detach().to(jacobian) @ gradients


def test_state_is_made_once_for_the_tasks_at_hand() -> None:
    method = Momentum()
    assert method.state_dict() == {}
    method.bind(2)
    factors = method.factors
    method.bind(2)
    assert method.factors is factors
    with pytest.raises(ValueError, match=r"Momentum\(\) has the state of 2 tasks, got 3; create a new method"):
        method.bind(3)


def test_a_method_that_is_used_without_an_engine_binds_itself() -> None:
    method = Momentum()
    assert method.combine(torch.ones(2, 3)).tolist() == [1, 1, 1]
    assert method.combine(torch.ones(2, 3)).tolist() == [1.5, 1.5, 1.5]
    with pytest.raises(ValueError, match="state of 2 tasks, got 3"):
        method.combine(torch.ones(3, 3))


@pytest.mark.parametrize("bound", [True, False])
def test_state_of_any_shape_loads_into_a_method_that_is_new(bound: bool) -> None:
    method = Momentum()
    method.combine(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    resumed = nn.ModuleDict({"method": Momentum()})
    if bound:
        resumed["method"].bind(2)
    resumed.load_state_dict({f"method.{name}": value for name, value in method.state_dict().items()})
    assert resumed["method"].tasks == 2
    for name, value in method.state_dict().items():
        assert torch.equal(resumed["method"].state_dict()[name], value)
        assert resumed["method"].state_dict()[name].data_ptr() != value.data_ptr()


def test_state_of_other_tasks_or_parameters_does_not_load() -> None:
    method, used = Momentum(), Momentum()
    method.combine(torch.ones(2, 3))
    used.combine(torch.ones(2, 4))
    with pytest.raises(RuntimeError, match="size mismatch for gradients"):
        used.load_state_dict(method.state_dict())
    other = Momentum()
    other.bind(3)
    with pytest.raises(RuntimeError, match="size mismatch for factors"):
        other.load_state_dict(method.state_dict())


def test_tracked_gradients_follow_the_jacobians_precision() -> None:
    method = Momentum()
    method.combine(torch.ones(2, 3))
    assert method.combine(torch.ones(2, 3, dtype=torch.float64)).dtype == torch.float64
    assert method.gradients.dtype == torch.float64


@pytest.mark.parametrize("name", ["moco", "db_mtl", "excess_mtl"])
def test_a_method_that_has_made_steps_can_be_set_back_to_its_beginning(name: str) -> None:
    method = create_method(name)
    method.bind(2)
    beginning = copy.deepcopy(method.state_dict())
    first = method.combine(torch.eye(2, 5), torch.ones(2))
    method.combine(torch.ones(2, 5), torch.ones(2))
    method.load_state_dict(beginning)
    assert torch.equal(method.combine(torch.eye(2, 5), torch.ones(2)), first)
