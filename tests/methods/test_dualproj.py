from collections.abc import Callable

import scipy.optimize
import torch
from torch import Tensor
from torchjd.aggregation import DualProj as TorchjdDualProj
from torchjd.linalg import QuadprogProjector

from recon.methods import DualProj


def test_is_the_projected_mean(jacobian: Tensor) -> None:
    norms = jacobian.norm(dim=1)
    unit = jacobian[norms > 0] / norms[norms > 0, None]
    mean, size = jacobian.mean(0), norms.max()
    expected = mean
    if len(unit) and mean.norm() > 1e-12 * size:
        multipliers, _ = scipy.optimize.nnls(unit.T.numpy(), -(mean / mean.norm()).numpy(), maxiter=3000)
        expected = mean + mean.norm() * torch.from_numpy(multipliers) @ unit
    torch.testing.assert_close(DualProj().combine(jacobian), expected, rtol=0, atol=1e-7 * float(size))


def test_no_nearby_update_that_harms_no_task_is_nearer_to_the_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    jacobian = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    jacobian[0] *= 5
    jacobian[1] -= 0.8 * jacobian[0]
    update, mean = DualProj().combine(jacobian), jacobian.mean(0)
    assert (jacobian @ mean < 0).any()
    others = update + 0.1 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    others = others[(others @ jacobian.T >= 0).all(1)]
    assert len(others) > 100
    assert (others - mean).norm(dim=1).min() >= (update - mean).norm() - 1e-9


def test_torchjd_without_its_constants_has_the_same_direction(
    regular: Tensor, same_direction: Callable[[Tensor, Tensor], bool]
) -> None:
    theirs = TorchjdDualProj(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-12))(regular)
    if theirs.norm() > 1e-3 * regular.norm(dim=1).mean():  # else its regularisation decides the direction
        assert same_direction(DualProj().combine(regular), theirs)


def test_a_preference_weighs_the_gradients_before() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        DualProj(preference=[1, 0]).combine(jacobian), torch.tensor([0.5, 0.5], dtype=torch.float64)
    )
