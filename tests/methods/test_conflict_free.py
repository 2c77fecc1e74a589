import pytest
import torch
from torch import Tensor
from torchjd.aggregation import ConFIG as TorchjdConFIG

from recon.methods import ConFIG, create_method


def direct(jacobian: Tensor, preference: Tensor) -> Tensor:
    """Equations 2 and 3 of the paper, by the pseudoinverse of the (K, P) matrix of unit
    gradients.
    """
    units = jacobian / jacobian.norm(dim=1, keepdim=True)
    direction = torch.linalg.pinv(units, rtol=1e-3) @ preference
    direction = direction / direction.norm()
    return (jacobian @ direction).sum() * direction


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_all_tasks_have_the_same_cosine_and_the_length_is_the_sum_of_projections(tasks: int) -> None:
    jacobian = torch.randn(tasks, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(tasks))
    update = ConFIG().combine(jacobian)
    cosines = torch.cosine_similarity(jacobian, update[None])
    torch.testing.assert_close(cosines, cosines.mean().expand(tasks))
    assert cosines.mean() > 0
    torch.testing.assert_close(update.norm(), (jacobian @ update).sum() / update.norm())


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_equals_torchjd_and_the_direct_pseudoinverse(tasks: int) -> None:
    for seed in range(5):
        jacobian = torch.randn(tasks, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        jacobian *= torch.logspace(-10, 15, tasks, dtype=torch.float64)[:, None]
        update = ConFIG().combine(jacobian)
        size = float(update.norm())
        torch.testing.assert_close(update, TorchjdConFIG()(jacobian), rtol=0, atol=1e-9 * size)
        torch.testing.assert_close(
            update, direct(jacobian, torch.ones(tasks, dtype=torch.float64)), rtol=0, atol=1e-9 * size
        )


def test_torchjd_has_the_same_update_on_regular_jacobians(regular: Tensor) -> None:
    update = ConFIG().combine(regular)
    torch.testing.assert_close(update, TorchjdConFIG()(regular), rtol=0, atol=1e-4 * float(update.norm()))


def test_dependent_gradients_get_the_nearest_cosines_as_from_the_pseudoinverse() -> None:
    generator = torch.Generator().manual_seed(0)
    for tasks, rank in ((3, 2), (10, 5), (40, 12)):
        jacobian = torch.randn(tasks, rank, dtype=torch.float64, generator=generator)
        jacobian = jacobian @ torch.randn(rank, 50, dtype=torch.float64, generator=generator)
        torch.testing.assert_close(ConFIG().combine(jacobian), direct(jacobian, torch.ones(tasks, dtype=torch.float64)))


def test_preference_is_the_ratio_of_the_cosines() -> None:
    jacobian = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    update = ConFIG(preference=[1, 2, 0]).combine(jacobian)
    cosines = torch.cosine_similarity(jacobian, update[None])
    torch.testing.assert_close(cosines / cosines[0], torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(update, direct(jacobian, torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)))


def test_a_zero_gradient_takes_no_part() -> None:
    jacobian = torch.randn(3, 20, dtype=torch.float64)
    jacobian[1] = 0
    torch.testing.assert_close(ConFIG().combine(jacobian), ConFIG().combine(jacobian[[0, 2]]))


def test_opposed_gradients_stop_it() -> None:
    for seed in range(20):
        gradient = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert not ConFIG().combine(torch.stack([gradient, -3 * gradient])).any()


def test_inner_products_in_float32_tell_dependent_gradients_as_well_as_exact_ones() -> None:
    jacobian = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    jacobian[2] = jacobian[0] - 0.5 * jacobian[1]
    exact = ConFIG().combine(jacobian.double())
    weights = ConFIG().weights(jacobian @ jacobian.T)
    torch.testing.assert_close(weights @ jacobian.double(), exact, rtol=0, atol=1e-4 * float(exact.norm()))


def test_a_preference_for_none_is_refused() -> None:
    with pytest.raises(ValueError, match="config: preference must prefer at least one task"):
        create_method("config", preference=[0, 0])
