import json
from pathlib import Path

import pytest
import torch
from small_maps import measured_map, record_of

from recon.conflict import ConflictMap, MeasuredMap


def test_scores_count_what_is_strictly_below_the_severity(cmap: MeasuredMap) -> None:
    assert cmap.scores(0.0) == {"conv1": 7, "bn1": 3, "fc": 0}
    assert cmap.scores(-0.09) == {"conv1": 7, "bn1": 0, "fc": 0}
    assert cmap.scores(-0.1) == {"conv1": 3, "bn1": 0, "fc": 0}
    assert cmap.scores(-0.11) == {"conv1": 1, "bn1": 0, "fc": 0}
    assert cmap.scores(-0.99) == {"conv1": 1, "bn1": 0, "fc": 0}


def test_rates_are_fractions_of_the_observations(cmap: MeasuredMap) -> None:
    assert cmap.observations == {"conv1": 16, "bn1": 3, "fc": 0}
    assert cmap.rates(-0.1) == {"conv1": 3 / 16, "bn1": 0.0, "fc": 0.0}
    assert cmap.rates(0.0) == {"conv1": 7 / 16, "bn1": 1.0, "fc": 0.0}


@pytest.mark.parametrize("severity", [-0.30000000000000004, -0.1 - 0.2, -0.3 + 9e-10, -3 / 10])
def test_severities_within_rounding_of_the_grid_are_on_it(severity: float) -> None:
    cmap = measured_map(conv1={-31: 1, -30: 2})
    assert cmap.scores(severity) == {"conv1": 1}


@pytest.mark.parametrize(
    ("severity", "nearest"),
    [
        (-0.105, "-0.1"),
        (-0.299, "-0.3"),
        (0.1, "0.0"),
        (0.004, "0.0"),
        (-1, "-0.99"),
        (-7, "-0.99"),
        (float("nan"), "0.0"),
        (float("-inf"), "-0.99"),
        (1e308, "0.0"),
    ],
)
def test_severities_off_the_grid_are_refused(cmap: MeasuredMap, severity: float, nearest: str) -> None:
    for ask in (cmap.scores, cmap.rates, lambda severity: cmap.top(1, severity)):
        with pytest.raises(ValueError, match="not on the 0") as refusal:
            ask(severity)
        assert str(refusal.value) == f"severity {severity} is not on the 0.01 grid in (-1, 0]; nearest: {nearest}"


def test_top_layers_are_ranked_by_score_and_ties_in_forward_order() -> None:
    cmap = measured_map(a={0: 1}, b={-50: 2}, c={0: 9}, d={-50: 2}, e={-50: 3})
    assert cmap.top(5, -0.1) == ["e", "b", "d", "a", "c"]
    assert cmap.top(2, -0.1) == ["e", "b"]


@pytest.mark.parametrize("k", [-1, 0, 4])
def test_more_or_fewer_layers_than_there_are_is_refused(cmap: MeasuredMap, k: int) -> None:
    with pytest.raises(ValueError, match=f"top={k} of 3 layers; give a number from 1 to 3"):
        cmap.top(k, -0.1)


def test_a_saved_map_is_read_back_unchanged(cmap: MeasuredMap, tmp_path: Path) -> None:
    cmap.save(tmp_path / "new" / "map.json")
    loaded = ConflictMap.load(str(tmp_path / "new" / "map.json"))
    assert isinstance(loaded, MeasuredMap)
    assert (loaded.layers, loaded.tasks, loaded.pairs) == (cmap.layers, cmap.tasks, (("digit", "fashion"),))
    assert (loaded.parameters, loaded.provenance) == (cmap.parameters, cmap.provenance)
    assert torch.equal(loaded.histogram, cmap.histogram) and loaded.histogram.dtype == torch.int64
    torch.testing.assert_close(loaded.mean_cosine, cmap.mean_cosine, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(loaded.gradient_norms, cmap.gradient_norms, rtol=0, atol=0, equal_nan=True)
    assert record_of(loaded, tmp_path / "again.json") == json.loads((tmp_path / "new" / "map.json").read_text())


def test_a_map_fits_the_network_it_is_of_in_any_order(cmap: MeasuredMap) -> None:
    cmap.check_layers({"conv1": [], "bn1": [], "fc": []})
    cmap.check_layers(["fc", "conv1", "bn1"])


def test_a_map_of_another_network_is_refused_by_layer(cmap: MeasuredMap) -> None:
    with pytest.raises(ValueError) as refusal:
        cmap.check_layers(["conv1", "bn2", "head"], network="VGG")
    assert str(refusal.value) == (
        "the conflict map of LeNet does not fit: VGG lacks 2 of its 3 layers ('bn1', 'fc'); "
        "unknown layer 'bn1' in VGG; nearest: 'bn2'; "
        "it has no score of 2 of 3 layers of VGG ('bn2', 'head'); use a map of this network"
    )


def test_a_map_of_a_part_of_the_network_is_refused(cmap: MeasuredMap) -> None:
    with pytest.raises(ValueError, match=r"fit: it has no score of 1 of 4 layers of the network \('head'\)"):
        cmap.check_layers([*cmap.layers, "head"])


def test_repr_says_what_the_map_is_of(cmap: MeasuredMap, published: Path) -> None:
    assert "LeNet: 3 layers, tasks digit, fashion" in repr(cmap)
    assert repr(ConflictMap.import_scores(published)) == "ImportedMap(published.json: 8 layers, severity -0.1)"
