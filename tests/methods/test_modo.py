import io

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import MoDoWeighting

from recon.methods import MGDA, MoDo


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10, 40])
def test_equals_torchjd_step_for_step(tasks: int) -> None:
    ours, theirs = MoDo(gamma=0.02, rho=0.3), MoDoWeighting(gamma=0.02, rho=0.3)
    for seed in range(4):
        gramian = normal(seed, tasks) @ normal(seed, tasks).T
        torch.testing.assert_close(ours.weights(gramian), theirs(gramian), rtol=1e-6, atol=1e-9)


def test_comes_to_the_shortest_combination_if_gradients_stay() -> None:
    jacobian, method = normal(0, 4), MoDo(gamma=0.05, rho=0.0)
    for _ in range(2000):
        update = method.combine(jacobian)
    torch.testing.assert_close(update, MGDA().combine(jacobian), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("factor", "settles"), [(0.95, True), (5.0, False)])
def test_the_combination_gets_shorter_below_the_stated_rate(factor: float, settles: bool) -> None:
    shortens = []
    for seed in range(5):
        jacobian = normal(seed, 4)
        method = MoDo(gamma=factor * 2 / float(torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1]), rho=0.0)
        lengths = torch.stack([jacobian.mean(0).norm(), *(method.combine(jacobian).norm() for _ in range(200))])
        shortens.append(bool((lengths.diff() <= 1e-12).all()))
    assert all(shortens) if settles else not any(shortens)


def test_weights_go_on_from_a_checkpoint() -> None:
    jacobian, method = normal(0, 5), MoDo(gamma=0.01)
    method.combine(jacobian)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = method.combine(jacobian)
    file.seek(0)
    resumed = MoDo(gamma=0.01)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(resumed.combine(jacobian), expected)


def test_what_a_user_does_with_the_weights_leaves_the_state_alone() -> None:
    method = MoDo()
    method.weights(torch.eye(3)).zero_()
    assert method.simplex_weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["gamma", "rho"])
def test_hyperparameters_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"modo: {name} must be a finite number >= 0, got -1"):
        MoDo(**{name: -1})
