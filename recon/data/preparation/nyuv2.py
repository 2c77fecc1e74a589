"""NYU Depth v2 from ``nyu_depth_v2_labeled.mat``: 1,449 indoor images with labels and depth.

Silberman, Hoiem, Kohli & Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV
2012; 795 training and 654 test images, 13 classes (Couprie, Farabet, Najman & LeCun, ICLR 2013),
288 x 384 pixels as in Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention" (MTAN),
CVPR 2019.

The file is MATLAB's v7.3, which is HDF5; arrays in it have their axes in reverse order:

    images (N, 3, 640, 480) uint8       depths (N, 640, 480) metres, holes filled in
    labels (N, 640, 480) uint16: 0 without label, else 1 to 894

Depth was measured only inside rows 45 to 471 and columns 41 to 601 (from 1;
``get_projection_mask.m`` of the toolbox). The rest is cut off. MTAN's authors say that they cut off
the invalid borders, but not where. Normals are computed from depth, or come from a published
archive.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.preparation.archive import NormalsArchive
from recon.data.preparation.manifest import Arrays, Recipe, carry_out, source_record
from recon.data.preparation.normals import Camera, matching_axes, normals_from_depth
from recon.data.preparation.resizing import Size, averaged, sampled
from recon.plugins import needs

NormalsOf = Callable[[int, np.ndarray], np.ndarray]
"""The normals (H, W, 3) of an image, from its number and its depth (H, W)."""

_FARTHEST = 20.0
"""Depth in metres that a Kinect does not reach; what lies beyond it is in another unit."""

_COMPARED = 10
"""Images on which the axes of an archive of normals are found."""

_AGREEMENT = 0.7
"""Mean cosine from which normals of an archive are taken for those of the same images."""


@dataclass(frozen=True)
class Distribution:
    """The facts of the data set that its file does not hold.

    Args:
        splits: The images of each split, counted from 0.
        classes: Class of each raw label, (1 + raw labels,), int8; -1 for label 0.
        camera: The colour camera, into whose frame depth is projected.
        valid: Rows and columns with depth.
    """

    splits: dict[str, list[int]]
    classes: np.ndarray
    camera: Camera
    valid: tuple[slice, slice]

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(len(indices) for indices in self.splits.values())

    @property
    def frame(self) -> Size:
        """Height and width of an image before it is cut."""
        return self.camera.height, self.camera.width


def official() -> Distribution:
    """The published distribution.

    ``nyuv2-classes-and-splits.json`` names the sources of its tables.
    """
    tables = json.loads((files(__package__) / "nyuv2-classes-and-splits.json").read_text())
    of_40 = np.array(tables["raw_to_40"])
    of_13 = np.array(tables["map_40_to_13"])[of_40 - 1]
    return Distribution(
        splits={split: [number - 1 for number in tables[key]] for split, key in (("train", "train"), ("val", "test"))},
        classes=np.concatenate([[0], of_13]).astype(np.int8) - 1,
        # camera_params.m of the toolbox; its pixels are counted from 1
        camera=Camera(480, 640, 518.85790117450188, 519.46961112127485, 325.58244941119034 - 1, 253.73616633400465 - 1),
        valid=(slice(44, 471), slice(40, 601)),
    )


def prepare_nyuv2(source: Path, *, out: Path, normals: Path | None = None, height: int = 288, width: int = 384) -> None:
    """Convert NYU Depth v2 into OUT/{train,val}/{image,label,depth,normal}/{i}.npy.

    Interrupted, the same command goes on. Labels are 13 classes (-1: none), depth is in metres (0:
    none), normals are unit vectors with x to the right, y up, z towards the camera (zeros: none).
    Images are averaged over the area of a pixel; labels, depth and normals are those at its centre.

    Args:
        source: The official nyu_depth_v2_labeled.mat.
        out: Folder of the prepared data set.
        normals: Archive of published normals: normals_gt.tgz (Eigen and Fergus) or
            nyu_normals_gt.zip (Ladicky et al.). By default normals are computed from depth.
        height: Height of the prepared images.
        width: Width of the prepared images.
    """
    convert(official(), source, out, normals, (height, width))


def convert(distribution: Distribution, source: Path, out: Path, normals: Path | None, size: Size) -> None:
    """Convert a distribution of any size, as :func:`prepare_nyuv2` does."""
    with _opened(source, distribution) as scans:
        scans.check()
        described, normals_of = _published(normals, scans) if normals is not None else _computed(distribution)
        recipe = Recipe(
            dataset="nyuv2",
            source=_source(source, normals),
            settings={"height": size[0], "width": size[1], "normals": described},
            samples={
                split: [f"image {index + 1}" for index in indices] for split, indices in distribution.splits.items()
            },
            folders=("image", "label", "depth", "normal"),
        )

        def make(split: str, index: int) -> Arrays:
            image = distribution.splits[split][index]
            depth = scans.depth(image)
            whole = {"label": scans.label(image), "depth": depth, "normal": normals_of(image, depth)}
            truth = {name: sampled(array[distribution.valid], size) for name, array in whole.items()}
            return {"image": averaged(scans.image(image)[distribution.valid], size), **truth}

        carry_out(recipe, out, make)


class Scans:
    """The arrays of the file, one image at a time, upright and checked.

    Args:
        path: The file.
        file: The file, opened by h5py.
        distribution: The facts that it must agree with.
    """

    def __init__(self, path: Path, file: Any, distribution: Distribution) -> None:
        self.path = path
        self.distribution = distribution
        self._file = file

    def check(self) -> None:
        """Refuse a file without the arrays, or with arrays of another type or shape."""
        height, width = self.distribution.frame
        for name, kind, planes in (
            ("images", np.uint8, (3,)),
            ("depths", np.floating, ()),
            ("labels", np.unsignedinteger, ()),
        ):
            array, expected = self._array(name), (self.distribution.images, *planes, width, height)
            if array.shape != expected:
                swapped = array.shape == (*expected[:-2], height, width)
                raise ValueError(
                    f"{name!r} in {self.path} has shape {array.shape}, not {expected}, in the order of HDF5"
                    + ("; width and height are swapped" if swapped else "")
                )
            if not np.issubdtype(array.dtype, kind):
                raise ValueError(f"{name!r} in {self.path} is of type {array.dtype}; it is not the official file")

    def image(self, index: int) -> np.ndarray:
        """Colours ``(H, W, 3)``, uint8."""
        return self._read("images", index).transpose(2, 1, 0)

    def depth(self, index: int) -> np.ndarray:
        """Metres ``(H, W)``, float32; 0 where there is none."""
        depth = self._read("depths", index).T.astype(np.float32)
        wrong = ~((depth >= 0) & (depth <= _FARTHEST))
        if wrong.any():
            raise self._error("depth", index, depth, wrong, f"expected 0 to {_FARTHEST:g} metres")
        return depth

    def label(self, index: int) -> np.ndarray:
        """Class ``(H, W)``, int8; -1 where there is none."""
        label = self._read("labels", index).T
        last = len(self.distribution.classes) - 1
        wrong = label > last
        if wrong.any():
            raise self._error("label", index, label, wrong, f"expected 0 to {last}")
        return self.distribution.classes[label]

    def _array(self, name: str) -> Any:
        """An array in h5py's form."""
        try:
            present = name in self._file
            found = self._file[name] if present else None
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{self.path} is truncated or damaged at {name!r} ({error}); get it again") from error
        if not hasattr(found, "shape"):  # nor is a group an array
            raise ValueError(f"{self.path} has no {name!r}; it is not nyu_depth_v2_labeled.mat")
        return found

    def _read(self, name: str, index: int) -> np.ndarray:
        try:
            return self._file[name][index]
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.path} is truncated or damaged at {name!r} of image {index + 1} ({error}); get it again"
            ) from error

    def _error(self, what: str, index: int, array: np.ndarray, wrong: np.ndarray, expected: str) -> ValueError:
        row, column = np.argwhere(wrong)[0]
        return ValueError(
            f"{self.path}: {what} {array[row, column]} at row {row}, column {column} of image {index + 1}; {expected}"
        )


@contextmanager
def _opened(path: Path, distribution: Distribution) -> Iterator[Scans]:
    with needs("h5py", extra="data"):  # MATLAB's files are HDF5
        import h5py  # type: ignore[import-untyped]
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the official nyu_depth_v2_labeled.mat")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is truncated, or no MATLAB v7.3 file ({error}); get it again") from error
    with file:
        yield Scans(path, file, distribution)


def _computed(distribution: Distribution) -> tuple[str, NormalsOf]:
    """Normals from depth: their description, and the function that gives them."""
    print(
        "normals are computed from depth, for want of published ones (--normals); results on them cannot be compared "
        "with published ones"
    )
    return "computed from depth", lambda image, depth: _from_depth(depth, distribution)


def _published(path: Path, scans: Scans) -> tuple[str, NormalsOf]:
    """Normals of an archive in our axes: their description, and the function that gives them."""
    archive = NormalsArchive(path, scans.distribution.images, scans.distribution.frame)
    axes = _axes(archive, scans)
    return _named(axes), lambda image, depth: archive[image] @ axes.T


def _from_depth(depth: np.ndarray, distribution: Distribution) -> np.ndarray:
    """Normals from depth where it was measured; depth outside is extrapolated."""
    measured = np.zeros_like(depth)
    measured[distribution.valid] = depth[distribution.valid]
    return normals_from_depth(measured, distribution.camera)


def _axes(archive: NormalsArchive, scans: Scans) -> np.ndarray:
    """The change from the archive's channels to our axes, by comparison with computed normals."""
    distribution = scans.distribution
    images = sorted({round(part) for part in np.linspace(0, distribution.images - 1, _COMPARED)})
    given = np.stack([archive[image] for image in images])
    computed = np.stack([_from_depth(scans.depth(image), distribution) for image in images])
    axes, agreement = matching_axes(given, computed)
    if agreement < _AGREEMENT:
        raise ValueError(
            f"the normals in {archive.path} do not fit the depth in {scans.path}: the mean cosine is {agreement:.2f} "
            "at best; they are of other images, or numbered otherwise"
        )
    print(f"normals of {archive.path.name} as {_named(axes)}; mean cosine with those from depth {agreement:.2f}")
    return axes.astype(np.float32)


def _named(axes: np.ndarray) -> str:
    """A signed permutation in words, e.g. "(+r, -g, +b)"."""
    channels = [("+" if row.sum() > 0 else "-") + "rgb"[int(np.abs(row).argmax())] for row in axes]
    return f"(x, y, z) = ({', '.join(channels)})"


def _source(source: Path, normals: Path | None) -> dict[str, Any]:
    parts = {"labeled": source_record(source)}
    return parts if normals is None else {**parts, "normals": source_record(normals)}
