import pytest
import torch
from torch import Tensor

from recon.methods import DBMTL


def inputs(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(3, 20, dtype=torch.float64, generator=generator),
        0.1 + torch.rand(3, dtype=torch.float64, generator=generator),
    )


@pytest.mark.parametrize(("beta", "decay"), [(0.9, 0.0), (0.5, 0.5), (0.0, 1.0)])
def test_equals_the_published_recursion(beta: float, decay: float) -> None:
    method = DBMTL(beta=beta, decay=decay)
    averages = torch.zeros(3, 20, dtype=torch.float64)
    for step in range(1, 8):
        jacobian, losses = inputs(step)
        of_logarithms = torch.stack([gradient / loss for gradient, loss in zip(jacobian, losses, strict=True)])
        averages = of_logarithms + beta / step**decay * (averages - of_logarithms)
        norms = averages.norm(dim=1)
        expected = sum(norms.max() / norm * average for norm, average in zip(norms, averages, strict=True))
        torch.testing.assert_close(method.combine(jacobian, losses), expected, rtol=1e-6, atol=1e-6)


def test_all_tasks_enter_with_the_length_of_the_longest() -> None:
    jacobian = torch.diag(torch.tensor([3.0, 0.1, 50.0]))
    update = DBMTL(beta=0).combine(jacobian, torch.tensor([1.0, 1.0, 2.0]))
    torch.testing.assert_close(update, torch.full((3,), 25.0))


def test_a_task_without_gradient_takes_no_part() -> None:
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(DBMTL(beta=0).combine(jacobian, torch.ones(2)), torch.tensor([1.0, 0.0]))


def test_losses_are_needed_and_positive() -> None:
    with pytest.raises(ValueError, match=r"db_mtl: .*pass losses"):
        DBMTL().combine(torch.ones(2, 3))
    with pytest.raises(ValueError, match="db_mtl: needs positive losses, got -1 at task index 1"):
        DBMTL().combine(torch.ones(2, 3), torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("options", [{"beta": 1.0}, {"beta": -0.1}, {"decay": -1}])
def test_hyperparameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"db_mtl: {next(iter(options))} must be"):
        DBMTL(**options)
