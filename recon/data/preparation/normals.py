"""Surface normals computed from depth, and the axes of published normals.

Axes here: x to the right, y up, z towards the camera. A wall that faces the camera has the normal
(0, 0, 1).

The method is that of Silberman, Hoiem, Kohli & Fergus, "Indoor Segmentation and Support Inference
from RGBD Images", ECCV 2012 (``compute_local_planes.m``): the plane with the least squared
distances to the points around a pixel, at 0, 1, 3, 6 and 9 pixels to each side, without points that
are more than 5 % nearer or farther. Theirs minimises the algebraic distance of homogeneous points,
ours the Euclidean distance, which does not depend on the place of the origin.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, permutations, product

import numpy as np

_OFFSETS = (-9, -6, -3, -1, 0, 1, 3, 6, 9)
_RELATIVE_STEP = 0.05

SHORTEST = 0.5
"""Length below which a vector is no normal; 8-bit images cannot give a missing one as exactly 0."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        height: Pixels in a column.
        width: Pixels in a row.
        fx: Focal length in widths of a pixel.
        fy: Focal length in heights of a pixel.
        cx: Column of the principal point, counted from 0.
        cy: Row of the principal point, counted from 0.
    """

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float


def normals_from_depth(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """The normal at each pixel, facing the camera.

    Args:
        depth: ``(H, W)``, distance from the camera's plane in any unit; 0 where it is missing.
        camera: The camera that took it.

    Returns:
        ``(H, W, 3)``, float32, unit vectors; zeros where depth is missing, or fewer than three
        points are near.
    """
    points = _points(depth, camera)
    count, covariance = _neighbourhoods(points)
    normal = np.linalg.eigh(covariance)[1][..., 0]  # where the points vary least; eigh reads the lower triangle
    facing = np.where(np.einsum("hwi,ihw->hw", normal, points) > 0, -1, 1)
    known = (count >= 3) & (depth > 0)
    return (normal * (facing * known)[..., None]).astype(np.float32)


def _points(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Places of the pixels in space, (3, H, W); z is negative in our axes."""
    rows, columns = np.mgrid[: camera.height, : camera.width]
    right, down = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    return np.stack([right, -down, np.full_like(right, -1)]) * depth


def _neighbourhoods(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number (H, W) of the points around each pixel, and their covariance (H, W, 3, 3).

    Only the lower triangle of the covariance is filled in.
    """
    height, width = points.shape[1:]
    margin = max(_OFFSETS)
    padded = np.pad(points, ((0, 0), (margin, margin), (margin, margin)))  # with missing ones
    step = _RELATIVE_STEP * -points[2]
    count, total, products = np.zeros((height, width)), np.zeros((3, height, width)), np.zeros((3, 3, height, width))
    for down, right in product(_OFFSETS, _OFFSETS):
        away = padded[:, margin + down :, margin + right :][:, :height, :width] - points
        near = np.abs(away[2]) < step
        away *= near
        count += near
        total += away
        for i, j in combinations_with_replacement(range(3), 2):
            products[i, j] += away[i] * away[j]
    mean = total / np.maximum(count, 1)
    covariance = products / np.maximum(count, 1) - mean[:, None] * mean
    return count, covariance.transpose(2, 3, 1, 0)


def matching_axes(given: np.ndarray, computed: np.ndarray) -> tuple[np.ndarray, float]:
    """Order and signs of channels that make given normals agree with computed ones.

    Published normals come in several orders and with either sign of an axis, none of them
    documented.

    Args:
        given: ``(..., 3)``, unit vectors, zeros where there is none.
        computed: The same shape, of the same pixels, in our axes.

    Returns:
        A signed permutation ``(3, 3)``, so that ``given @ axes.T`` is in our axes; and the mean
        cosine that it reaches.
    """
    both = np.logical_and(given.any(axis=-1), computed.any(axis=-1))
    correlation = computed[both].T.astype(np.float64) @ given[both] / max(both.sum(), 1)
    candidates = [
        np.diag(signs) @ np.eye(3)[list(order)]
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    best = max(candidates, key=lambda axes: float(np.sum(axes * correlation)))
    return best, float(np.sum(best * correlation))


def unit_or_zero(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(..., 3)`` at unit length, float32; zeros in place of vectors without direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length < SHORTEST, 0, vectors / np.maximum(length, SHORTEST)).astype(np.float32)
