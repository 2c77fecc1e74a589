from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_maps import changed, record_of
from torch import Tensor, nn

import recon
from recon.conflict import ConflictAnalyzer, ConflictMap, MeasuredMap
from recon.conflict.record import write_record
from recon.conflict.stretches import Stretches


def gramians(steps: int, layers: int = 2) -> Tensor:
    """(steps, layers, 3, 3), of random gradients."""
    rows = torch.randn(steps, layers, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(steps))
    return rows @ rows.mT


def analyzer(layers: int = 2) -> ConflictAnalyzer:
    return ConflictAnalyzer(nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers))), tasks=["a", "b", "c"])


def stretches_of(cmap: ConflictMap) -> Stretches:
    assert isinstance(cmap, MeasuredMap) and cmap.stretches is not None
    return cmap.stretches


@pytest.mark.parametrize(
    ("steps", "sizes"),
    [
        (1, (1,)),
        (31, (1,) * 31),
        (32, (2,) * 16),
        (63, (2,) * 31 + (1,)),
        (64, (4,) * 16),
        (1001, (32,) * 31 + (9,)),
    ],
)
def test_a_search_of_any_length_has_few_stretches_of_equal_size(steps: int, sizes: tuple[int, ...]) -> None:
    observing, observed = analyzer(), gramians(steps)
    for each in observed:
        observing.observe(each)
    stretches = stretches_of(observing.conflict_map())
    assert stretches.steps == sizes
    ends = np.cumsum([0, *sizes])
    for number, (begin, end) in enumerate(pairwise(ends)):
        alone = analyzer()
        for each in observed[begin:end]:
            alone.observe(each)
        for severity in (0.0, -0.1, -0.37):
            assert stretches.scores(severity)[number].tolist() == list(alone.conflict_map().scores(severity).values())


def test_stretches_resume_with_the_search() -> None:
    whole, begun, resumed = analyzer(), analyzer(), analyzer()
    for step, each in enumerate(gramians(70)):
        whole.observe(each)
        (begun if step < 37 else resumed).observe(each)
        if step == 36:
            resumed.load_state_dict(begun.state_dict())
    expected, found = (stretches_of(each.conflict_map()) for each in (whole, resumed))
    assert found.steps == expected.steps
    assert (found.counts == expected.counts).all()


def test_a_checkpoint_of_an_older_version_begins_its_stretches_where_it_resumes() -> None:
    begun, resumed = analyzer(), analyzer()
    for each in gramians(10):
        begun.observe(each)
    older = {key: value for key, value in begun.state_dict().items() if not key.startswith("stretch_")}
    resumed.load_state_dict(older)
    for each in gramians(9):
        resumed.observe(each)
    cmap = resumed.conflict_map()
    assert cmap.provenance["observed_steps"] == 19
    assert stretches_of(cmap).steps == (1,) * 9
    with pytest.raises(ValueError, match="stretch_counts of the state"):
        analyzer().load_state_dict(begun.state_dict() | {"stretch_counts": torch.zeros(1)})


def test_a_layer_that_thaws_has_no_conflicts_in_the_stretches_before() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    observing = ConflictAnalyzer(network, tasks=["a", "b"])
    opposed = torch.tensor([[[1.0, -0.5], [-0.5, 1.0]]])
    observing.observe(opposed)
    network[0].requires_grad_(True)
    observing.follow(network)
    observing.observe(opposed.expand(2, 2, 2))
    assert stretches_of(observing.conflict_map()).scores(-0.1).tolist() == [[0, 1], [1, 1]]


def saved(tmp_path: Path) -> dict[str, Any]:
    observing = analyzer()
    for each in gramians(20):
        observing.observe(each)
    return record_of(observing.conflict_map(), tmp_path / "map.json")


def test_a_file_keeps_the_stretches_and_one_without_them_is_read(tmp_path: Path) -> None:
    record = saved(tmp_path)
    stretches = stretches_of(ConflictMap.load(tmp_path / "map.json"))
    assert stretches.steps == (1,) * 20
    assert stretches.scores(-0.1).sum(0).tolist() == list(ConflictMap.load(tmp_path / "map.json").scores(-0.1).values())
    write_record(tmp_path / "old.json", {key: value for key, value in record.items() if key != "stretches"})
    old = ConflictMap.load(tmp_path / "old.json")
    assert isinstance(old, MeasuredMap) and old.stretches is None


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("steps", [1] * 19, "does not hold the 3800 bytes"),
        ("steps", [], "'stretches' are 0"),
        ("steps", [0] * 20, "which|cannot have"),
        ("steps", [2] * 20, "stretches have 40 steps of 20"),
        ("bytes", 3, "counts of 3 bytes"),
        ("counts", "eJwDAAAAAAE=", "does not hold the 4000 bytes"),
    ],
)
def test_stretches_that_do_not_fit_the_map_are_refused(key: str, value: object, error: str, tmp_path: Path) -> None:
    write_record(tmp_path / "map.json", changed(saved(tmp_path), "stretches", key, to=value))
    with pytest.raises(ValueError, match=error):
        ConflictMap.load(tmp_path / "map.json")


def test_drawn_searches_have_the_mean_of_the_search_and_the_spread_of_its_stretches() -> None:
    counts = np.zeros((16, 1, 100), dtype=np.int64)
    counts[:, 0, 0] = np.arange(16)
    drawn = Stretches((1,) * 16, counts).resampled(-0.1, samples=20_000, seed=3)[:, 0]
    assert drawn.mean() == pytest.approx(120, rel=0.01)
    assert drawn.std() == pytest.approx((16 * np.arange(16).var()) ** 0.5, rel=0.03)
    with pytest.raises(ValueError, match="7 stretches of steps tell nothing"):
        Stretches((1,) * 7, counts[:7]).resampled(-0.1, samples=1, seed=0)


def test_a_run_of_alike_steps_makes_a_ranking_less_sure_than_as_many_unlike_ones() -> None:
    foes, friends = torch.tensor([[1.0, -0.5], [-0.5, 1.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    spreads = []
    for run in (1, 64):  # successive steps in which the first layer conflicts
        observing = ConflictAnalyzer(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), tasks=["a", "b"])
        for step in range(512):
            observing.observe(torch.stack([foes if step // run % 2 else friends, friends]))
        spreads.append(stretches_of(observing.conflict_map()).resampled(-0.1, samples=500, seed=0)[:, 0].std())
    assert spreads[0] == 0  # alternating: each stretch has as many of both
    assert spreads[1] > 55


def test_certainty_is_of_the_package() -> None:
    assert recon.conflict.selection_probabilities.__module__ == "recon.conflict.certainty"
