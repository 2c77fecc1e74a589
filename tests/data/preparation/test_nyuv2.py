import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from recon.data.preparation import nyuv2, prepare_nyuv2, verify
from recon.data.preparation.nyuv2 import convert
from recon.data.preparation.nyuv2_file import official

SIZE = (10, 9)  # of the valid 20 x 27 pixels: every second row, every third column from the second


def load(out: Path, split: str, folder: str, index: int) -> np.ndarray:
    return np.load(out / split / folder / f"{index}.npy", allow_pickle=False)


def archive_members(normals: np.ndarray, png: Callable[[np.ndarray], bytes]) -> dict[str, bytes]:
    """As Ladický's archive is laid out, with channels y down, -x, z."""
    stored = np.stack([-normals[..., 1], -normals[..., 0], normals[..., 2]], axis=-1)
    coded = np.rint((stored + 1) * 127.5).astype(np.uint8)
    return {f"nyu_normals_gt/train/{i + 1:05d}.png": png(picture) for i, picture in enumerate(coded)}


def test_images_labels_and_depth_are_the_official_ones_cut_and_resized(rooms, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(rooms.distribution, rooms.write(tmp_path / "labeled.mat"), out, None, SIZE)
    for split, images in {"train": [1, 2, 5], "val": [0, 3, 4]}.items():
        for index, image in enumerate(images):
            blocks = rooms.images[image, 2:22, 3:30].reshape(10, 2, 9, 3, 3)
            np.testing.assert_array_equal(load(out, split, "image", index), np.rint(blocks.mean(axis=(1, 3))))
            depth = rooms.depths[image, 3:22:2, 4:30:3]
            np.testing.assert_array_equal(load(out, split, "depth", index), depth)
            label = np.array([-1, 6, 0, 12, 3])[rooms.labels[image, 3:22:2, 4:30:3]]
            np.testing.assert_array_equal(load(out, split, "label", index), label)
    assert load(out, "val", "image", 2).dtype == np.uint8
    assert load(out, "val", "depth", 2).dtype == np.float32
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == ["manifest.json", "train", "val"]
    verify(out)


def test_normals_are_computed_from_depth_and_the_user_is_told(
    rooms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(rooms.distribution, rooms.write(tmp_path / "labeled.mat"), tmp_path / "out", None, SIZE)
    truth = rooms.normals[5, 3:22:2, 4:30:3]
    computed = load(tmp_path / "out", "train", "normal", 2)
    assert np.median(np.sum(truth * computed, axis=-1)) > 0.999  # not all: near an edge two walls are fitted together
    np.testing.assert_allclose(np.linalg.norm(computed, axis=-1), 1, atol=1e-6)
    assert "normals are computed from depth" in capsys.readouterr().out


def test_published_normals_are_turned_into_our_axes(
    rooms, tmp_path: Path, write_zip, png, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_zip(tmp_path / "nyu_normals_gt.zip", archive_members(rooms.normals, png))
    convert(rooms.distribution, rooms.write(tmp_path / "labeled.mat"), tmp_path / "out", archive, SIZE)
    for index, image in enumerate([1, 2, 5]):
        expected = rooms.normals[image, 3:22:2, 4:30:3]
        np.testing.assert_allclose(load(tmp_path / "out", "train", "normal", index), expected, atol=0.006)
    assert "(x, y, z) = (-g, -r, +b)" in capsys.readouterr().out


def test_normals_of_other_images_are_refused(rooms, tmp_path: Path, write_zip, png) -> None:
    generator = np.random.default_rng(0)
    other = generator.normal(size=rooms.normals.shape)
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    archive = write_zip(tmp_path / "nyu_normals_gt.zip", archive_members(other, png))
    with pytest.raises(ValueError, match=r"nyu_normals_gt.zip do not fit the depth in .*labeled.mat"):
        convert(rooms.distribution, rooms.write(tmp_path / "labeled.mat"), tmp_path / "out", archive, SIZE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(rooms, tmp_path: Path, kept: float) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    source.write_bytes(source.read_bytes()[: int(kept * source.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{re.escape(str(source))} is truncated"):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)
    assert not (tmp_path / "out").exists()


def test_a_file_with_a_damaged_block_is_named_with_the_image(rooms, tmp_path: Path) -> None:
    source = tmp_path / "labeled.mat"
    with h5py.File(source, "w") as file:
        file["images"] = rooms.images.transpose(0, 3, 2, 1)
        file["labels"] = rooms.labels.transpose(0, 2, 1)
        depths = file.create_dataset("depths", data=rooms.depths.transpose(0, 2, 1), chunks=(1, 32, 24), compression=4)
        block = depths.id.get_chunk_info(2)
    with source.open("r+b") as raw:
        raw.seek(block.byte_offset)
        raw.write(bytes(block.size))
    with pytest.raises(ValueError, match=rf"{re.escape(str(source))} is truncated or damaged at 'depths' of image 3"):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)


def test_a_file_with_a_damaged_directory_is_named(rooms, tmp_path: Path) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    whole = source.read_bytes()
    damaged = 0
    for signature in (b"TREE", b"HEAP", b"SNOD"):
        source.write_bytes(whole.replace(signature, b"XXXX"))
        with pytest.raises(ValueError, match=rf"{re.escape(str(source))} is truncated|has no 'images'"):
            convert(rooms.distribution, source, tmp_path / "out", None, SIZE)
        damaged += signature in whole
    assert damaged
    assert not (tmp_path / "out").exists()


def test_a_group_in_the_place_of_an_array_is_named(rooms, tmp_path: Path) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    with h5py.File(source, "r+") as file:
        del file["labels"]
        file.create_group("labels")
    with pytest.raises(ValueError, match=r"labeled.mat has no 'labels'; it is not nyu_depth_v2_labeled.mat"):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)


def test_a_label_out_of_range_is_named_with_its_place(rooms, tmp_path: Path) -> None:
    rooms.labels[3, 7, 9] = 5
    source = rooms.write(tmp_path / "labeled.mat")
    message = rf"{re.escape(str(source))}: label 5 at row 7, column 9 of image 4; expected 0 to 4"
    with pytest.raises(ValueError, match=message):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)


@pytest.mark.parametrize("value", [np.nan, -1, 2500])
def test_depth_that_is_not_in_metres_is_named_with_its_place(rooms, tmp_path: Path, value: float) -> None:
    rooms.depths[0, 4, 5] = value
    with pytest.raises(ValueError, match=r"labeled.mat: depth \S+ at row 4, column 5 of image 1; .* metres"):
        convert(rooms.distribution, rooms.write(tmp_path / "labeled.mat"), tmp_path / "out", None, SIZE)


def test_swapped_width_and_height_are_named(rooms, tmp_path: Path) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    with h5py.File(source, "r+") as file:
        del file["depths"]
        file["depths"] = rooms.depths
    message = r"'depths' in .*labeled.mat has shape \(6, 24, 32\), not \(6, 32, 24\).*swapped"
    with pytest.raises(ValueError, match=message):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)


def test_a_file_without_labels_or_with_fewer_images_is_refused(rooms, tmp_path: Path) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    with h5py.File(source, "r+") as file:
        del file["labels"]
    with pytest.raises(ValueError, match=r"labeled.mat has no 'labels'"):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)
    fewer = replace(rooms, images=rooms.images[:5], depths=rooms.depths[:5], labels=rooms.labels[:5])
    with pytest.raises(ValueError, match=r"shape \(5, 3, 32, 24\), not \(6, 3, 32, 24\)"):
        convert(rooms.distribution, fewer.write(tmp_path / "fewer.mat"), tmp_path / "out", None, SIZE)


def test_the_official_command_insists_on_the_official_file(rooms, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not \(1449, 3, 640, 480\)"):
        prepare_nyuv2(rooms.write(tmp_path / "labeled.mat"), out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"missing.mat is no file"):
        prepare_nyuv2(tmp_path / "missing.mat", out=tmp_path / "out")


def test_another_file_other_normals_or_another_size_are_another_data_set(rooms, tmp_path: Path, write_zip, png) -> None:
    source, out = rooms.write(tmp_path / "labeled.mat"), tmp_path / "out"
    convert(rooms.distribution, source, out, None, SIZE)
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    archive = write_zip(tmp_path / "nyu_normals_gt.zip", archive_members(rooms.normals, png))
    with pytest.raises(
        ValueError, match=r"out holds another data set: settings .*\"height\": 10.* not .*\"height\": 5"
    ):
        convert(rooms.distribution, source, out, None, (5, 9))
    with pytest.raises(ValueError, match="out holds another data set: source"):
        convert(rooms.distribution, source, out, archive, SIZE)
    rooms.images[0, 0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="out holds another data set: source"):
        convert(rooms.distribution, rooms.write(source), out, None, SIZE)
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before


def test_an_interrupted_preparation_goes_on(rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, whole = rooms.write(tmp_path / "labeled.mat"), tmp_path / "out", tmp_path / "whole"
    convert(rooms.distribution, source, whole, None, SIZE)
    compute = nyuv2.normals_from_depth
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(nyuv2, "normals_from_depth", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(rooms.distribution, source, out, None, SIZE)
    assert not (out / "manifest.json").exists()
    with pytest.raises(ValueError, match="is unfinished"):
        verify(out)
    convert(rooms.distribution, source, out, None, SIZE)
    assert len(calls) == 7  # three of the first run, and the four samples that it did not finish
    assert (out / "manifest.json").read_text() == (whole / "manifest.json").read_text()


def test_the_official_tables_have_the_published_counts_and_classes() -> None:
    distribution = official()
    assert [len(distribution.splits[split]) for split in ("train", "val")] == [795, 654]
    images = sorted([*distribution.splits["train"], *distribution.splits["val"]])
    assert images == list(range(1449))
    assert distribution.splits["train"][0] == 2 and distribution.splits["val"][0] == 0  # images 3 and 1
    assert len(distribution.classes) == 895
    assert distribution.classes[0] == -1
    assert sorted(set(distribution.classes[1:])) == list(range(13))
    # raw labels 4, 5: ceiling, chair; they are classes 3 and 4 of bed, books, ceiling, chair, ...
    assert list(distribution.classes[[4, 5]]) == [2, 3]


def test_without_h5py_the_error_says_what_to_install(rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = rooms.write(tmp_path / "labeled.mat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"h5py is not installed; .*: pip install -e '\.\[data\]'"):
        convert(rooms.distribution, source, tmp_path / "out", None, SIZE)
