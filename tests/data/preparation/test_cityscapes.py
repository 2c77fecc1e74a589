import json
import re
from pathlib import Path

import numpy as np
import pytest

from recon.data.preparation import cityscapes, prepare_cityscapes, verify
from recon.data.preparation.cityscapes import CATEGORIES, TRAIN_IDS, convert

SIZE, FRAME = (4, 8), (16, 32)
COUNTS = {"train": 3, "val": 1}
IN_ORDER = ["aachen/aachen_000002_000019", "aachen/aachen_000010_000019", "bonn/bonn_000001_000019"]


def load(out: Path, split: str, folder: str, index: int) -> np.ndarray:
    return np.load(out / split / folder / f"{index}.npy", allow_pickle=False)


def test_images_labels_and_depth_are_the_official_ones_resized(streets, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(streets.root, out, SIZE, FRAME, COUNTS)
    for split, names in {"train": IN_ORDER, "val": ["ulm/ulm_000000_000019"]}.items():
        for index, name in enumerate(names):
            files = streets.files[split, name]
            blocks = files["image"].reshape(4, 4, 8, 4, 3)
            np.testing.assert_array_equal(load(out, split, "image", index), np.rint(blocks.mean(axis=(1, 3))))
            depth = files["disparity"][2::4, 2::4].astype(np.float32) / np.float32(65535)
            np.testing.assert_allclose(load(out, split, "depth", index), depth, rtol=1e-7)
            np.testing.assert_array_equal(load(out, split, "depth", index) == 0, files["disparity"][2::4, 2::4] == 0)
            label = files["label"][2::4, 2::4]
            np.testing.assert_array_equal(load(out, split, "label_7", index), CATEGORIES[label])
            np.testing.assert_array_equal(load(out, split, "label_19", index), TRAIN_IDS[label])
    verify(out)


def test_the_manifest_says_which_image_is_which(streets, tmp_path: Path) -> None:
    convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["samples"] == {"train": IN_ORDER, "val": ["ulm/ulm_000000_000019"]}


def test_classes_are_those_of_the_official_table() -> None:
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert list(TRAIN_IDS[evaluated]) == list(range(19))
    assert sum(TRAIN_IDS >= 0) == 19 and len(TRAIN_IDS) == 34
    categories = [range(7, 11), range(11, 17), range(17, 21), range(21, 23), [23], [24, 25], range(26, 34)]
    for category, labels in enumerate(categories):
        assert set(CATEGORIES[list(labels)]) == {category}
    assert set(CATEGORIES[:7]) == {-1}


def test_a_missing_split_is_named(streets, tmp_path: Path) -> None:
    (streets.root / "leftImg8bit" / "val").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"{re.escape(str(streets.root / 'leftImg8bit' / 'val'))} has no CITY/NAME"):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["label", "disparity"])
def test_a_missing_file_is_named(streets, tmp_path: Path, what: str) -> None:
    path = streets.path(what, "train", IN_ORDER[2])
    path.unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} cannot be read \(No such file"):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)
    assert not (tmp_path / "out").exists()


def test_the_official_command_insists_on_the_official_number(streets, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train has 3 images, not 2975; complete it, or say --partial"):
        prepare_cityscapes(streets.root, out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"has 16 rows and 32 columns, not 1024 and 2048"):
        prepare_cityscapes(streets.root, out=tmp_path / "out", partial=True)


@pytest.mark.parametrize("what", ["image", "label", "disparity"])
def test_swapped_width_and_height_are_named(streets, tmp_path: Path, what: str) -> None:
    array = streets.files["train", IN_ORDER[0]][what]
    streets.write(what, "train", IN_ORDER[0], array.swapaxes(0, 1).copy())
    path = streets.path(what, "train", IN_ORDER[0])
    message = rf"{re.escape(str(path))} has 32 rows and 16 columns, not 16 and 32; width and height are swapped"
    with pytest.raises(ValueError, match=message):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)


@pytest.mark.parametrize("what", ["image", "label", "disparity"])
@pytest.mark.parametrize("length", [0, 5, 40, -4])
def test_a_truncated_file_is_named_before_any_work(streets, tmp_path: Path, what: str, length: int) -> None:
    path = streets.path(what, "val", "ulm/ulm_000000_000019")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is (no PNG|truncated)"):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_named(streets, tmp_path: Path) -> None:
    path = streets.path("label", "train", IN_ORDER[1])
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is damaged"):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)


@pytest.mark.parametrize("value", [34, 255])
def test_a_label_out_of_range_is_named_with_its_place(streets, tmp_path: Path, value: int) -> None:
    label = streets.files["train", IN_ORDER[1]]["label"]
    label[3, 4] = value
    streets.write("label", "train", IN_ORDER[1], label)
    path = streets.path("label", "train", IN_ORDER[1])
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(path))}: label {value} at row 3, column 4; expected 0 to 33"
    ):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)


def test_disparity_of_eight_bits_is_refused(streets, tmp_path: Path) -> None:
    streets.write("disparity", "train", IN_ORDER[0], np.ones(FRAME, np.uint8))
    with pytest.raises(ValueError, match=r"_disparity.png is of mode L, not I;16"):
        convert(streets.root, tmp_path / "out", SIZE, FRAME, COUNTS)


def test_an_interrupted_preparation_goes_on(streets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    convert(streets.root, whole, SIZE, FRAME, COUNTS)
    make, made = cityscapes._arrays, []

    def interrupted(sample, *sizes):
        made.append(sample.name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return make(sample, *sizes)

    monkeypatch.setattr(cityscapes, "_arrays", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(streets.root, out, SIZE, FRAME, COUNTS)
    convert(streets.root, out, SIZE, FRAME, COUNTS)
    assert made == [IN_ORDER[0], IN_ORDER[1], IN_ORDER[1], IN_ORDER[2], "ulm/ulm_000000_000019"]
    assert (out / "manifest.json").read_text() == (whole / "manifest.json").read_text()


def test_other_files_are_another_data_set(streets, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(streets.root, out, SIZE, FRAME, COUNTS)
    for what in ("image", "label", "disparity"):
        path = streets.path(what, "train", IN_ORDER[0])
        path.rename(path.with_name(path.name.replace("000002", "000003")))
    with pytest.raises(ValueError, match="out holds another data set: source"):
        convert(streets.root, out, SIZE, FRAME, COUNTS)
