import json
import os
import zlib
from base64 import b64decode, b64encode
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from recon.conflict import BIN_EDGES, ConflictMap, MeasuredMap

# The head of the ranking published for ResNet-18 on Multi-Fashion+MNIST at S = -0.1, and a tie from its tail.
PUBLISHED = {
    "bn1": 4427,
    "layer1.0.bn1": 4168,
    "layer1.1.bn1": 3793,
    "conv1": 1944,
    "fc": 35,
    "layer3.0.conv1": 25,
    "layer1.0.conv2": 25,
    "layer4.1.conv2": 17,
}


def measured_map(**histograms: dict[int, int]) -> MeasuredMap:
    """A map of two tasks; a histogram is {lower edge in hundredths: observations}."""
    histogram = torch.zeros(len(histograms), 1, 200, dtype=torch.int64)
    means = torch.full((len(histograms), 1), torch.nan, dtype=torch.float64)
    for layer, bins in enumerate(histograms.values()):
        for hundredths, number in bins.items():
            histogram[layer, 0, hundredths + 100] = number
        if bins:
            means[layer, 0] = sum(i * number for i, number in bins.items()) / 100 / sum(bins.values())
    parameters = {layer: 10 * (i + 1) for i, layer in enumerate(histograms)}
    norms = torch.tensor([[0.5, torch.nan]] * len(histograms), dtype=torch.float64)
    return MeasuredMap(parameters, ["digit", "fashion"], histogram, means, norms, {"network": "LeNet", "seed": 0})


def searched_map(tasks: int) -> MeasuredMap:
    """A map of forty observed steps of random cosines in the layers a and b; b's first pair was never observed."""
    generator = torch.Generator().manual_seed(tasks)
    pairs = tasks * (tasks - 1) // 2
    cosines = (torch.randn(40, 2, pairs, generator=generator, dtype=torch.float64) * 0.2).clamp(-1, 1)
    histogram = torch.zeros(2, pairs, 200, dtype=torch.int64)
    for observed in cosines:
        histogram.scatter_add_(2, (observed * 100).floor().long().unsqueeze(2) + 100, torch.ones(2, pairs, 1).long())
    means = cosines.mean(dim=0)
    histogram[1, 0], means[1, 0] = 0, torch.nan
    names = [f"task{i}" for i in range(tasks)]
    norms = torch.rand(2, tasks, generator=generator, dtype=torch.float64)
    return MeasuredMap({"a": 3, "b": 4}, names, histogram, means, norms, {"network": "LeNet", "observed_steps": 40})


@pytest.fixture
def cmap() -> MeasuredMap:
    return measured_map(conv1={-100: 1, -11: 2, -10: 4, 0: 8, 99: 1}, bn1={-1: 3}, fc={})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.json"
    path.write_text(json.dumps(PUBLISHED))
    return path


def record_of(cmap: ConflictMap, path: Path) -> dict[str, Any]:
    cmap.save(path)
    record = json.loads(path.read_text())
    assert isinstance(record, dict)
    return record


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


def test_edges_are_the_grid() -> None:
    assert BIN_EDGES[0] == -1.0 and BIN_EDGES[90] == -0.1 and BIN_EDGES[100] == 0.0 and BIN_EDGES[-1] == 1.0


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
    with pytest.raises(ValueError, match=f"k={k} layers of 3; give a number from 1 to 3"):
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


def test_the_pairs_of_many_tasks_are_packed_and_read_back_unchanged(tmp_path: Path) -> None:
    for tasks, form in ((10, list), (11, dict)):
        cmap = searched_map(tasks)
        record = record_of(cmap, tmp_path / "map.json")
        assert all(type(layer["pairs"]) is form for layer in record["layers"])
        loaded = ConflictMap.load(tmp_path / "map.json")
        assert isinstance(loaded, MeasuredMap)
        assert torch.equal(loaded.histogram, cmap.histogram)
        torch.testing.assert_close(loaded.mean_cosine, cmap.mean_cosine, rtol=0, atol=0, equal_nan=True)
        assert loaded.scores(-0.1) == cmap.scores(-0.1)


@pytest.mark.parametrize("largest", [255, 256, 65_536, 2**32])
def test_packed_counts_take_the_bytes_that_the_largest_needs(tmp_path: Path, largest: int) -> None:
    cmap = searched_map(11)
    cmap.histogram[1, 0, 100:102] = torch.tensor([largest, 1])
    cmap.mean_cosine[1, 0] = 0.005
    del cmap.provenance["observed_steps"]
    cmap.save(tmp_path / "map.json")
    loaded = ConflictMap.load(tmp_path / "map.json")
    assert isinstance(loaded, MeasuredMap)
    assert torch.equal(loaded.histogram, cmap.histogram)


def packed(content: bytes) -> str:
    return b64encode(content).decode()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bytes", 3, "'bytes' of layer 'a' is 3, not 1, 2, 4 or 8"),
        ("bytes", 2, "'counts' of layer 'a' does not hold the"),
        ("mean_cosines", packed(b"1234567"), "'mean_cosines' of layer 'a' has 7 bytes, not 440 for its 55 pairs"),
        ("mean_cosines", "%%", "'mean_cosines' of layer 'a' is not base64"),
        ("mean_cosines", packed(b"\xff" * 440), "pair number 0 of layer 'a' has 40 observations and the mean cosine"),
        ("filled", packed(b"no"), "'filled' of layer 'a' is not compressed with zlib"),
        ("filled", packed(zlib.compress(bytes(1376))), "'filled' of layer 'a' does not hold the 1375 bytes"),
        ("filled", packed(zlib.compress(bytes(10**8))), "'filled' of layer 'a' does not hold the 1375 bytes"),
        ("filled", packed(zlib.compress(bytes(1375))), "'counts' of layer 'a' does not hold the 0 bytes"),
        ("counts", 1, "'counts' of layer 'a' is 1, not str"),
    ],
)
def test_damaged_packed_pairs_are_refused_by_name(tmp_path: Path, key: str, value: object, message: str) -> None:
    path = tmp_path / "map.json"
    record = record_of(searched_map(11), path)
    path.write_text(json.dumps(changed(record, "layers", 0, "pairs", key, to=value)))
    with pytest.raises(ValueError, match=f"damaged conflict map: {message}"):
        ConflictMap.load(path)


def test_packed_counts_of_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    record = record_of(searched_map(11), path)
    pairs = record["layers"][0]["pairs"]
    counts = bytearray(zlib.decompress(b64decode(pairs["counts"])))
    counts[0] = 0
    path.write_text(json.dumps(changed(record, "layers", 0, "pairs", "counts", to=packed(zlib.compress(counts)))))
    with pytest.raises(ValueError, match=r"'counts' of layer 'a' go from 0 to \d+, not from 1"):
        ConflictMap.load(path)


def test_the_file_of_many_tasks_stays_small(tmp_path: Path) -> None:
    cmap = searched_map(128)
    cmap.save(tmp_path / "map.json")
    assert (tmp_path / "map.json").stat().st_size < 100 * len(cmap.pairs) * len(cmap.layers)  # written out: 1,000


def test_the_file_of_a_large_network_stays_small(tmp_path: Path) -> None:
    full = dict.fromkeys(range(-100, 100), 1234)
    measured_map(**{f"layer{i}.0.downsample.1": full for i in range(41)}).save(tmp_path / "map.json")
    assert (tmp_path / "map.json").stat().st_size < 100_000


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_crash_while_saving_leaves_the_old_file(
    cmap: MeasuredMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def crash(*_: object) -> None:
        raise OSError("disk full")

    path = tmp_path / "map.json"
    cmap.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, broken, crash)
    with pytest.raises(OSError, match="disk full"):
        measured_map(other={-5: 1}).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def changed(record: dict[str, Any], *keys: str | int, to: object) -> dict[str, Any]:
    inner: Any = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return record


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format"], "something", "is no conflict map: its 'format' is 'something'.*import_scores"),
        (["version"], 3, "is a conflict map of version 3, and this recon reads versions 1 to 2; read it with"),
        (["version"], True, "is a conflict map of version True"),
        (["version"], 1, "damaged.*its checksum is not that of what it holds"),
        (["checksum"], None, "damaged.*its checksum is not that of what it holds"),
        (["provenance", "network"], "ResNet", "damaged.*its checksum is not that of what it holds"),
        (["kind"], "guessed", "damaged.*unknown kind 'guessed'"),
        (["kind"], None, "damaged.*'kind' of the map is None, not str"),
        (["tasks"], ["digit"], r"damaged.*'tasks' is \['digit'\]"),
        (["tasks"], ["digit", "fashion", "depth"], "damaged.*layer 'conv1' has 2 norms and 1 pairs for 3 tasks"),
        (["provenance"], [], r"damaged.*'provenance' of the map is \[\], not dict"),
        (["layers"], [], "damaged.*0 layers"),
        (["layers"], {}, "damaged.*'layers' of the map is {}, not list"),
        (["layers", 1, "name"], "conv1", "damaged.*3 layers with 2 different names"),
        (["layers", 0, "name"], 7, "damaged.*'name' of layer number 0 is 7, not str"),
        (["layers", 1], "bn1", "damaged.*layer number 1 is 'bn1', not an object"),
        (["layers", 1, "parameters"], -1, "damaged.*'parameters' of layer 'bn1' is -1, not a count"),
        (["layers", 1, "parameters"], True, "damaged.*'parameters' of layer 'bn1' is True, not int"),
        (["layers", 1, "gradient_norms"], [1.0], "damaged.*layer 'bn1' has 1 norms and 1 pairs for 2 tasks"),
        (["layers", 1, "gradient_norms"], [1.0, -1.0], "damaged.*a gradient norm of layer 'bn1' is -1.0"),
        (["layers", 1, "gradient_norms"], ["1", None], "damaged.*a gradient norm of layer 'bn1' is '1'"),
        (["layers", 1, "pairs"], [], "damaged.*layer 'bn1' has 2 norms and 0 pairs for 2 tasks"),
        (["layers", 1, "pairs", 0, "counts"], [-3], "damaged.*a histogram bin of a pair of layer 'bn1' is -3"),
        (["layers", 1, "pairs", 0, "counts"], [0.5], "damaged.*a histogram bin of a pair of layer 'bn1' is 0.5"),
        (["layers", 1, "pairs", 0, "counts"], [2**63], "damaged.*a histogram bin of a pair of layer 'bn1' is 92"),
        (["layers", 1, "pairs", 0, "counts"], [1] * 102, "damaged.*has 102 bins from -1, beyond -100 to 99"),
        (["layers", 1, "pairs", 0, "first_bin"], -101, "damaged.*has 1 bins from -101, beyond"),
        (["layers", 1, "pairs", 0, "mean_cosine"], 1.5, "damaged.*'mean_cosine' of a pair of layer 'bn1' is 1.5"),
        (["layers", 1, "pairs", 0, "counts"], [2**54], "damaged.*layer 'bn1' has more than 2.53 observations"),
        (["layers", 1, "pairs", 0, "counts"], [2**62, 2**62], "damaged.*layer 'bn1' has more than 2.53 observations"),
        (["layers", 1, "pairs", 0, "mean_cosine"], 0.02, "damaged.*3 observations and the mean cosine 0.02, which its"),
        (["layers", 1, "pairs", 0, "mean_cosine"], -0.03, "damaged.*3 observations and the mean cosine -0.03, which"),
        (["layers", 2, "pairs", 0, "mean_cosine"], 0.0, "damaged.*layer 'fc' has 0 observations and the mean cosine 0"),
        (["provenance", "observed_steps"], 15, "damaged.*a pair of layer 'conv1' has 16 observations in 15 observed"),
        (["provenance", "observed_steps"], "many", "damaged.*'observed_steps' of the provenance is 'many', not"),
        (["layers", 1, "pairs", 0, "mean_cosine"], None, "damaged.*layer 'bn1' has 3 observations and the mean cosine"),
    ],
)
def test_a_damaged_map_is_refused_by_name(
    cmap: MeasuredMap, tmp_path: Path, keys: list[str | int], value: object, message: str
) -> None:
    path = tmp_path / "map.json"
    text = json.dumps(changed(record_of(cmap, path), *keys, to=value))
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        ConflictMap.load(path)
    assert path.read_text() == text


@pytest.mark.parametrize("key", ["kind", "tasks", "provenance", "layers", "checksum"])
def test_a_map_with_a_part_missing_is_refused(cmap: MeasuredMap, tmp_path: Path, key: str) -> None:
    record = record_of(cmap, tmp_path / "map.json")
    del record[key]
    (tmp_path / "map.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"map.json is a damaged conflict map: the map has no '{key}'; restore it"):
        ConflictMap.load(tmp_path / "map.json")


def test_a_map_of_version_1_is_read_and_its_values_are_held_against_each_other(
    cmap: MeasuredMap, tmp_path: Path
) -> None:
    record = record_of(cmap, tmp_path / "map.json") | {"version": 1}
    del record["checksum"]
    (tmp_path / "map.json").write_text(json.dumps(record))
    assert ConflictMap.load(tmp_path / "map.json").scores(-0.1) == cmap.scores(-0.1)
    record["layers"][1]["pairs"][0]["first_bin"] = -50
    (tmp_path / "map.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"layer 'bn1' has 3 observations and the mean cosine -0\.01, which its"):
        ConflictMap.load(tmp_path / "map.json")


RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("conflict_map.json")), ids=lambda path: path.parent.name)
def test_the_maps_among_the_results_are_read(path: Path) -> None:
    cmap = ConflictMap.load(path)
    observed_steps = json.loads(path.read_text())["provenance"]["observed_steps"]
    assert isinstance(cmap, MeasuredMap)
    assert max(cmap.observations.values()) <= observed_steps * len(cmap.pairs)


def leaves(value: Any, keys: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of all values in a JSON record."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [keys] + [leaf for key, inner in items for leaf in leaves(inner, (*keys, key))]


def mutated(record: dict[str, Any], random: Random) -> dict[str, Any]:
    """A record with one value replaced, removed or repeated."""
    record = json.loads(json.dumps(record))
    *way, key = random.choice(leaves(record)[1:])
    holder: Any = record
    for step in way:
        holder = holder[step]
    action = random.randrange(4)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.insert(int(key), holder[int(key)])
    elif isinstance(holder[key], int | float) and action == 2:
        holder[key] += random.choice([1, -1, 0.5, 2**62, -(2**62)])
    else:
        holder[key] = random.choice([0, -1, 1, 7, 0.5, -9e18, 2**62, None, True, "", "x", [], {}, [1], holder[key]])
    return record


@pytest.mark.parametrize("tasks", [3, 11])
def test_of_400_changed_maps_none_is_read_as_another_one(tmp_path: Path, tasks: int) -> None:
    path, random = tmp_path / "map.json", Random(tasks)
    record = record_of(searched_map(tasks), path)
    refused = 0
    for _ in range(400):
        change = mutated(record, random)
        path.write_text(json.dumps(change))
        try:
            ConflictMap.load(path)
        except ValueError:
            refused += 1
        else:
            assert json.dumps(change, sort_keys=True) == json.dumps(record, sort_keys=True)
    assert refused > 350


def test_of_400_damaged_files_none_is_read_as_another_map(tmp_path: Path) -> None:
    path, random = tmp_path / "map.json", Random(0)
    for tasks in (3, 11):
        record = record_of(searched_map(tasks), path)
        whole = path.read_bytes()
        for _ in range(200):
            damaged = bytearray(whole)
            damaged[random.randrange(len(whole))] ^= 1 << random.randrange(8)
            path.write_bytes(damaged)
            try:
                ConflictMap.load(path)
            except ValueError:
                continue
            assert json.loads(damaged) == record  # a space between values, or the case of an exponent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is truncated or not JSON \(Expecting value"),
        ("[1, 2]", "holds a JSON list, not an object"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[" * 100_000, "is truncated or not JSON"),
        (b"\xff\xfe\x00", "is truncated or not JSON"),
    ],
)
@pytest.mark.parametrize("read", [ConflictMap.load, ConflictMap.import_scores])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str | bytes, message: str, read: Any) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        read(path)


def test_a_truncated_map_is_refused(cmap: MeasuredMap, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    cmap.save(path)
    whole = path.read_bytes()
    for length in range(1, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or not JSON"):
            ConflictMap.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (ConflictMap.load, ConflictMap.import_scores):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
            read(tmp_path / "nowhere.json")


def test_a_published_map_knows_its_scores_in_file_order(published: Path) -> None:
    cmap = ConflictMap.import_scores(published)
    assert cmap.scores(-0.1) == PUBLISHED
    assert cmap.top(8, -0.1) == list(PUBLISHED)
    assert cmap.provenance["source"] == "published.json"
    assert (cmap.severity, cmap.tasks, cmap.parameters) == (-0.1, (), {})


def test_a_published_map_in_another_order_is_ranked_with_ties_in_file_order(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"z": 1, "a": 5, "y": 3, "b": 3}')
    assert ConflictMap.import_scores(tmp_path / "scores.json", severity=0.0).top(4, 0.0) == ["a", "y", "b", "z"]


def test_a_published_map_knows_no_other_severity_and_no_rates(published: Path) -> None:
    cmap = ConflictMap.import_scores(published, severity=-0.02)
    assert cmap.scores(-0.020000000000000001) == PUBLISHED
    for ask in (cmap.scores, lambda severity: cmap.top(3, severity)):
        with pytest.raises(ValueError, match=r"severity 0\.0 of a map imported at severity -0\.02"):
            ask(0.0)
    with pytest.raises(ValueError, match="not on the"):
        cmap.scores(-0.021)
    with pytest.raises(ValueError, match="no rates"):
        cmap.rates(-0.02)


def test_an_imported_map_can_be_saved_and_loaded(published: Path, tmp_path: Path) -> None:
    cmap = ConflictMap.import_scores(published, severity=-0.02)
    cmap.save(tmp_path / "map.json")
    loaded = ConflictMap.load(tmp_path / "map.json")
    assert loaded.severity == -0.02
    assert list(loaded.scores(-0.02).items()) == list(PUBLISHED.items())
    assert loaded.provenance == cmap.provenance


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["severity"], "low", "'severity' of the map is 'low'"),
        (["severity"], 0.5, "severity 0.5 is not on the 0.01 grid"),
        (["layers", 0, "score"], -4, "'score' of layer 'bn1' is -4, not a count"),
    ],
)
def test_a_damaged_imported_map_is_refused(
    published: Path, tmp_path: Path, keys: list[str | int], value: object, message: str
) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps(changed(record_of(ConflictMap.import_scores(published), path), *keys, to=value)))
    with pytest.raises(ValueError, match=f"{path} is a damaged conflict map: {message}"):
        ConflictMap.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "it has no layers"),
        ('{"bn1": -1}', "the score of layer 'bn1' is -1, not a count"),
        ('{"bn1": 1.5}', "the score of layer 'bn1' is 1.5, not a count"),
        ('{"bn1": true}', "the score of layer 'bn1' is True, not a count"),
        ('{"bn1": {"x": 1}}', "the score of layer 'bn1' is {'x': 1}, not a count"),
    ],
)
def test_files_that_are_no_published_map_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ValueError, match=f"scores.json: {message}; give a JSON object"):
        ConflictMap.import_scores(tmp_path / "scores.json")


def test_a_saved_map_is_not_imported_and_a_published_one_not_loaded(
    cmap: MeasuredMap, published: Path, tmp_path: Path
) -> None:
    cmap.save(tmp_path / "map.json")
    with pytest.raises(ValueError, match=r"read it with ConflictMap\.load"):
        ConflictMap.import_scores(tmp_path / "map.json")
    with pytest.raises(ValueError, match=r"its 'format' is None.*ConflictMap\.import_scores"):
        ConflictMap.load(published)


def test_a_map_fits_the_network_it_is_of_in_any_order(cmap: MeasuredMap) -> None:
    cmap.check_layers({"conv1": [], "bn1": [], "fc": []})
    cmap.check_layers(["fc", "conv1", "bn1"])


def test_a_map_of_another_network_is_refused_by_layer(cmap: MeasuredMap) -> None:
    with pytest.raises(ValueError) as refusal:
        cmap.check_layers(["conv1", "bn2", "head"], network="VGG")
    assert str(refusal.value) == (
        "the conflict map of LeNet does not fit: 2 of its 3 layers are not in VGG ('bn1', 'fc'); "
        "unknown layer 'bn1' in VGG; nearest: 'bn2'; "
        "2 of 3 layers of VGG have no score in it ('bn2', 'head'); use a map of this network"
    )


def test_a_map_of_a_part_of_the_network_is_refused(cmap: MeasuredMap) -> None:
    with pytest.raises(ValueError, match=r"fit: 1 of 4 layers of the network have no score in it \('head'\)"):
        cmap.check_layers([*cmap.layers, "head"])


def test_repr_says_what_the_map_is_of(cmap: MeasuredMap, published: Path) -> None:
    assert "LeNet: 3 layers, tasks digit, fashion" in repr(cmap)
    assert repr(ConflictMap.import_scores(published)) == "ImportedMap(published.json: 8 layers, severity -0.1)"
