"""What every method owes, over one family of Jacobians, and what each method declares."""

import io
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from recon.methods import GramianMethod, JacobianMethod, LossMethod, Method, create_method, list_methods
from recon.methods.catalogue.properties import ENTRIES, MEANING, Entry, Property

by_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.label)


def build(entry: Entry) -> Method:
    return create_method(entry.method, **entry.options)


by_gramian_entry = pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if isinstance(build(entry), GramianMethod)], ids=lambda entry: entry.label
)


def declaring(declared: Property) -> pytest.MarkDecorator:
    """Parametrize a test over the entries that declare a property."""
    chosen = [entry for entry in ENTRIES if declared in entry.properties]
    return pytest.mark.parametrize("entry", chosen, ids=lambda entry: entry.label)


def losses_of(jacobian: Tensor) -> Tensor:
    return torch.linspace(0.5, 2.0, len(jacobian), dtype=jacobian.dtype)


def update_of(entry: Entry, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
    """The first update of a fresh method."""
    return build(entry).combine(jacobian, losses_of(jacobian) if losses is None else losses)


def rounding(entry: Entry, jacobian: Tensor) -> float:
    """Length of what cancels in the update; its rounding is relative to that."""
    norms = jacobian.norm(dim=1)
    method = build(entry)
    if isinstance(method, GramianMethod):
        return float(method.weights(jacobian @ jacobian.T, losses_of(jacobian)).abs() @ norms)
    return float(norms.sum())


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((actual - expected).norm() <= tolerance * max(float(expected.norm()), 1e-300))


seeds = st.integers(0, 10_000)
several = st.integers(2, 6)
factors = st.floats(-3, 3).map(lambda exponent: 10**exponent)


@st.composite
def any_jacobian(draw: Callable, least_tasks: int = 1) -> Tensor:  # type: ignore[type-arg]
    """Anything moderate, often degenerate: zeros, repeated and opposed rows, huge beside small
    numbers.
    """
    elements = st.floats(-1e15, 1e15).map(lambda x: x if abs(x) > 1e-10 else 0.0) | st.integers(-2, 2).map(float)
    shape = st.tuples(st.integers(least_tasks, max(4, least_tasks + 1)), st.integers(0, 4))
    return torch.tensor(draw(arrays(float, shape, elements=elements)), dtype=torch.float64)


def test_every_method_is_in_the_table() -> None:
    from recon.methods.base import registry

    ours = {name for name, cls in registry._registered.values() if cls.__module__.startswith("recon.")}
    assert ours == {entry.method for entry in ENTRIES}
    assert set(MEANING) == set(get_args(Property))
    assert ours <= set(list_methods())


def test_labels_tell_entries_apart() -> None:
    assert len({entry.label for entry in ENTRIES}) == len(ENTRIES)


# What every method owes.


@by_entry
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_update_is_finite_and_leaves_its_input_alone(
    entry: Entry, family: dict[str, Tensor], dtype: torch.dtype
) -> None:
    for name, jacobian in family.items():
        if len(jacobian) < entry.least_tasks:
            with pytest.raises(ValueError, match=rf"{entry.method}: .*tasks"):
                update_of(entry, jacobian)
            continue
        jacobian = jacobian.to(dtype)
        before = jacobian.clone()
        update = update_of(entry, jacobian)
        assert update.shape == jacobian.shape[1:], name
        assert update.dtype == dtype, name
        assert update.isfinite().all(), name
        assert torch.equal(jacobian, before), name


@by_entry
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_any_moderate_jacobian_gives_finite_updates(entry: Entry, data: st.DataObject) -> None:
    jacobian = data.draw(any_jacobian(entry.least_tasks)).float()
    method = build(entry)
    for _ in range(2):
        assert method.combine(jacobian, losses_of(jacobian)).isfinite().all()


@by_entry
def test_zero_gradients_give_a_zero_update(entry: Entry) -> None:
    assert not update_of(entry, torch.zeros(3, 7)).any()


@by_entry
def test_no_parameters_are_no_trouble(entry: Entry) -> None:
    assert update_of(entry, torch.zeros(3, 0)).shape == (0,)


@by_gramian_entry
def test_gramian_method_combines_by_its_weights(entry: Entry, family: dict[str, Tensor]) -> None:
    for name, jacobian in family.items():
        method = build(entry)
        assert isinstance(method, GramianMethod)
        if len(jacobian) < entry.least_tasks:
            continue
        weights = method.weights(jacobian @ jacobian.T, losses_of(jacobian))
        assert weights.dtype == torch.float64, name
        rounded = 1e-7 * float(weights.abs() @ jacobian.norm(dim=1))
        assert (update_of(entry, jacobian) - weights @ jacobian).abs().max() <= rounded, name


@by_entry
def test_half_precision_jacobian_keeps_its_type(entry: Entry) -> None:
    assert update_of(entry, torch.randn(3, 40).bfloat16()).dtype == torch.bfloat16


@by_entry
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_gradient_is_refused_by_its_task(entry: Entry, bad: float) -> None:
    jacobian = torch.ones(3, 5)
    jacobian[1, 2] = bad
    with pytest.raises(ValueError, match=r"NaN or infinity.* task index 1$"):
        update_of(entry, jacobian)


@by_entry
def test_large_finite_gradients_are_not_taken_for_bad_ones(entry: Entry) -> None:
    jacobian = torch.full((3, 40), 1e37)  # sums to more than float32 holds
    assert update_of(entry, jacobian.double()).isfinite().all()
    assert update_of(entry, jacobian).isfinite().all()


@by_entry
@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 3, 5)])
def test_a_jacobian_of_another_shape_is_refused(entry: Entry, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Jacobian must be .*\(K, P\) matrix"):
        build(entry).combine(torch.ones(shape), torch.ones(shape[0]))


@by_entry
def test_losses_of_another_number_are_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match="2 for 3 tasks"):
        build(entry).combine(torch.ones(3, 5), torch.ones(2))


@by_entry
def test_bad_losses_are_refused_by_their_task(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"losses hold NaN or infinity at task index 0, 2$"):
        build(entry).combine(torch.ones(3, 5), torch.tensor([float("nan"), 1.0, float("inf")]))


@by_gramian_entry
def test_a_bad_gramian_is_refused(entry: Entry) -> None:
    method = build(entry)
    assert isinstance(method, GramianMethod)
    spoiled = torch.eye(3, dtype=torch.float64)
    spoiled[1, :] = spoiled[:, 1] = float("nan")
    with pytest.raises(ValueError, match=r"Gramian holds NaN or infinity.* task index 1$"):
        method.weights(spoiled, torch.ones(3))
    with pytest.raises(ValueError, match=r"\(K, K\) matrix .* got shape \(2, 3\)"):
        method.weights(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"negative squared norm .* task index 2$"):
        method.weights(torch.diag(torch.tensor([1.0, 0.0, -1.0])), torch.ones(3))


@by_entry
def test_training_resumes_from_a_checkpoint_exactly(entry: Entry) -> None:
    tasks, method, file = max(3, entry.least_tasks), build(entry), io.BytesIO()
    losses = [losses_of(normal(seed, tasks)).roll(seed) * (1 + seed) for seed in range(6)]
    for seed in range(4):
        method.combine(normal(seed, tasks), losses[seed])
        method.end_epoch()
        with torch.no_grad():
            for index, parameter in enumerate(method.parameters()):
                parameter += 0.1 * index  # as an optimizer might
    torch.save(method.state_dict(), file)
    file.seek(0)
    resumed = build(entry)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(4, 6):
        updates = [each.combine(normal(seed, tasks), losses[seed]) for each in (method, resumed)]
        assert torch.equal(*updates)
        method.end_epoch()
        resumed.end_epoch()


@by_entry
def test_every_method_is_of_a_kind_and_names_its_scale(entry: Entry) -> None:
    method = build(entry)
    assert isinstance(method, GramianMethod | JacobianMethod | LossMethod)
    assert method.scale in ("sum", "mean")


# What some declare.


@declaring("alone")
@settings(deadline=None, max_examples=20)
@given(seeds, factors)
def test_a_single_task_is_trained_plainly(entry: Entry, seed: int, factor: float) -> None:
    gradient = factor * normal(seed, 1)
    torch.testing.assert_close(update_of(entry, gradient), gradient[0])


@declaring("agreeing")
@settings(deadline=None, max_examples=20)
@given(seeds, several, factors)
def test_equal_gradients_give_an_update_along_them(entry: Entry, seed: int, tasks: int, factor: float) -> None:
    gradient = factor * normal(seed, 1)[0]
    update = update_of(entry, gradient.repeat(max(tasks, entry.least_tasks), 1))
    assert update @ gradient >= (1 - 1e-9) * update.norm() * gradient.norm()
    assert update.any()


@declaring("calibrated")
@settings(deadline=None, max_examples=20)
@given(seeds, several, factors)
def test_scale_says_what_equal_gradients_give(entry: Entry, seed: int, tasks: int, factor: float) -> None:
    gradient, tasks = factor * normal(seed, 1)[0], max(tasks, entry.least_tasks)
    expected = {"sum": tasks, "mean": 1}[build(entry).scale] * gradient
    # Equal losses: a method that weights by losses is not calibrated among unequal ones.
    torch.testing.assert_close(update_of(entry, gradient.repeat(tasks, 1), torch.ones(tasks).double()), expected)


@declaring("order-free")
@settings(deadline=None, max_examples=20)
@given(seeds, several, st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter(entry: Entry, seed: int, tasks: int, random: object) -> None:
    jacobian = normal(seed, max(tasks, entry.least_tasks))
    order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(seed + 1))
    losses = losses_of(jacobian)
    assert close(update_of(entry, jacobian[order], losses[order]), update_of(entry, jacobian), 1e-7)


@declaring("non-negative")
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_no_task_enters_with_a_negative_weight(entry: Entry, data: st.DataObject) -> None:
    jacobian = data.draw(any_jacobian(entry.least_tasks))
    method = build(entry)
    if isinstance(method, GramianMethod):
        weights = method.weights(jacobian @ jacobian.T, losses_of(jacobian))
    else:
        assert isinstance(method, LossMethod)
        weights = method.loss_weights(losses_of(jacobian))
    assert (weights >= 0).all()


@declaring("non-conflicting")
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_update_harms_no_task(entry: Entry, data: st.DataObject) -> None:
    jacobian = data.draw(any_jacobian(entry.least_tasks))
    update, norms = update_of(entry, jacobian), jacobian.norm(dim=1)
    assert (jacobian @ update >= -1e-7 * norms * rounding(entry, jacobian)).all()


@declaring("non-conflicting")
def test_update_harms_no_task_of_the_family(entry: Entry, family: dict[str, Tensor]) -> None:
    for name, jacobian in family.items():
        if len(jacobian) >= entry.least_tasks:
            update, norms = update_of(entry, jacobian), jacobian.norm(dim=1)
            assert (jacobian @ update >= -1e-7 * norms * rounding(entry, jacobian)).all(), name


def longest_allowed(entry: Entry, jacobian: Tensor) -> float:
    factor = len(jacobian) if build(entry).scale == "sum" else 1
    return (1 + 1e-6) * factor * float(jacobian.norm(dim=1).max())


@declaring("bounded")
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_update_is_no_longer_than_the_gradients(entry: Entry, data: st.DataObject) -> None:
    jacobian = data.draw(any_jacobian(entry.least_tasks))
    assert update_of(entry, jacobian).norm() <= longest_allowed(entry, jacobian)


@declaring("bounded")
def test_update_is_no_longer_than_the_gradients_of_the_family(entry: Entry, family: dict[str, Tensor]) -> None:
    for name, jacobian in family.items():
        if len(jacobian) >= entry.least_tasks:
            assert update_of(entry, jacobian).norm() <= longest_allowed(entry, jacobian), name


def longest_by_mean(entry: Entry, jacobian: Tensor) -> float:
    factor = len(jacobian) if build(entry).scale == "sum" else 1
    # What cancels in the mean has been rounded.
    return (1 + 1e-6) * factor * float(jacobian.mean(dim=0).norm()) + 1e-7 * float(jacobian.norm(dim=1).max())


@declaring("mean-bounded")
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_update_is_no_longer_than_the_mean(entry: Entry, data: st.DataObject) -> None:
    jacobian = data.draw(any_jacobian(entry.least_tasks))
    assert update_of(entry, jacobian).norm() <= longest_by_mean(entry, jacobian)


@declaring("mean-bounded")
def test_update_is_no_longer_than_the_mean_of_the_family(entry: Entry, family: dict[str, Tensor]) -> None:
    for name, jacobian in family.items():
        if len(jacobian) >= entry.least_tasks:
            assert update_of(entry, jacobian).norm() <= longest_by_mean(entry, jacobian), name


@declaring("homogeneous")
@settings(deadline=None, max_examples=20)
@given(seeds, several, st.floats(-10, 15))
def test_update_has_the_unit_of_the_gradients(entry: Entry, seed: int, tasks: int, exponent: float) -> None:
    jacobian, factor = normal(seed, max(tasks, entry.least_tasks)), 10.0**exponent
    assert close(update_of(entry, factor * jacobian) / factor, update_of(entry, jacobian), 1e-7)


def scaled_rows(jacobian: Tensor, seed: int) -> Tensor:
    """Positive factors from 1e-2 to 1e2, (K, 1)."""
    exponents = torch.rand(len(jacobian), 1, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return 10 ** (4 * exponents - 2)


@declaring("linear")
@settings(deadline=None, max_examples=20)
@given(seeds, several)
def test_update_is_linear_in_factors_of_the_gradients(entry: Entry, seed: int, tasks: int) -> None:
    jacobian = normal(seed, max(tasks, entry.least_tasks))
    first, second = scaled_rows(jacobian, seed), scaled_rows(jacobian, seed + 1)
    separately = 2 * update_of(entry, first * jacobian) + 3 * update_of(entry, second * jacobian)
    together = update_of(entry, (2 * first + 3 * second) * jacobian)
    assert close(together, separately, 1e-7 * (1 + float((first + second).max())))


@declaring("impartial")
@settings(deadline=None, max_examples=20)
@given(seeds, several)
def test_factors_of_the_gradients_do_not_turn_the_update(entry: Entry, seed: int, tasks: int) -> None:
    jacobian = normal(seed, max(tasks, entry.least_tasks))
    update, turned = update_of(entry, jacobian), update_of(entry, scaled_rows(jacobian, seed) * jacobian)
    assume(update.norm() > 0)
    assert close(turned / turned.norm(), update / update.norm(), 1e-6)


@declaring("stops")
@settings(deadline=None, max_examples=20)
@given(seeds, several)
def test_update_is_zero_where_a_positive_combination_vanishes(entry: Entry, seed: int, tasks: int) -> None:
    jacobian = normal(seed, max(tasks, entry.least_tasks))
    jacobian[-1] = -(scaled_rows(jacobian, seed)[:-1] * jacobian[:-1]).sum(0)
    assert update_of(entry, jacobian).norm() <= 1e-6 * jacobian.norm(dim=1).max()


@declaring("stops early")
@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(3, 6))
def test_update_is_zero_where_two_gradients_are_opposed(entry: Entry, seed: int, tasks: int) -> None:
    jacobian = normal(seed, tasks)
    jacobian[1] = -0.5 * jacobian[0]
    assert update_of(entry, jacobian).norm() <= 1e-6 * jacobian.norm(dim=1).max()


@declaring("memoryless")
@settings(deadline=None, max_examples=20)
@given(seeds, several)
def test_earlier_updates_leave_no_trace(entry: Entry, seed: int, tasks: int) -> None:
    tasks = max(tasks, entry.least_tasks)
    method, jacobian = build(entry), normal(seed, tasks)
    method.combine(normal(seed + 1, tasks), losses_of(jacobian))
    assert torch.equal(method.combine(jacobian, losses_of(jacobian)), update_of(entry, jacobian))
    assert method.state_dict() == {}
