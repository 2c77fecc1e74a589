import pytest
import torch
from torch import Tensor
from torchjd.aggregation import Krum as TorchjdKrum

from recon.methods import Krum


def normal(seed: int, tasks: int, parameters: int = 12) -> Tensor:
    return torch.randn(tasks, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("tasks", "byzantine"), [(3, 0), (5, 1), (10, 3), (40, 10)])
def test_takes_the_gradient_of_lowest_score(tasks: int, byzantine: int) -> None:
    for seed in range(5):
        jacobian = normal(seed, tasks)
        squares = torch.cdist(jacobian, jacobian).square()
        scores = [row.sort().values[1 : tasks - byzantine - 1].sum() for row in squares]
        lowest = min(range(tasks), key=lambda task: (scores[task].item(), task))
        update = Krum(n_byzantine=byzantine).combine(jacobian)
        if tasks - byzantine > 3:
            torch.testing.assert_close(update, jacobian[lowest])
        else:  # the two nearest are nearest to each other, and rounding breaks the tie of their scores
            pair = squares.fill_diagonal_(torch.inf).argmin()
            assert any(torch.allclose(update, jacobian[task]) for task in (pair // tasks, pair % tasks))


def test_an_outlier_is_not_taken() -> None:
    jacobian = torch.ones(6, 4, dtype=torch.float64) + 0.1 * normal(0, 6, 4)
    jacobian[2] = -100
    weights = Krum(n_byzantine=1, n_selected=3).weights(jacobian @ jacobian.T)
    assert weights[2] == 0
    assert sorted(weights.tolist()) == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_torchjd_takes_the_same_where_one_neighbour_decides() -> None:
    for seed in range(20):
        jacobian = normal(seed, 7)
        theirs = TorchjdKrum(n_byzantine=4, n_selected=2)(jacobian)  # scores of one distance: squares sort alike
        torch.testing.assert_close(Krum(n_byzantine=4, n_selected=2).combine(jacobian), theirs)


def test_torchjd_takes_another_where_squares_matter() -> None:
    """It adds distances. On a line, to the two nearest: 5 and 5 for the first, 0 and 9 for the
    others.
    """
    jacobian = torch.tensor([[0.0], [5.0], [-5.0], [14.0], [14.0], [-14.0], [-14.0]], dtype=torch.float64)
    assert Krum(n_byzantine=3).weights(jacobian @ jacobian.T)[0] == 1  # 50, beside 81
    assert TorchjdKrum(n_byzantine=3).gramian_weighting(jacobian @ jacobian.T)[0] == 0  # 10, beside 9


def test_equal_scores_go_to_the_first_task() -> None:
    assert Krum().weights(torch.eye(4)).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("options", "least"), [({}, 3), ({"n_byzantine": 2}, 5), ({"n_selected": 4}, 4)])
def test_too_few_tasks_are_refused(options: dict[str, int], least: int) -> None:
    with pytest.raises(ValueError, match=f"krum: .* need at least {least} tasks, got 2"):
        Krum(**options).bind(2)
    with pytest.raises(ValueError, match=f"krum: .* need at least {least} tasks, got 2"):
        Krum(**options).weights(torch.eye(2))


@pytest.mark.parametrize(("name", "low"), [("n_byzantine", 0), ("n_selected", 1)])
@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_numbers_out_of_range_are_refused(name: str, low: int, value: float) -> None:
    with pytest.raises(ValueError, match=f"krum: {name} must be a whole number >= {low}, got"):
        Krum(**{name: value})
