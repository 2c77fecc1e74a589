import json
import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
import torch
from small_maps import changed, measured_map, record_of, searched_map

from recon.conflict import ConflictMap, MeasuredMap


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
