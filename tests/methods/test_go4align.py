import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from recon.methods import GO4Align


def losses_of(seed: int, tasks: int = 5) -> torch.Tensor:
    return 0.2 + torch.rand(tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_follows_the_published_loop_with_the_best_of_many_clusterings(groups: int) -> None:
    method, step_size = GO4Align(groups, step_size=0.3), 0.3
    indicators = np.full(5, 1 / 5)
    for seed in range(8):
        losses = losses_of(seed).numpy()
        indicators = indicators * np.exp(-step_size * losses)
        indicators = indicators / indicators.sum()
        weights = losses.sum() / losses * indicators
        runs = [kmeans2(weights[:, None], groups, seed=run, minit="++", missing="raise") for run in range(20)]
        centres = [centroids[labels, 0] for centroids, labels in runs]
        best = min(centres, key=lambda each: ((each - weights) ** 2).sum())
        np.testing.assert_allclose(method.loss_weights(torch.from_numpy(losses)).numpy(), best)


def test_as_many_groups_as_tasks_leave_each_its_own_weight() -> None:
    losses = losses_of(0)
    expected = (losses.sum() / losses) * (-1e-4 * losses).softmax(0)
    torch.testing.assert_close(GO4Align(groups=5).loss_weights(losses), expected)
    torch.testing.assert_close(GO4Align(groups=9).loss_weights(losses), expected)


def test_one_group_gives_all_tasks_one_weight() -> None:
    weights = GO4Align(groups=1).loss_weights(losses_of(0))
    assert weights.std() < 1e-12


def test_a_loss_of_zero_takes_no_part() -> None:
    assert GO4Align(groups=5).loss_weights(torch.tensor([1.0, 0.0, 1.0]))[1] == 0
    assert not GO4Align().loss_weights(torch.zeros(3)).any()


@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_a_loss_of_zero_is_as_an_absent_task(groups: int) -> None:
    given, alone = GO4Align(groups, step_size=0.3), GO4Align(groups, step_size=0.3)
    given.bind(5)
    alone.bind(5)
    for seed in range(4):
        losses, present = losses_of(seed), [0, 2, 3, 4] if seed % 2 else [1, 4]
        with alone.among(present):
            expected = alone.loss_weights(losses[present])
        zeros = torch.zeros(5, dtype=torch.float64)
        weights = given.loss_weights(zeros.index_copy(0, torch.tensor(present), losses[present]))
        torch.testing.assert_close(weights[present], expected)
        assert not weights[[i for i in range(5) if i not in present]].any()
        torch.testing.assert_close(given.indicators, alone.indicators)


def test_a_task_whose_losses_stay_high_loses_weight() -> None:
    method = GO4Align(step_size=0.1)
    for _ in range(50):
        weights = method.loss_weights(torch.tensor([2.0, 1.0]))
    assert weights[0] * 2 < 0.1 * weights[1]


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="go4align: groups must be a whole number >= 1, got 0"):
        GO4Align(groups=0)
    with pytest.raises(ValueError, match="go4align: needs positive losses, got -1 at task index 0"):
        GO4Align().loss_weights(torch.tensor([-1.0, 1.0]))
