"""Float32 gradients that are opposed, dependent or nearly so: promises hold there, whoever hands
them over.

The promises are those of recon.methods.catalogue.properties; what rounding may cost them is √u of
float32, some 2e-4, of what the gradients are long.
"""

from collections.abc import Callable, Iterator
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import recon
from recon.methods import GramianMethod, Method, create_method, to_torchjd
from recon.methods.catalogue.properties import ENTRIES, Entry
from recon.methods.solvers.dual_cone import lift_into_dual_cone
from recon.methods.solvers.gramian import softened_factor, unit_root
from recon.methods.solvers.resolution import gradients_in, products_in, resolution

PARAMETERS = 50
DISTANCES = (1e-3, 1e-5, 1e-6)
# Of lengths and products: a few times the resolution, since errors of several tasks add up.
TOLERANCE = 5e-4

Update = Callable[[Method, Tensor, Tensor], Tensor]


def vectors(seed: int, number: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return iter(torch.randn(number, PARAMETERS, generator=generator, dtype=torch.float64))


def exactly_dependent(seed: int) -> dict[str, Tensor]:
    """Dependent in exact arithmetic: what is left of that after rounding to float32 is noise."""
    u, v, w, *rest = vectors(seed, 20)
    left = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {
        "opposed": torch.stack([u, -0.7 * u]),
        "opposed, and a third across": torch.stack([u, -0.7 * u, w]),
        "opposed, and a third against both": torch.stack([u, -0.3 * u, 3 * w - 0.2 * u]),
        "strongly stationary": torch.stack([u, v, -0.5 * u - 0.3 * v, w]),
        "one the sum of others": torch.stack([u, v, w, 0.5 * u + 0.3 * v]),
        "one the difference of others": torch.stack([u, v, w, 0.3 * v - 0.5 * u]),
        "eight of rank three": left @ torch.stack([u, v, w]),
        "sixteen of rank five": torch.stack(rest[:16])[:, :5] @ torch.stack(rest[12:17]),
        "identical": u.repeat(4, 1),
    }


def nearly_dependent(seed: int, distance: float) -> dict[str, Tensor]:
    """This far from dependent, relative to their length."""
    u, v, w, *_ = vectors(seed, 3)
    plane = torch.tensor([[1, 0], [-1, distance], [0.3, -1], [0, 1]], dtype=torch.float64)
    return {
        f"opposed but for {distance:g}": torch.stack([u, -0.7 * u + distance * v, w]),
        f"opposed but for {distance:g}, in a plane with others": plane @ torch.stack([u, v]),
        f"identical but for {distance:g}": torch.stack([u, u + distance * v, u + distance * w]),
        f"dependent but for {distance:g}": torch.stack([u, v, 0.3 * v - 0.5 * u + distance * w, 2 * w - u]),
    }


FAMILY: dict[str, Tensor] = {
    f"{name}, seed {seed}": jacobian.float()
    for seed in range(3)
    for name, jacobian in (exactly_dependent(seed) | nearly_dependent(seed, DISTANCES[seed])).items()
}


@st.composite
def dependent(draw: st.DrawFn) -> Tensor:
    """Float32 gradients of any of these kinds, of norms from 1e-3 to 1e3."""
    seed = draw(st.integers(0, 10_000))
    kinds = exactly_dependent(seed) | nearly_dependent(seed, 10 ** draw(st.floats(-8, -1)))
    jacobian = kinds[draw(st.sampled_from(sorted(kinds)))]
    exponents = torch.rand(len(jacobian), 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (jacobian * 10 ** (6 * exponents - 3)).float()


# Three ways to a method.


def combined(method: Method, jacobian: Tensor, losses: Tensor) -> Tensor:
    return method.combine(jacobian, losses)


class Vector(nn.Module):
    """Parameters of which each task's loss is a linear function: its gradient is the row of the
    Jacobian, exactly.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(parameters))


def trained(method: Method, jacobian: Tensor, losses: Tensor) -> Tensor:
    """What the engine leaves in ``.grad``."""
    shared, names = Vector(jacobian.shape[1]), [f"task{task}" for task in range(len(jacobian))]
    engine = recon.Engine(shared, names, method)

    def closure(batch: object = None) -> dict[str, Tensor]:
        return dict(zip(names, (jacobian * shared.vector).sum(1) + losses, strict=True))

    optimizer = torch.optim.SGD([shared.vector, *method.parameters()], lr=0.0)
    engine.step(closure, optimizer, validation=closure if method.needs_validation else None)
    assert shared.vector.grad is not None
    return shared.vector.grad


def adapted(method: Method, jacobian: Tensor, losses: Tensor) -> Tensor:
    """As TorchJD's aggregator; a loss method as its scalarizer."""
    adapter = to_torchjd(method)
    if isinstance(method, recon.LossMethod):
        leaves = losses.clone().requires_grad_()
        adapter(leaves).backward()
        assert leaves.grad is not None
        return leaves.grad @ jacobian
    update: Tensor = adapter(jacobian)
    return update


def adapted_from_products(method: Method, jacobian: Tensor, losses: Tensor) -> Tensor:
    """As TorchJD's weighting of a Gramian that was computed in float32."""
    weights: Tensor = to_torchjd(method).gramian_weighting(jacobian @ jacobian.T)
    return weights @ jacobian


def build(entry: Entry) -> Method:
    return create_method(entry.method, **entry.options)


def serves_torchjd(entry: Entry) -> bool:
    """TorchJD knows no steps of a method's own, and hands on no losses with gradients."""
    method = build(entry)
    if type(method).step is not Method.step:
        return False
    try:
        method.combine(torch.eye(4), torch.ones(4) if isinstance(method, recon.LossMethod) else None)
    except ValueError:
        return False
    return True


WAYS: list[tuple[str, Update, Callable[[Entry], bool]]] = [
    ("combine", combined, lambda entry: True),
    ("engine", trained, lambda entry: True),
    ("adapter", adapted, serves_torchjd),
    ("adapter of products", adapted_from_products, lambda e: serves_torchjd(e) and isinstance(build(e), GramianMethod)),
]
each_way = pytest.mark.parametrize(
    ("entry", "update"),
    [pytest.param(e, update, id=f"{e.label}-{way}") for way, update, serves in WAYS for e in ENTRIES if serves(e)],
)


def check_promises(entry: Entry, jacobian: Tensor, update: Tensor) -> None:
    method, exact, update = build(entry), jacobian.double(), update.double()
    norms = exact.norm(dim=1)
    factor = len(jacobian) if method.scale == "sum" else 1
    longest = factor * float(norms.max())
    assert update.isfinite().all()
    if "bounded" in entry.properties:
        assert update.norm() <= (1 + TOLERANCE) * longest
    if "mean-bounded" in entry.properties:
        assert update.norm() <= factor * exact.mean(dim=0).norm() + TOLERANCE * longest
    if "non-conflicting" in entry.properties:
        scale = max(longest, float(update.norm()))
        assert ((exact @ update) >= -TOLERANCE * norms * scale).all()


@each_way
def test_promises_hold_for_dependent_float32_gradients(entry: Entry, update: Update) -> None:
    for jacobian in FAMILY.values():
        if len(jacobian) >= entry.least_tasks:
            losses = torch.linspace(0.5, 2.0, len(jacobian))
            check_promises(entry, jacobian, update(build(entry), jacobian, losses))


@pytest.mark.slow
@each_way
@settings(deadline=None, max_examples=8)
@given(st.data())
def test_promises_hold_for_any_dependent_float32_gradients(entry: Entry, update: Update, data: st.DataObject) -> None:
    jacobian = data.draw(dependent())
    if len(jacobian) >= entry.least_tasks:
        losses = torch.linspace(0.5, 2.0, len(jacobian))
        check_promises(entry, jacobian, update(build(entry), jacobian, losses))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if "order-free" in e.properties], ids=lambda entry: entry.label)
def test_order_of_dependent_float32_gradients_does_not_matter(entry: Entry) -> None:
    for name, jacobian in FAMILY.items():
        if len(jacobian) < entry.least_tasks:
            continue
        losses = torch.linspace(0.5, 2.0, len(jacobian))
        order = torch.randperm(len(jacobian), generator=torch.Generator().manual_seed(1))
        update = build(entry).combine(jacobian, losses)
        permuted = build(entry).combine(jacobian[order], losses[order])
        longest = len(jacobian) * float(jacobian.norm(dim=1).max())
        assert (permuted - update).norm() <= TOLERANCE * max(longest, float(update.norm())), name


# What they stand on.


def test_resolution_is_that_of_the_coarsest_that_surrounds() -> None:
    assert resolution() == sqrt(2.0**-53)
    with gradients_in(torch.float32):
        assert resolution() == sqrt(2.0**-24)
        with gradients_in(torch.float64):
            assert resolution() == sqrt(2.0**-24)
        with gradients_in(torch.bfloat16):
            assert resolution() == sqrt(2.0**-8)
        with products_in(torch.float32):
            assert resolution() == sqrt(2.0**-20)
    with pytest.raises(KeyError), gradients_in(torch.float32):
        raise KeyError
    assert resolution() == sqrt(2.0**-53)


def seen_by_a_method(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Resolutions that MGDA is asked at, here in place of its weights."""
    seen: list[float] = []

    def weights(self: GramianMethod, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        seen.append(resolution())
        return torch.ones(len(gramian), dtype=torch.float64)

    monkeypatch.setattr(recon.methods.MGDA, "weights", recon.methods.base.kinds._checked_weights(weights))
    return seen


def test_combine_and_wrappers_say_the_precision_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = seen_by_a_method(monkeypatch)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        create_method("mgda").combine(torch.eye(2, dtype=dtype))
        create_method("cr_mogm").combine(torch.eye(2, dtype=dtype))
    assert seen == [sqrt(2.0**-53)] * 2 + [sqrt(2.0**-24)] * 2 + [sqrt(2.0**-8)] * 2
    create_method("mgda").weights(torch.eye(2))
    create_method("mgda").weights(torch.eye(2, dtype=torch.int64))
    assert seen[-2:] == [sqrt(2.0**-20), sqrt(2.0**-53)]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, sqrt(2.0**-53)), (torch.float32, sqrt(2.0**-24)), (torch.bfloat16, sqrt(2.0**-8))],
)
@pytest.mark.parametrize("at", ["parameters", "representation"])
def test_the_engine_says_the_precision_of_the_gradients(
    dtype: torch.dtype, expected: float, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_by_a_method(monkeypatch)
    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 4).to(dtype), nn.Linear(4, 2).to(dtype)
    engine = recon.Engine(trunk, ["a", "b"], create_method("mgda"), at=at)  # type: ignore[arg-type]
    features = trunk(torch.randn(5, 3, dtype=dtype))
    losses = dict(zip("ab", heads(features).square().mean(0), strict=True))
    engine.backward(losses, representation=features if at == "representation" else None)
    assert seen == [expected]


def test_softened_gradients_have_a_part_of_their_own() -> None:
    gramian = np.array([[4.0, -2.0], [-2.0, 1.0]])
    with gradients_in(torch.float32):
        norms, directions = softened_factor(gramian)
    np.testing.assert_array_equal(norms, [2.0, 1.0])
    np.testing.assert_allclose(directions.T @ directions, [[1 + 2.0**-24, -1], [-1, 1 + 2.0**-24]], rtol=0, atol=1e-15)


def test_multipliers_of_nearly_opposed_gradients_stay_below_one_over_the_resolution() -> None:
    """A gradient of its own, -b, can only be met by a difference of 1e-6, for which float32 has no
    digits.
    """
    jacobian = np.array([[1, 0], [-1, 1e-6], [0, -1]])
    gramian = jacobian @ jacobian.T
    exact = lift_into_dual_cone(jacobian.T, jacobian[2])
    np.testing.assert_allclose(jacobian[2] + jacobian.T @ exact, 0, atol=1e-9)
    with gradients_in(torch.float32):
        _, directions = softened_factor(gramian)
    assert lift_into_dual_cone(directions, directions[:, 2]).sum() < 1e-3 / resolution() < 1e6 < exact.sum()


def test_noise_of_float32_is_no_direction() -> None:
    u, w, noise, *_ = vectors(0, 3)
    jacobian = torch.stack([u, -0.3 * u + 1e-6 * noise, 3 * w - 0.2 * u])  # as a backward through some layers leaves it
    gramian = (jacobian @ jacobian.T).numpy()
    assert unit_root(gramian)[1].any(axis=1).sum() == 3
    with gradients_in(torch.float32):
        assert unit_root(gramian)[1].any(axis=1).sum() == 2


@pytest.mark.parametrize("method", ["upgrad", "dualproj"])
def test_training_on_dependent_losses_in_float32_stays_finite(method: str) -> None:
    """Three losses of two functions, with gradients u, -0.3 u and 3 w - 0.2 u in every step."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    inputs = torch.randn(64, 6)
    engine = recon.Engine(network, ["a", "b", "c"], create_method(method))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def closure(batch: object = None) -> dict[str, Tensor]:
        first, second = network(inputs).square().mean(0)
        return {"a": first, "b": -0.3 * first, "c": 3 * second - 0.2 * first}

    start = closure()["c"].item()
    for _ in range(60):
        info = engine.step(closure, optimizer)
        update = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        assert info.layer_gramians is not None
        longest = info.layer_gramians.sum(0).diagonal().max().sqrt()
        assert update.norm() <= (1 + TOLERANCE) * longest
    assert closure()["c"].item() < start
