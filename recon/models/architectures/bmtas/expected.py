"""The expected number of copies of each stage when tasks choose their copies at random.

Tasks that have chosen the same copy in every stage so far share the computation. So the copies of a
stage that run are as many as there are groups of such tasks. With ``p_t(c)`` for the probability
that task t chooses copy c, a set A of tasks is together in a stage with probability

    q(A) = sum_c prod_{t in A} p_t(c)

and up to a stage with the product of q(A) over the stages so far. A number of groups is a sum over
the sets within a group, by inclusion and exclusion:

    E[groups] = sum_{A, not empty} (-1)^(|A| + 1) prod_stages q(A)

That is exact, and has 2^K - 1 terms for K tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_TASKS = 16
"""More tasks than these have too many subsets."""


def expected_copies(probabilities: Sequence[Tensor]) -> Tensor:
    """The expected number of groups of tasks in each stage.

    >>> even = torch.full((2, 2), 0.5)
    >>> expected_copies([even, even])
    tensor([1.5000, 1.7500], dtype=torch.float64)

    Args:
        probabilities: For each of L stages in their order ``(K, copies)``, the probability that a
            task chooses a copy; a row sums to 1.

    Returns:
        ``(L,)`` in float64, with the graph of the probabilities.

    Raises:
        ValueError: There are more than :data:`MOST_TASKS` tasks.
    """
    tasks = len(probabilities[0])
    check_number_of_tasks(tasks)
    together = torch.stack([_together(stage.double()) for stage in probabilities]).cumprod(dim=0)
    return together @ _signs(tasks).to(together)


def check_number_of_tasks(tasks: int) -> None:
    """Refuse more tasks than have an expected cost.

    Raises:
        ValueError: There are too many.
    """
    if tasks > MOST_TASKS:
        raise ValueError(
            f"{tasks} tasks have {2**tasks - 1:,} subsets, too many for the expected cost of a tree; search for "
            f"{MOST_TASKS} tasks at most, or let groups of a conflict map share copies"
        )


def _together(probabilities: Tensor) -> Tensor:
    """The probability that all tasks of a subset choose one copy, for the subsets in binary order.

    Returns:
        ``(2^K - 1,)``; subset number i holds task t if bit t of i + 1 is set.
    """
    products = probabilities.new_ones(1, probabilities.shape[1])
    for own in probabilities:
        products = torch.cat([products, products * own])
    return products[1:].sum(dim=1)


def _signs(tasks: int) -> Tensor:
    signs = -torch.ones(1)
    for _ in range(tasks):
        signs = torch.cat([signs, -signs])
    return signs[1:]
