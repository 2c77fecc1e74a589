"""Tiny data sets in the official formats."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from recon.data.preparation.normals import Camera
from recon.data.preparation.nyuv2_file import Distribution

HEIGHT, WIDTH = 24, 32
FOCAL, COLUMN, ROW = 26.0, 15.2, 11.7


@dataclass
class Rooms:
    """Six images of empty rooms, as NYUv2 would have them."""

    images: np.ndarray  # (N, H, W, 3)
    depths: np.ndarray  # (N, H, W)
    labels: np.ndarray  # (N, H, W)
    normals: np.ndarray  # (N, H, W, 3): x right, y up, z towards the camera
    distribution: Distribution = field(
        default_factory=lambda: Distribution(
            splits={"train": [1, 2, 5], "val": [0, 3, 4]},
            classes=np.array([-1, 6, 0, 12, 3], np.int8),
            camera=Camera(HEIGHT, WIDTH, FOCAL, FOCAL, COLUMN, ROW),
            valid=(slice(2, 22), slice(3, 30)),
        )
    )

    def write(self, path: Path) -> Path:
        """As MATLAB's v7.3 has it: HDF5 after a header of 512 bytes, axes reversed."""
        with h5py.File(path, "w", userblock_size=512) as file:
            file["images"] = self.images.transpose(0, 3, 2, 1)
            file["depths"] = self.depths.transpose(0, 2, 1)
            file["labels"] = self.labels.transpose(0, 2, 1)
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file")
        return path


@pytest.fixture
def rooms() -> Rooms:
    generator = np.random.default_rng(3)
    scenes = [_room(*generator.uniform([1, 1, 1, 1, 3], [2, 2, 2, 2, 4])) for _ in range(6)]
    return Rooms(
        images=generator.integers(0, 256, (6, HEIGHT, WIDTH, 3), dtype=np.uint8),
        depths=np.stack([depth for depth, _ in scenes]).astype(np.float32),
        labels=generator.integers(0, 5, (6, HEIGHT, WIDTH), dtype=np.uint16),
        normals=np.stack([normals for _, normals in scenes]),
    )


def _room(left: float, right: float, down: float, up: float, back: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and normals of a box, seen from inside."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y = (columns - COLUMN) / FOCAL, (ROW - rows) / FOCAL
    with np.errstate(divide="ignore"):
        hits = np.stack(
            [
                np.where(x < 0, -left / x, np.inf),
                np.where(x > 0, right / x, np.inf),
                np.where(y < 0, -down / y, np.inf),
                np.where(y > 0, up / y, np.inf),
                np.full(x.shape, back),
            ]
        )
    inward = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]], float)
    return hits.min(axis=0), inward[hits.argmin(axis=0)]


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def write_zip() -> Callable[[Path, dict[str, bytes]], Path]:
    def write(path: Path, members: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture
def write_tgz() -> Callable[[Path, dict[str, bytes]], Path]:
    def write(path: Path, members: dict[str, bytes]) -> Path:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture(name="png")
def png_fixture() -> Callable[[np.ndarray], bytes]:
    return png


@dataclass
class Streets:
    """Images by split and name, as CityScapes would have them; files of (16, 32)."""

    root: Path
    files: dict[tuple[str, str], dict[str, np.ndarray]]

    def path(self, what: str, split: str, name: str) -> Path:
        folder, suffix = {
            "image": ("leftImg8bit", "leftImg8bit"),
            "label": ("gtFine", "gtFine_labelIds"),
            "disparity": ("disparity", "disparity"),
        }[what]
        return self.root / folder / split / f"{name}_{suffix}.png"

    def write(self, what: str, split: str, name: str, array: np.ndarray) -> None:
        path = self.path(what, split, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(array))


@pytest.fixture
def streets(tmp_path: Path) -> Streets:
    generator = np.random.default_rng(5)
    names = {
        "train": ["bonn/bonn_000001_000019", "aachen/aachen_000010_000019", "aachen/aachen_000002_000019"],
        "val": ["ulm/ulm_000000_000019"],
    }
    files = {
        (split, name): {
            "image": generator.integers(0, 256, (16, 32, 3), dtype=np.uint8),
            "label": generator.integers(0, 34, (16, 32), dtype=np.uint8),
            "disparity": generator.integers(0, 32258, (16, 32), dtype=np.uint16)
            * generator.integers(0, 2, (16, 32), dtype=np.uint16),
        }
        for split, of_split in names.items()
        for name in of_split
    }
    made = Streets(tmp_path / "cityscapes", files)
    for (split, name), arrays in files.items():
        for what, array in arrays.items():
            made.write(what, split, name, array)
    return made
