import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
from small_maps import changed, measured_map, record_of, searched_map

from recon.conflict import ConflictMap, MeasuredMap


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
        (["tasks"], ["digit", "fashion", "depth"], "damaged.*layer 'conv1' has 2 norms and 1 pair for 3 tasks"),
        (["provenance"], [], r"damaged.*'provenance' of the map is \[\], not dict"),
        (["layers"], [], "damaged.*0 layers"),
        (["layers"], {}, "damaged.*'layers' of the map is {}, not list"),
        (["layers", 1, "name"], "conv1", "damaged.*3 layers with 2 different names"),
        (["layers", 0, "name"], 7, "damaged.*'name' of layer number 0 is 7, not str"),
        (["layers", 1], "bn1", "damaged.*layer number 1 is 'bn1', not an object"),
        (["layers", 1, "parameters"], -1, "damaged.*'parameters' of layer 'bn1' is -1, not a count"),
        (["layers", 1, "parameters"], True, "damaged.*'parameters' of layer 'bn1' is True, not int"),
        (["layers", 1, "gradient_norms"], [1.0], "damaged.*layer 'bn1' has 1 norm and 1 pair for 2 tasks"),
        (["layers", 1, "gradient_norms"], [1.0, -1.0], "damaged.*a gradient norm of layer 'bn1' is -1.0"),
        (["layers", 1, "gradient_norms"], ["1", None], "damaged.*a gradient norm of layer 'bn1' is '1'"),
        (["layers", 1, "pairs"], [], "damaged.*layer 'bn1' has 2 norms and 0 pairs for 2 tasks"),
        (["layers", 1, "pairs", 0, "counts"], [-3], "damaged.*a histogram bin of a pair of layer 'bn1' is -3"),
        (["layers", 1, "pairs", 0, "counts"], [0.5], "damaged.*a histogram bin of a pair of layer 'bn1' is 0.5"),
        (["layers", 1, "pairs", 0, "counts"], [2**63], "damaged.*a histogram bin of a pair of layer 'bn1' is 92"),
        (["layers", 1, "pairs", 0, "counts"], [1] * 102, "damaged.*has 102 bins from -1, beyond -100 to 99"),
        (["layers", 1, "pairs", 0, "first_bin"], -101, "damaged.*has 1 bin from -101, beyond"),
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
