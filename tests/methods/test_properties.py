"""What every method owes, over one family of Jacobians."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from recon.methods import GramianMethod, JacobianMethod, LossMethod, Method, create_method

METHODS = {
    "joint": {},
    "mgda": {},
    "mgda, l2": {"normalization": "l2"},
    "mgda, loss": {"normalization": "loss"},
    "mgda, loss+": {"normalization": "loss+"},
    "pcgrad": {},
    "cagrad": {},
    "cagrad, wide": {"c": 1.5, "rescale": 2},
    "graddrop": {},
    "graddrop, leaking": {"leak": 0.3},
}


def build(label: str) -> Method:
    return create_method(label.split(",")[0], **METHODS[label])


def losses_of(jacobian: Tensor) -> Tensor:
    return torch.linspace(0.5, 2.0, len(jacobian), dtype=jacobian.dtype)


@pytest.fixture(params=list(METHODS))
def method(request: pytest.FixtureRequest) -> Method:
    return build(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_update_is_finite_and_leaves_its_input_alone(method: Method, jacobian: Tensor, dtype: torch.dtype) -> None:
    jacobian = jacobian.to(dtype)
    before = jacobian.clone()
    update = method.combine(jacobian, losses_of(jacobian))
    assert update.shape == jacobian.shape[1:]
    assert update.dtype == dtype
    assert update.isfinite().all()
    assert torch.equal(jacobian, before)


def test_zero_gradients_give_a_zero_update(method: Method) -> None:
    jacobian = torch.zeros(3, 7)
    assert not method.combine(jacobian, losses_of(jacobian)).any()


def test_one_task_is_trained_plainly(method: Method) -> None:
    gradient = torch.randn(1, 50)
    torch.testing.assert_close(method.combine(gradient, torch.ones(1)), gradient[0])


def test_no_parameters_are_no_trouble(method: Method) -> None:
    assert method.combine(torch.zeros(3, 0), torch.ones(3)).shape == (0,)


@pytest.mark.parametrize("name", ["joint", "mgda", "pcgrad", "graddrop"])
def test_scale_says_what_equal_gradients_are_combined_to(name: str) -> None:
    method, gradient = create_method(name), torch.randn(20, dtype=torch.float64)
    factor = {"sum": 4, "mean": 1}[method.scale]
    torch.testing.assert_close(method.combine(gradient.repeat(4, 1), torch.ones(4)), factor * gradient)


@pytest.mark.parametrize("factor", [1e-10, 1e15])
def test_update_has_the_unit_of_the_gradients(method: Method, factor: float) -> None:
    jacobian = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    losses = losses_of(jacobian)
    method.reseed(3)
    update = method.combine(jacobian, losses)
    method.reseed(3)
    torch.testing.assert_close(method.combine(factor * jacobian, losses) / factor, update, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", [label for label in METHODS if isinstance(build(label), GramianMethod)])
def test_gramian_method_combines_by_its_weights(label: str, jacobian: Tensor) -> None:
    method = build(label)
    assert isinstance(method, GramianMethod)
    losses = losses_of(jacobian)
    weights = method.weights(jacobian @ jacobian.T, losses)
    method.reseed(0)
    update = method.combine(jacobian, losses)
    assert weights.dtype == torch.float64
    # Rounding of a weighted sum is relative to its terms, which may cancel.
    tolerance = 1e-7 * float((weights.abs() * jacobian.norm(dim=1)).sum())
    torch.testing.assert_close(update, weights @ jacobian, rtol=0, atol=tolerance)


@pytest.mark.parametrize("label", ["mgda", "cagrad", "cagrad, wide"])
def test_update_does_not_depend_on_the_order_of_tasks(label: str, jacobian: Tensor) -> None:
    method, flipped = build(label), jacobian.flip(0)
    update = method.combine(jacobian)
    # Only norms that differ by more than float64 has digits make the two sums round differently.
    torch.testing.assert_close(
        method.combine(flipped), update, rtol=1e-6, atol=1e-6 * float(jacobian.norm(dim=1).max())
    )


@settings(deadline=None)
@given(
    arrays(
        float,
        st.tuples(st.integers(1, 4), st.integers(0, 4)),
        elements=st.floats(-1e15, 1e15).map(lambda x: x if abs(x) > 1e-10 else 0.0),
    )
)
def test_any_moderate_jacobian_gives_a_finite_update(array: object) -> None:
    jacobian = torch.tensor(array, dtype=torch.float32)
    for label in METHODS:
        update = build(label).combine(jacobian, torch.ones(len(jacobian)))
        assert update.isfinite().all(), label


def test_half_precision_jacobian_keeps_its_type(method: Method) -> None:
    jacobian = torch.randn(3, 40).bfloat16()
    assert method.combine(jacobian, torch.ones(3)).dtype == torch.bfloat16


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_gradient_is_refused_by_its_task(method: Method, bad: float) -> None:
    jacobian = torch.ones(3, 5)
    jacobian[1, 2] = bad
    with pytest.raises(ValueError, match=r"NaN or infinity.* task index 1$"):
        method.combine(jacobian, torch.ones(3))


def test_large_finite_gradients_are_not_taken_for_bad_ones(method: Method) -> None:
    jacobian = torch.full((2, 40), 1e37)  # sums to more than float32 holds
    assert isinstance(method.combine(jacobian.double(), torch.ones(2).double()), Tensor)
    method.combine(jacobian, torch.ones(2))


@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 3, 5)])
def test_a_jacobian_of_another_shape_is_refused(method: Method, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Jacobian must be .*\(K, P\) matrix"):
        method.combine(torch.ones(shape), torch.ones(shape[0]))


def test_losses_of_another_number_are_refused(method: Method) -> None:
    with pytest.raises(ValueError, match="2 for 3 tasks"):
        method.combine(torch.ones(3, 5), torch.ones(2))


def test_bad_losses_are_refused_by_their_task(method: Method) -> None:
    with pytest.raises(ValueError, match=r"losses hold NaN or infinity at task index 0, 2$"):
        method.combine(torch.ones(3, 5), torch.tensor([float("nan"), 1.0, float("inf")]))


@pytest.mark.parametrize("label", [label for label in METHODS if isinstance(build(label), GramianMethod)])
def test_a_bad_gramian_is_refused(label: str) -> None:
    method = build(label)
    assert isinstance(method, GramianMethod)
    spoiled = torch.eye(3, dtype=torch.float64)
    spoiled[1, :] = spoiled[:, 1] = float("nan")
    with pytest.raises(ValueError, match=r"Gramian holds NaN or infinity.* task index 1$"):
        method.weights(spoiled, torch.ones(3))
    with pytest.raises(ValueError, match=r"\(K, K\) matrix .* got shape \(2, 3\)"):
        method.weights(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"negative squared norm .* task index 2$"):
        method.weights(torch.diag(torch.tensor([1.0, 0.0, -1.0])), torch.ones(3))


def test_every_method_is_of_a_kind_and_names_its_scale(method: Method) -> None:
    assert isinstance(method, GramianMethod | JacobianMethod | LossMethod)
    assert method.scale in ("sum", "mean")
