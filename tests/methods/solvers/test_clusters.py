from itertools import product

import pytest
import torch
from torch import Tensor

from recon.methods.solvers.clusters import centres


def best_by_trial(values: Tensor, groups: int) -> float:
    """The least sum of squared deviations over all assignments to groups."""
    best = float("inf")
    for labels in product(range(groups), repeat=len(values)):
        chosen = torch.tensor(labels)
        total = sum(
            float(((own := values[chosen == group]) - own.mean()).square().sum())
            for group in range(groups)
            if (chosen == group).any()
        )
        best = min(best, total)
    return best


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
@pytest.mark.parametrize("tasks", [2, 4, 6])
def test_no_other_assignment_has_smaller_deviations(groups: int, tasks: int) -> None:
    for seed in range(5):
        values = torch.randn(tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = centres(values, groups)
        assert len(found.unique()) == min(groups, tasks)
        assert float((values - found).square().sum()) == pytest.approx(best_by_trial(values, groups), abs=1e-12)


def test_equal_numbers_stay_together_where_groups_allow() -> None:
    values = torch.tensor([1.0, 1.0, 1.0, 5.0])
    assert centres(values, 2).tolist() == [1, 1, 1, 5]
