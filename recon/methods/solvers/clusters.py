"""Numbers in groups of like ones: k-means in one dimension, solved exactly.

The best groups are intervals of the sorted numbers. Dynamic programming finds them: the best first
j numbers in m groups are the best first i in m - 1, and one group of the rest (Wang & Song,
"Ckmeans.1d.dp: Optimal k-means Clustering in One Dimension by Dynamic Programming", R Journal
2011).
"""

import torch
from torch import Tensor


def centres(values: Tensor, groups: int) -> Tensor:
    """The mean of each number's group, (K,), for the groups with the least squared deviations.

    It works on the device of the numbers, for which no host waits.

    Args:
        values: (K,); infinite ones take no part and stay as they are.
        groups: Number of groups; with K or more, each number is a group.

    Example:
        >>> centres(torch.tensor([1.0, 9.0, 2.0, 10.0]), groups=2)
        tensor([1.5000, 9.5000, 1.5000, 9.5000])
    """
    if groups >= len(values):
        return values
    ordered, order = values.sort()
    left_out = ordered == torch.inf
    means, deviations = _intervals(ordered, left_out)
    ends_before: list[Tensor] = []
    least = deviations[0]
    for _ in range(groups - 1):
        least, end_before = (least[:-1, None] + deviations[1:]).min(dim=0)
        ends_before.append(end_before)
    place = torch.arange(len(values), device=values.device)
    end, found = place[-1:], torch.zeros_like(ordered)
    for end_before in reversed(ends_before):
        start = end_before.gather(0, end) + 1
        found = torch.where((place >= start) & (place <= end), _entry(means, start, end), found)
        end = start - 1
    found = torch.where(place <= end, _entry(means, place[:1], end), found)
    return torch.empty_like(values).scatter(0, order, torch.where(left_out, ordered, found))


def _intervals(ordered: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the squared deviations of each interval of sorted numbers, (K, K).

    Numbers that are left out, the last ones, count for neither.
    """
    place = torch.arange(len(ordered), device=ordered.device)
    inside = (place >= place[:, None, None]) & (place <= place[:, None]) & ~left_out  # (start, end, number)
    counts = inside.sum(dim=2)
    means = torch.where(inside, ordered, 0).sum(dim=2) / counts.clamp(min=1)
    deviations = torch.where(inside, (ordered - means[:, :, None]).square(), 0).sum(dim=2)
    return means, torch.where(place >= place[:, None], deviations, torch.inf)


def _entry(matrix: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """The entry of a (K, K) matrix at indices of shape (1,)."""
    return matrix.flatten().gather(0, row * len(matrix) + column)
