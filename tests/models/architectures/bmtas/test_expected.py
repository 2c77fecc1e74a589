"""The expected number of copies against every assignment of copies to tasks."""

from itertools import product

import pytest
import torch
from torch import Tensor

from recon.models.architectures.bmtas.expected import expected_copies


def drawn(stages: int, tasks: int, copies: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(10 * stages + tasks)
    logits = torch.randn(stages, tasks, copies, dtype=torch.float64, generator=generator)
    return [*(2 * logits).softmax(dim=-1)]


def enumerated(probabilities: list[Tensor]) -> list[float]:
    """The mean number of distinct histories of choices, over all assignments in all stages."""
    tasks, copies = probabilities[0].shape
    expected = [0.0] * len(probabilities)
    for choices in product(range(copies), repeat=tasks * len(probabilities)):
        by_stage = [choices[tasks * stage : tasks * (stage + 1)] for stage in range(len(probabilities))]
        chance = 1.0
        for own, row in zip(probabilities, by_stage, strict=True):
            for task, copy in enumerate(row):
                chance *= own[task, copy].item()
        for stage in range(len(probabilities)):
            expected[stage] += chance * len(
                {tuple(row[task] for row in by_stage[: stage + 1]) for task in range(tasks)}
            )
    return expected


@pytest.mark.parametrize(("stages", "tasks", "copies"), [(4, 2, 2), (2, 3, 3), (3, 3, 2), (2, 4, 2), (1, 1, 2)])
def test_it_is_the_mean_over_all_assignments(stages: int, tasks: int, copies: int) -> None:
    probabilities = drawn(stages, tasks, copies)
    torch.testing.assert_close(expected_copies(probabilities).tolist(), enumerated(probabilities))


def of_the_authors(probabilities: list[Tensor]) -> list[float]:
    """The rule of the authors' code: a draw that does not refine the groups so far counts as all tasks apart."""
    tasks = len(probabilities[0])
    history: dict[tuple[int, ...], float] = {(0,) * tasks: 1.0}
    expected = []
    for own in probabilities:
        after: dict[tuple[int, ...], float] = {}
        for choices in product(range(own.shape[1]), repeat=tasks):
            chance = 1.0
            for task, copy in enumerate(choices):
                chance *= own[task, copy].item()
            groups = tuple(choices.index(copy) for copy in choices)
            for before, probability in history.items():
                refines = all(
                    before[i] == before[j] for i in range(tasks) for j in range(tasks) if groups[i] == groups[j]
                )
                found = groups if refines else tuple(range(tasks))
                after[found] = after.get(found, 0) + chance * probability
        history = after
        expected.append(sum(len(set(groups)) * probability for groups, probability in history.items()))
    return expected


def test_for_two_tasks_it_is_the_authors_and_for_three_theirs_counts_more() -> None:
    two, three = drawn(4, 2, 2), drawn(3, 3, 3)
    torch.testing.assert_close(expected_copies(two).tolist(), of_the_authors(two))
    ours, theirs = expected_copies(three), torch.tensor(of_the_authors(three), dtype=torch.float64)
    torch.testing.assert_close(ours[0], theirs[0])
    assert (theirs[1:] > ours[1:] + 0.01).all()


def test_certain_choices_give_whole_numbers_and_gradients() -> None:
    apart, alike = torch.eye(3, dtype=torch.float64), torch.tensor([[1.0, 0, 0]] * 3, dtype=torch.float64)
    assert expected_copies([alike, alike, apart, alike]).tolist() == [1, 1, 3, 3]
    assert torch.autograd.gradcheck(
        lambda *logits: expected_copies([own.softmax(-1) for own in logits]), drawn_logits()
    )


def drawn_logits() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]


def test_many_tasks_are_counted_exactly_and_too_many_refused() -> None:
    even = torch.full((14, 4), 0.25)
    assert expected_copies([even])[0].item() == pytest.approx(4 * (1 - 0.75**14))
    with pytest.raises(ValueError, match=r"17 tasks have 131,071 subsets.* 16 tasks at most, or let groups"):
        expected_copies([torch.full((17, 2), 0.5)])
