import pytest
import torch
from torch import Tensor, nn

from recon.methods import GramianMethod, JacobianMethod, LossMethod, Method


class Learned(LossMethod):
    def __init__(self) -> None:
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(2))

    def loss_weights(self, losses: Tensor) -> Tensor:
        return self.log_weights.exp()


def test_what_a_users_method_receives_is_checked_and_in_float64() -> None:
    received = []

    class Spy(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            assert losses is not None
            received.extend([gramian.dtype, losses.dtype])
            return torch.ones(2, dtype=torch.float64)

    Spy().combine(torch.ones(2, 3), torch.ones(2))
    assert received == [torch.float64, torch.float64]
    with pytest.raises(ValueError, match="task index 0"):
        Spy().weights(torch.full((2, 2), float("nan")).triu(1) + torch.tensor([[float("inf"), 0], [0, 1]]))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.ones(3), r"Wrong\(\) returned weights of shape \(3,\) for 2 tasks"),
        (torch.tensor([1.0, float("nan")]), r"Wrong\(\) returned NaN or infinity as weight of task index 1"),
    ],
)
def test_what_a_users_method_returns_is_checked(returned: Tensor, message: str) -> None:
    class Wrong(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return returned

    with pytest.raises(ValueError, match=message):
        Wrong().weights(torch.eye(2))


def test_weights_come_as_float64_tensors() -> None:
    class Single(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.ones(len(gramian))

    class Listed(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return [1.0] * len(gramian)  # type: ignore[return-value]

    assert Single().weights(torch.eye(2)).dtype == torch.float64
    with pytest.raises(TypeError, match=r"Listed\(\) returned weights as list, not as a tensor"):
        Listed().weights(torch.eye(2))


def test_a_users_jacobian_method_is_checked() -> None:
    class Median(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return jacobian.median(dim=0).values

    assert Median().combine(torch.tensor([[1.0], [5.0], [2.0]])).tolist() == [2]
    with pytest.raises(ValueError, match="task index 2"):
        Median().combine(torch.tensor([[1.0], [5.0], [float("nan")]]))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.tensor([1.0, float("nan"), 2.0]), r"Returned\(\) returned NaN or infinity .* first at parameter 1"),
        (torch.ones(2), r"Returned\(\) returned an update of shape \(2,\) for 3 parameters"),
        ([1.0, 2.0, 3.0], r"Returned\(\) returned an update as list"),
    ],
)
def test_what_a_users_jacobian_method_returns_is_checked(returned: Tensor, message: str) -> None:
    class Returned(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return returned

    with pytest.raises((ValueError, TypeError), match=message):
        Returned().combine(torch.ones(2, 3))


def test_an_update_too_long_to_sum_is_finite_all_the_same() -> None:
    class Long(JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.full_like(jacobian[0], 3e38)

    assert Long().combine(torch.ones(2, 3)).isfinite().all()


@pytest.mark.parametrize("kind", [Method, GramianMethod, JacobianMethod, LossMethod])
def test_a_method_must_say_how_it_combines(kind: type[Method]) -> None:
    class Nothing(kind):  # type: ignore[valid-type, misc]
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_loss_weights_are_constants_in_the_losses_and_reach_learned_parameters() -> None:
    method, losses = Learned(), torch.tensor([2.0, 3.0], requires_grad=True)
    method.objective(losses).backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [1, 1]
    assert method.log_weights.grad is not None
    assert method.log_weights.grad.tolist() == [2, 3]


def test_loss_methods_combine_by_their_loss_weights() -> None:
    class Harmonic(LossMethod):
        def loss_weights(self, losses: Tensor) -> Tensor:
            return 1 / losses

    jacobian = torch.tensor([[2.0, 4.0], [4.0, 8.0]])
    assert Harmonic().combine(jacobian, torch.tensor([2.0, 4.0])).tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"Harmonic\(\) weights tasks by their losses; pass losses"):
        Harmonic().combine(jacobian)
    with pytest.raises(ValueError, match="returned NaN or infinity as weight of task index 1"):
        Harmonic().objective(torch.tensor([1.0, 0.0]))


def test_learned_weights_do_not_put_a_graph_on_the_update() -> None:
    assert not Learned().combine(torch.ones(2, 3), torch.ones(2)).requires_grad
