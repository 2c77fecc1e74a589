"""NYU Depth v2 from ``nyu_depth_v2_labeled.mat``: 1,449 indoor images with labels and depth.

Silberman, Hoiem, Kohli & Fergus, "Indoor Segmentation and Support Inference from RGBD Images", ECCV
2012; 795 training and 654 test images, 13 classes (Couprie, Farabet, Najman & LeCun, ICLR 2013),
288 x 384 pixels as in Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention" (MTAN),
CVPR 2019.

Depth was measured only inside rows 45 to 471 and columns 41 to 601 (from 1;
``get_projection_mask.m`` of the toolbox). The rest is cut off. MTAN's authors say that they cut off
the invalid borders, but not where. Normals are computed from depth, or come from a published
archive.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recon.data.preparation.archive import NormalsArchive
from recon.data.preparation.manifest import Arrays, Recipe, carry_out, source_record
from recon.data.preparation.normals import matching_axes, normals_from_depth
from recon.data.preparation.nyuv2_file import Distribution, Scans, official, opened
from recon.data.preparation.resizing import Size, averaged, sampled

NormalsOf = Callable[[int, np.ndarray], np.ndarray]
"""The normals (H, W, 3) of an image, from its number and its depth (H, W)."""

_COMPARED = 10
"""Images on which the axes of an archive of normals are found."""

_AGREEMENT = 0.7
"""Mean cosine from which normals of an archive are taken for those of the same images."""


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
    with opened(source, distribution) as scans:
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
