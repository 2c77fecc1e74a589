import pytest
import torch
from small_maps import imported, measured
from torch import nn

from recon.conflict import ConflictAnalyzer, MeasuredMap, describe_certainty, selection_probabilities


def searched(*rates: float, steps: int = 200) -> MeasuredMap:
    """A search in which each layer's tasks conflict at this rate, at random."""
    observing = ConflictAnalyzer(nn.Sequential(*(nn.Linear(2, 2) for _ in rates)), tasks=["a", "b"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        cosines = torch.where(torch.rand(len(rates), generator=generator) < torch.tensor(rates), -0.5, 0.5)
        observing.observe(torch.eye(2) + cosines[:, None, None] * (1 - torch.eye(2)))
    return observing.conflict_map()


def test_probabilities_sum_to_the_number_of_layers_and_follow_the_scores() -> None:
    cmap = searched(0.9, 0.5, 0.48, 0.1)
    probabilities = selection_probabilities(cmap, k=2, severity=-0.1)
    assert list(probabilities) == list(cmap.layers)
    assert sum(probabilities.values()) == pytest.approx(2)
    assert probabilities["0"] == 1 and probabilities["3"] == 0
    assert 0.1 < probabilities["1"] < 0.9
    assert probabilities == selection_probabilities(cmap, k=2, severity=-0.1)


def test_layers_of_equal_score_share_their_places() -> None:
    probabilities = selection_probabilities(searched(1.0, 0.0, 0.0, 0.0), k=2, severity=-0.1, samples=3000)
    assert [probabilities[layer] for layer in "123"] == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_text_lists_the_layers_that_may_or_may_not_be_selected() -> None:
    first, second, *layers = describe_certainty(searched(0.9, 0.5, 0.48, 0.1), k=2, severity=-0.1).splitlines()
    assert first.startswith("of the top 2, 1.")
    assert second == "probability to be selected 0.95 or more: 1 layer; less, down to 0.05:"
    assert sorted(line.split()[0] for line in layers) == ["1", "2"]


def test_maps_without_enough_steps_are_refused() -> None:
    for cmap in (imported(a=2, b=1), measured(a=2, b=1)):
        with pytest.raises(ValueError, match="has no stretches of steps to draw from"):
            selection_probabilities(cmap, k=1, severity=-0.1)
    with pytest.raises(ValueError, match="7 stretches of steps"):
        selection_probabilities(searched(1.0, 0.0, steps=7), k=1, severity=-0.1)
    with pytest.raises(ValueError, match="top=3 of 2 layers"):
        selection_probabilities(searched(1.0, 0.0), k=3, severity=-0.1)
