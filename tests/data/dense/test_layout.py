import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.data.dense.augmentation import View, whole
from recon.data.dense.layout import DenseFolder, label_folders, verify_layout
from recon.data.dense.quantities import Depth, Disparity, Labels, Normals, Quantity

SIZE = (6, 8)
TARGETS: Mapping[str, Quantity] = {"segmentation": Labels(13), "depth": Depth(), "normals": Normals()}

WriteLayout = Callable[..., Path]


def scenes(root: Path, targets: Mapping[str, Quantity] = TARGETS, size: tuple[int, int] = SIZE) -> DenseFolder:
    return DenseFolder(root / "train", size, targets)


def stored(root: Path, folder: str, index: int) -> np.ndarray:
    return np.load(root / "train" / folder / f"{index}.npy")


def store(root: Path, folder: str, index: int, array: Any) -> Path:
    file = root / "train" / folder / f"{index}.npy"
    np.save(file, array)
    return file


# What is given ------------------------------------------------------------------------------------


def test_a_batch_holds_what_is_stored(write_layout: WriteLayout) -> None:
    root = write_layout()
    folder = scenes(root)
    assert len(folder) == 5
    image, targets = folder[(0, [3, 0, 3])]
    assert {name: (value.shape, value.dtype) for name, value in targets.items()} == {
        "segmentation": ((3, *SIZE), torch.int64),
        "depth": ((3, 1, *SIZE), torch.float32),
        "normals": ((3, 3, *SIZE), torch.float32),
    }
    assert image.dtype == torch.float32
    for position, index in enumerate((3, 0, 3)):
        pixels = stored(root, "image", index).transpose(2, 0, 1)
        np.testing.assert_array_equal(image[position], pixels.astype(np.float32) / 255)
        np.testing.assert_array_equal(targets["segmentation"][position], stored(root, "label", index))
        depth = stored(root, "depth", index)
        np.testing.assert_array_equal(targets["depth"][position, 0], np.where(depth > 0, depth, np.nan))
        normal = stored(root, "normal", index)
        expected = np.where((normal != 0).any(-1, keepdims=True), normal, np.nan).transpose(2, 0, 1)
        np.testing.assert_allclose(targets["normals"][position], expected, atol=2e-7)


def test_each_scene_is_seen_through_the_view_of_its_epoch_and_index(write_layout: WriteLayout) -> None:
    folder = scenes(write_layout())

    def views(epoch: int, index: int) -> View:
        return View(SIZE, slice(epoch, epoch + 3), slice(index, index + 4), 1.5, mirrored=False)

    seen = folder.through(views)
    _, targets = seen[(1, [0, 2])]
    _, originals = folder[(1, [0, 2])]  # the folder itself goes on to show whole scenes
    assert originals["segmentation"].shape == (2, *SIZE)
    for position, index in enumerate((0, 2)):
        window = originals["segmentation"][position, 1:4, index : index + 4]
        twice = window.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
        assert torch.equal(targets["segmentation"][position], twice)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_floats_of_any_precision_are_read(write_layout: WriteLayout, dtype: str) -> None:
    root = write_layout()
    expected = scenes(root)[(0, [1])]
    store(root, "image", 1, (stored(root, "image", 1) / 255).astype(dtype))
    for folder in ("label", "depth", "normal"):
        store(root, folder, 1, stored(root, folder, 1).astype(dtype))
    image, targets = scenes(root)[(0, [1])]
    rough = {"rtol": 2e-3, "atol": 1e-3} if dtype == "float16" else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(image, expected[0], **rough)
    torch.testing.assert_close(targets, expected[1], equal_nan=True, **rough)
    length = targets["normals"].square().sum(1).sqrt()
    assert ((length - 1).abs() < 1e-6)[~length.isnan()].all()


def test_depth_and_labels_may_have_a_last_dimension_of_one(write_layout: WriteLayout) -> None:
    root = write_layout()
    expected = scenes(root)[(0, [0])][1]
    for folder in ("label", "depth"):
        store(root, folder, 0, stored(root, folder, 0)[..., None])
    torch.testing.assert_close(scenes(root)[(0, [0])][1], expected, equal_nan=True)


def test_arrays_in_fortran_order_are_read(write_layout: WriteLayout) -> None:
    root = write_layout()
    expected = scenes(root)[(0, [0])]
    for folder in ("image", "label", "depth", "normal"):
        store(root, folder, 0, np.asfortranarray(stored(root, folder, 0)))
    torch.testing.assert_close(scenes(root)[(0, [0])], expected, equal_nan=True)


@pytest.mark.parametrize("nothing", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_depth_without_truth_is_nan(write_layout: WriteLayout, nothing: float) -> None:
    root = write_layout()
    depth = np.full(SIZE, 2.0)
    depth[2, 3] = nothing
    store(root, "depth", 0, depth)
    for quantity in (Depth(), Disparity()):
        given = scenes(root, {"depth": quantity})[(0, [0])][1]["depth"][0, 0]
        assert given.isnan().nonzero().tolist() == [[2, 3]]
        assert (given.nan_to_num(2.0) == 2.0).all()


@pytest.mark.parametrize("nothing", [(0, 0, 0), (0.2, -0.2, 0.3), (np.nan, 0, 1), (0, np.inf, 1)])
def test_a_normal_without_truth_is_nan_and_the_others_are_unit_vectors(
    write_layout: WriteLayout, nothing: tuple[float, float, float]
) -> None:
    root = write_layout()
    normal = np.broadcast_to(np.array([0.0, 0.6, 0.8]) * 0.7, (*SIZE, 3)).copy()
    normal[2, 3] = nothing
    store(root, "normal", 0, normal)
    given = scenes(root)[(0, [0])][1]["normals"][0]
    assert given.isnan().all(0).nonzero().tolist() == given.isnan().any(0).nonzero().tolist() == [[2, 3]]
    torch.testing.assert_close(given[:, 0, 0], torch.tensor([0.0, 0.6, 0.8]))


def test_only_folders_of_the_targets_are_looked_at(write_layout: WriteLayout) -> None:
    root = write_layout()
    (root / "train" / "normal" / "2.npy").unlink()
    (root / "train" / "label" / "0.npy").write_bytes(b"")
    _, targets = scenes(root, {"depth": Depth()})[(0, [0, 2])]
    assert list(targets) == ["depth"]


def test_files_of_other_kinds_are_ignored(write_layout: WriteLayout) -> None:
    root = write_layout()
    for name in ("._0.npy", "Thumbs.db", "README"):
        (root / "train" / "image" / name).write_bytes(b"")
    assert len(scenes(root)) == 5


def test_a_folder_named_for_its_number_of_classes_goes_first(write_layout: WriteLayout) -> None:
    root = write_layout(classes=7)
    write_layout(classes=7, label="label_7")
    store(root, "label", 0, np.full(SIZE, 1))
    store(root, "label_7", 0, np.full(SIZE, 2))
    given = scenes(root, {"segmentation": Labels(7, label_folders(7))})[(0, [0])][1]["segmentation"]
    assert given.unique().tolist() == [2]


def test_the_label_folder_never_stands_for_19_classes(write_layout: WriteLayout) -> None:
    root = write_layout()
    assert len(scenes(root, {"segmentation": Labels(7, label_folders(7))})) == 5
    with pytest.raises(ValueError, match="has no folder 'label_19'"):
        scenes(root, {"segmentation": Labels(19, label_folders(19))})


# What is refused before any training --------------------------------------------------------------


def refused(root: Path, *parts: str | Path) -> None:
    """Opening the scenes raises an error that has each of these parts."""
    with pytest.raises(ValueError, match=".*".join(re.escape(str(part)) for part in parts)):
        scenes(root)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "train", "train and val")


def test_a_missing_folder_is_named(write_layout: WriteLayout) -> None:
    root = write_layout()
    (root / "train" / "depth").rename(root / "train" / "depths")
    refused(root, root / "train", "no folder 'depth'")


@pytest.mark.parametrize("folder", ["image", "label", "depth", "normal"])
@pytest.mark.parametrize("index", [0, 2, 4])
def test_a_file_that_one_folder_lacks_is_named(write_layout: WriteLayout, folder: str, index: int) -> None:
    root = write_layout()
    file = root / "train" / folder / f"{index}.npy"
    file.unlink()
    refused(root, file, "missing")


def test_a_gap_in_all_folders_is_named(write_layout: WriteLayout) -> None:
    root = write_layout()
    for folder in ("image", "label", "depth", "normal"):
        (root / "train" / folder / "1.npy").unlink()
    refused(root, root / "train" / "image" / "1.npy", "without gaps")


def test_a_split_without_scenes_is_refused(write_layout: WriteLayout) -> None:
    root = write_layout(train=1)
    for folder in ("image", "label", "depth", "normal"):
        (root / "train" / folder / "0.npy").unlink()
    refused(root, root / "train" / "image" / "0.npy", "missing")


@pytest.mark.parametrize("name", ["scene.npy", "01.npy", "-1.npy", "1_0.npy"])
def test_a_file_that_is_not_named_by_a_number_is_named(write_layout: WriteLayout, name: str) -> None:
    root = write_layout()
    (root / "train" / "label" / name).write_bytes(b"")
    refused(root, root / "train" / "label" / name, "0.npy, 1.npy")


@pytest.mark.parametrize("folder", ["image", "label", "depth", "normal"])
def test_a_truncated_file_is_named(write_layout: WriteLayout, folder: str) -> None:
    root = write_layout()
    file = root / "train" / folder / "3.npy"
    for length in (file.stat().st_size - 1, 40, 0):
        file.write_bytes(file.read_bytes()[:length])
        refused(root, file, "truncated")


def test_a_file_with_a_damaged_header_is_named(write_layout: WriteLayout) -> None:
    root = write_layout()
    file = root / "train" / "depth" / "3.npy"
    whole = file.read_bytes()
    for damage in (b"(", b"'", b"0", b"\n", b"\xff"):
        file.write_bytes(whole[:10] + damage + whole[11:])
        refused(root, file, "no .npy file of numbers")


def test_a_file_of_another_format_is_named(write_layout: WriteLayout) -> None:
    root = write_layout()
    file = root / "train" / "depth" / "3.npy"
    file.write_bytes(b"not an array at all, but long enough to be taken for the header of one" * 3)
    refused(root, file, "no .npy file")
    with file.open("wb") as opened:
        np.savez(opened, depth=np.ones(SIZE))
    refused(root, file, "no .npy file")


@pytest.mark.parametrize("array", [np.full(SIZE, None), np.full(SIZE, "a"), np.ones(SIZE, np.complex64)])
def test_a_file_that_does_not_hold_numbers_is_named(write_layout: WriteLayout, array: np.ndarray) -> None:
    root = write_layout()
    file = store(root, "depth", 3, array)
    refused(root, file, "no .npy file of numbers")


@pytest.mark.parametrize(
    ("folder", "shape", "expected"),
    [
        ("image", (8, 6, 3), "expected (6, 8, 3): height and width are swapped"),
        ("label", (8, 6), "expected (6, 8) or (6, 8, 1): height and width are swapped"),
        ("depth", (8, 6, 1), "expected (6, 8) or (6, 8, 1): height and width are swapped"),
        ("normal", (8, 6, 3), "expected (6, 8, 3): height and width are swapped"),
        ("image", (3, 6, 8), "expected (6, 8, 3)"),
        ("image", (6, 8), "expected (6, 8, 3)"),
        ("label", (6, 8, 13), "expected (6, 8) or (6, 8, 1)"),
        ("depth", (12, 16), "expected (6, 8) or (6, 8, 1)"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(
    write_layout: WriteLayout, folder: str, shape: tuple[int, ...], expected: str
) -> None:
    root = write_layout()
    file = store(root, folder, 4, np.zeros(shape, np.float32))
    refused(root, file, f"has shape {shape}; {expected}")


# What is refused when it is read ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"), [(13, "13"), (255, "255"), (-2, "-2"), (2.5, "2.5"), (-0.5, "-0.5"), (np.nan, "nan")]
)
def test_a_label_out_of_range_is_named_with_its_file(write_layout: WriteLayout, value: float, shown: str) -> None:
    root = write_layout()
    labels = np.zeros((*SIZE, 1), np.int16 if float(value).is_integer() else np.float32)
    labels[5, 7] = value
    file = store(root, "label", 4, labels)
    folder = scenes(root)
    with pytest.raises(
        ValueError, match=re.escape(f"{file} holds the label {shown}; classes are 0 to 12, and -1 where there is none")
    ):
        folder[(0, [3, 4])]
    folder[(0, [3])]
    window = View(SIZE, slice(0, 5), slice(0, 7), 1.2, mirrored=False)
    folder.through(lambda epoch, index: window)[(0, [4])]  # only what is seen is read


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, "float32"), (-0.1, "float32"), (np.nan, "float64"), (200, "uint16"), (np.inf, "float16")]
)
def test_pixels_out_of_range_are_named_with_their_file(write_layout: WriteLayout, value: float, dtype: str) -> None:
    root = write_layout()
    image = np.zeros((*SIZE, 3), dtype)
    image[3, 3, 1] = value
    file = store(root, "image", 4, image)
    folder = scenes(root)
    with pytest.raises(ValueError, match=re.escape(f"{file} has pixels from")):
        folder[(0, [4])]


# Verification -------------------------------------------------------------------------------------


def test_a_sound_layout_is_summed_up(write_layout: WriteLayout) -> None:
    root = write_layout()
    calls: list[tuple[int, int]] = []
    contents = verify_layout(root, 13, SIZE, progress=lambda done, total: calls.append((done, total)))
    assert {split: found.scenes for split, found in contents.items()} == {"train": 5, "val": 3}
    assert calls == [(done, 8) for done in range(1, 9)]
    assert contents["train"].truth == pytest.approx(
        {
            "segmentation": np.mean([stored(root, "label", index) >= 0 for index in range(5)]),
            "depth": np.mean([stored(root, "depth", index) > 0 for index in range(5)]),
            "normals": np.mean([stored(root, "normal", index).any(-1) for index in range(5)]),
        }
    )
    assert verify_layout(root, 13) == contents


def test_verification_takes_the_size_of_the_first_image(write_layout: WriteLayout) -> None:
    root = write_layout()
    file = store(root, "image", 3, np.zeros((8, 6, 3), np.uint8))
    with pytest.raises(ValueError, match=re.escape(f"{file} has shape (8, 6, 3); expected (6, 8, 3)")):
        verify_layout(root, 13)
    with pytest.raises(ValueError, match=re.escape("0.npy has shape (6, 8, 3); expected (8, 6, 3)")):
        verify_layout(root, 13, size=(8, 6))
    store(root, "image", 0, np.zeros(5))
    with pytest.raises(ValueError, match=re.escape("0.npy has shape (5,)")):
        verify_layout(root, 13)


def test_verification_looks_at_both_splits_and_leaves_out_normals_if_asked(write_layout: WriteLayout) -> None:
    root = write_layout()
    missing = root / "val" / "normal" / "2.npy"
    missing.unlink()
    assert set(verify_layout(root, 13, normals=False)["val"].truth) == {"segmentation", "depth"}
    with pytest.raises(ValueError, match=re.escape(f"{missing} is missing")):
        verify_layout(root, 13)


def test_verification_reads_the_labels_of_the_classes_asked_for(write_layout: WriteLayout) -> None:
    root = write_layout(classes=7, label="label_7")
    write_layout(classes=19, label="label_19")
    assert verify_layout(root, 7)["train"].scenes == verify_layout(root, 19)["train"].scenes == 5
    file = store(root, "label_19", 2, np.full(SIZE, 19))
    verify_layout(root, 7)
    with pytest.raises(ValueError, match=re.escape(f"{file} holds the label 19")):
        verify_layout(root, 19)


@pytest.mark.parametrize(
    ("folder", "array", "reason"),
    [
        ("depth", np.full(SIZE, -1.0), "holds -1"),
        ("depth", np.full(SIZE, 2500), "holds 2500; values above 1000"),
        ("normal", np.full((*SIZE, 3), 1.0), "has vectors of length 1.73"),
        ("normal", np.full((*SIZE, 3), 0.4), "has vectors of length 0.693"),
        ("normal", np.full((*SIZE, 3), 128, np.uint8), "has vectors of length 222"),
        ("image", np.full((*SIZE, 3), 2.0), "has pixels from 2 to 2 as float64"),
    ],
)
def test_verification_names_implausible_values(
    write_layout: WriteLayout, folder: str, array: np.ndarray, reason: str
) -> None:
    root = write_layout()
    file = store(root, folder, 2, array)
    with pytest.raises(ValueError, match=re.escape(f"{file} {reason}")):
        verify_layout(root, 13)


def test_scenes_wholly_without_truth_are_sound(write_layout: WriteLayout) -> None:
    root = write_layout(train=1)
    store(root, "depth", 0, np.full(SIZE, np.nan))
    store(root, "normal", 0, np.zeros((*SIZE, 3)))
    store(root, "label", 0, np.full(SIZE, -1))
    assert verify_layout(root, 13)["train"].truth == {"segmentation": 0.0, "depth": 0.0, "normals": 0.0}
    assert scenes(root).through(lambda epoch, index: whole(SIZE))[(0, [0])][1]["normals"].isnan().all()
