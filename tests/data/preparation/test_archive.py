import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recon.data.preparation.archive import NormalsArchive

SIZE = (4, 6)
Write = Callable[[Path, dict[str, bytes]], Path]
Png = Callable[[np.ndarray], bytes]


@pytest.fixture
def pictures() -> np.ndarray:
    """Three encoded images of unit vectors."""
    vectors = np.random.default_rng(1).normal(size=(3, *SIZE, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.rint((vectors + 1) * 127.5).astype(np.uint8)


def decoded(picture: np.ndarray) -> np.ndarray:
    vectors = picture / 127.5 - 1
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_a_tgz_of_normals_and_masks_is_numbered_from_zero(
    tmp_path: Path, write_tgz: Write, png: Png, pictures: np.ndarray
) -> None:
    mask = np.full(SIZE, 255, np.uint8)
    mask[1, 2] = 0
    members = {f"normals_gt/normals/{i:04d}.png": png(picture) for i, picture in enumerate(pictures)}
    members |= {f"normals_gt/masks/{i:04d}.png": png(mask) for i in range(3)}
    archive = NormalsArchive(write_tgz(tmp_path / "normals_gt.tgz", members), 3, SIZE)
    for image in range(3):
        expected = decoded(pictures[image])
        expected[1, 2] = 0
        np.testing.assert_allclose(archive[image], expected, atol=1e-6)


def test_a_zip_of_splits_is_numbered_from_one(tmp_path: Path, write_zip: Write, png: Png, pictures: np.ndarray) -> None:
    names = ["nyu_normals_gt/test/00001.png", "nyu_normals_gt/train/00002.png", "nyu_normals_gt/test/00003.png"]
    pictures[2, 0, 0] = 127  # grey: no normal
    members = {name: png(picture) for name, picture in zip(names, pictures, strict=True)}
    archive = NormalsArchive(write_zip(tmp_path / "nyu_normals_gt.zip", members), 3, SIZE)
    np.testing.assert_allclose(archive[0], decoded(pictures[0]), atol=1e-6)
    assert not archive[2][0, 0].any()
    np.testing.assert_allclose(archive[2][1:], decoded(pictures[2])[1:], atol=1e-6)


def test_nothing_is_unpacked(tmp_path: Path, write_tgz: Write, png: Png, pictures: np.ndarray) -> None:
    (tmp_path / "inner").mkdir()
    members = {f"../../normals/{i:04d}.png": png(picture) for i, picture in enumerate(pictures)}
    archive = NormalsArchive(write_tgz(tmp_path / "inner" / "evil.tgz", members), 3, SIZE)
    np.testing.assert_allclose(archive[1], decoded(pictures[1]), atol=1e-6)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["evil.tgz"]


def test_an_archive_that_lacks_an_image_is_refused(
    tmp_path: Path, write_zip: Write, png: Png, pictures: np.ndarray
) -> None:
    members = {f"normals/{i:04d}.png": png(pictures[i]) for i in (0, 2)}
    path = write_zip(tmp_path / "normals.zip", members)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} has normals of 2 of 3 images \(.* is image 2\)"):
        NormalsArchive(path, 3, SIZE)


def test_an_archive_that_lacks_a_mask_is_refused(
    tmp_path: Path, write_zip: Write, png: Png, pictures: np.ndarray
) -> None:
    members = {f"normals/{i:04d}.png": png(pictures[i]) for i in range(3)}
    members["masks/0000.png"] = png(pictures[0, ..., 0])
    with pytest.raises(ValueError, match="has masks of 1 of 3 images"):
        NormalsArchive(write_zip(tmp_path / "normals.zip", members), 3, SIZE)


@pytest.mark.parametrize("name", ["normals.tgz", "normals.zip"])
def test_a_truncated_archive_is_named(
    tmp_path: Path, name: str, write_zip: Write, write_tgz: Write, png: Png, pictures: np.ndarray
) -> None:
    members = {f"normals/{i:04d}.png": png(pictures[i]) for i in range(3)}
    path = (write_zip if name.endswith("zip") else write_tgz)(tmp_path / name, members)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"{name} is no .zip or .tgz file, or is truncated"):
        NormalsArchive(path, 3, SIZE)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99), (6, 200)])
def test_a_zip_that_asks_for_what_it_does_not_need_is_named(
    tmp_path: Path, offset: int, value: int, write_zip: Write, png: Png, pictures: np.ndarray
) -> None:
    members = {f"normals/{i:04d}.png": png(pictures[i]) for i in range(3)}
    path = write_zip(tmp_path / "normals.zip", members)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + offset] = value  # a password, another compression, another version of the format
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"normals.zip is no .zip or .tgz file, or is truncated"):
        NormalsArchive(path, 3, SIZE)


def test_a_picture_that_is_damaged_or_of_another_size_is_named(
    tmp_path: Path, write_zip: Write, png: Png, pictures: np.ndarray
) -> None:
    members = {"normals/0000.png": png(pictures[0])[:60], "normals/0001.png": png(pictures[1].transpose(1, 0, 2))}
    archive = NormalsArchive(write_zip(tmp_path / "normals.zip", members), 2, SIZE)
    with pytest.raises(ValueError, match=r"the normals of image 1 in .*normals.zip is damaged"):
        archive[0]
    with pytest.raises(ValueError, match=r"image 2 in .*normals.zip has 6 rows and 4 columns.*swapped"):
        archive[1]
