from collections.abc import Callable

import pytest
import scipy.optimize
import torch
from torch import Tensor
from torchjd.aggregation import UPGrad as TorchjdUPGrad
from torchjd.linalg import QuadprogProjector

import recon.methods.solvers.dual_cone
import recon.methods.solvers.gramian
from recon.methods import UPGrad


def projected(jacobian: Tensor, vector: Tensor) -> Tensor:
    """The nearest vector that conflicts with no row, by Lawson & Hanson's solver on the gradients
    themselves.
    """
    multipliers, _ = scipy.optimize.nnls(jacobian.T.numpy(), -vector.numpy(), maxiter=3000)
    return vector + torch.from_numpy(multipliers) @ jacobian


def test_is_the_mean_of_the_projected_gradients(jacobian: Tensor) -> None:
    norms = jacobian.norm(dim=1)
    unit = jacobian[norms > 0] / norms[norms > 0, None]
    expected = torch.zeros_like(jacobian[0])
    for row, norm in zip(unit, norms[norms > 0], strict=True):
        expected += projected(unit, row) * norm / len(jacobian)
    torch.testing.assert_close(UPGrad().combine(jacobian), expected, rtol=0, atol=1e-7 * float(norms.max()))


def test_torchjd_without_its_constants_has_the_same_direction(
    regular: Tensor, same_direction: Callable[[Tensor, Tensor], bool]
) -> None:
    theirs = TorchjdUPGrad(projector=QuadprogProjector(norm_eps=0.0, reg_eps=1e-12))(regular)
    ours = UPGrad().combine(regular)
    if theirs.norm() > 1e-3 * regular.norm(dim=1).mean():  # else its regularisation decides the direction
        assert same_direction(ours, theirs)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(regular.norm(dim=1).mean()))


def test_torchjds_constants_leave_conflicts_that_we_do_not() -> None:
    worst = {"ours": 0.0, "theirs": 0.0}
    for seed in range(20):
        jacobian = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        jacobian *= torch.tensor([[1.0], [10.0], [0.01], [1.0]])
        for side, update in (("ours", UPGrad().combine(jacobian)), ("theirs", TorchjdUPGrad()(jacobian))):
            cosines = jacobian @ update / jacobian.norm(dim=1) / update.norm()
            worst[side] = min(worst[side], cosines.min().item())
    assert worst["ours"] > -1e-12
    assert worst["theirs"] < -1e-3


def test_a_preference_weighs_the_projected_gradients() -> None:
    jacobian = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 2 * projected(jacobian, jacobian[0]) + 0.5 * projected(jacobian, jacobian[2])
    torch.testing.assert_close(UPGrad(preference=[2, 0, 0.5]).combine(jacobian), expected)


def test_gradients_without_conflict_are_averaged() -> None:
    assert UPGrad().weights(torch.tensor([[1.0, 0.5], [0.5, 2.0]])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("tasks", [11, 25, 40])
def test_the_batch_equals_single_projections(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(5):
        jacobian = torch.randn(tasks, 2 * tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        batched = UPGrad().combine(jacobian)
        with monkeypatch.context() as context:
            context.setattr(recon.methods.solvers.dual_cone, "_FEW", tasks)
            torch.testing.assert_close(UPGrad().combine(jacobian), batched)


def test_a_solver_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr(recon.methods.solvers.gramian, "nnls", exhausted)
    with pytest.raises(RuntimeError, match="non-negative least squares did not end in 60 iterations"):
        UPGrad().weights(torch.tensor([[1.0, -0.5], [-0.5, 1.0]]))


@pytest.mark.parametrize("preference", [[1.0, -1.0], [1.0, float("nan")]])
def test_a_preference_out_of_range_is_refused(preference: list[float]) -> None:
    with pytest.raises(ValueError, match=r"upgrad: preference\[1\] must be a finite number >= 0, got"):
        UPGrad(preference=preference)


def test_a_preference_for_none_or_for_other_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="upgrad: preference must prefer at least one task"):
        UPGrad(preference=[0, 0])
    with pytest.raises(ValueError, match="upgrad: preference holds 2 numbers for 3 tasks"):
        UPGrad(preference=[1, 1]).weights(torch.eye(3))
