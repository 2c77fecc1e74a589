"""Random views of a scene: a window of it enlarged, or all of it smaller, and its mirror image.

Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019 (MTAN): scale 1,
1.2 or 1.5 and a flip with probability 0.5. Four points differ from their code:

- Disparity grows with the scale; theirs divides it as if it were a distance.
- Normals are unit vectors again after interpolation.
- Pixels without truth neither colour their neighbours nor gain a value.
- Images and the nearest truth agree on the place of a pixel's centre; theirs aligns the corners of
  images, and the upper left corners of pixels in everything else.

A scale below 1 shows the whole scene smaller, grey around it and without truth there, as the
protocol of PASCAL-Context does.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recon.tasks.losses import UNLABELLED

SCALES = (1.0, 1.2, 1.5)
"""Scales of MTAN; all are equally probable."""

GREY = 0.5
"""The colour beside a scene."""

_SHORTEST = 1e-3  # length of an interpolated normal below which its direction is rounding error


@dataclass(frozen=True)
class View:
    """A window of a scene, scaled to ``shown``, and perhaps mirrored left to right.

    Args:
        size: Height and width of the scene and of the view, in pixels.
        rows: The window's rows.
        columns: The window's columns.
        scale: By how much the window is enlarged, before its sides were rounded to whole pixels.
        mirrored: Whether left and right are swapped.
        shown: Height and width of the window in the view; by default it fills the view.
        corner: Row and column of the view where the window begins, before left and right are
            swapped.
    """

    size: tuple[int, int]
    rows: slice
    columns: slice
    scale: float
    mirrored: bool
    shown: tuple[int, int] | None = None
    corner: tuple[int, int] = (0, 0)

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the window in the view."""
        return self.size if self.shown is None else self.shown


def whole(size: tuple[int, int]) -> View:
    """The view that shows a scene unchanged."""
    height, width = size
    return View(size, slice(0, height), slice(0, width), 1.0, False)


@dataclass(frozen=True)
class RandomViews:
    """Random views of scenes, each a function of the seed, the epoch and the scene's index alone.

    >>> views = RandomViews(size=(288, 384), seed=0)
    >>> views(epoch=3, index=7) == views(epoch=3, index=7)
    True

    Args:
        size: Height and width of the scenes, in pixels.
        seed: Seed of the views, not negative.
        scales: The scales, equally probable.
    """

    size: tuple[int, int]
    seed: int
    scales: tuple[float, ...] = SCALES

    def __call__(self, epoch: int, index: int) -> View:
        """The view of a scene in an epoch."""
        # NumPy pads a seed with zeros: index 0 as the last number would repeat the stream that
        # orders the epoch.
        generator = np.random.default_rng([self.seed, epoch, index + 1])
        scale = self.scales[generator.integers(len(self.scales))]
        height, width = (max(1, int(extent / scale if scale >= 1 else extent * scale)) for extent in self.size)
        top = int(generator.integers(self.size[0] - height + 1))
        left = int(generator.integers(self.size[1] - width + 1))
        mirrored = bool(generator.random() < 0.5)
        if scale < 1:
            everything = whole(self.size)
            return replace(everything, scale=scale, mirrored=mirrored, shown=(height, width), corner=(top, left))
        return View(self.size, slice(top, top + height), slice(left, left + width), scale, mirrored)


def view_image(window: Tensor, view: View) -> Tensor:
    """Scale the pixels ``(3, h, w)`` of a view's window bilinearly."""
    return _mirrored(_placed(_bilinear(window, view), view, GREY), view)


def view_labels(window: Tensor, view: View) -> Tensor:
    """Scale the labels ``(h, w)`` of a view's window: each pixel has the nearest label."""
    return _mirrored(_placed(_nearest(window, view), view, UNLABELLED), view)


def view_depth(window: Tensor, view: View) -> Tensor:
    """Scale the depths ``(1, h, w)`` of a view's window.

    They shrink by the scale: what looks larger is nearer.
    """
    return _mirrored(_placed(_nearest(window, view), view, torch.nan), view) / view.scale


def view_disparity(window: Tensor, view: View) -> Tensor:
    """Scale the disparities or inverse depths ``(1, h, w)`` of a view's window.

    They grow with the scale.
    """
    return _mirrored(_placed(_nearest(window, view), view, torch.nan), view) * view.scale


def view_normals(window: Tensor, view: View) -> Tensor:
    """Scale the normals ``(3, h, w)`` of a view's window, unit vectors or NaN.

    A normal is the direction of the bilinear mean over the neighbours with a normal. A pixel whose
    nearest neighbour has no normal has none. In a mirror x changes its sign.
    """
    normals = window
    if window.shape[-2:] != view.extent:
        mean = _bilinear(window.nan_to_num(0.0), view)
        length = mean.square().sum(0).sqrt()  # several times as fast as norm()
        known = _nearest(window[0].isfinite(), view) & (length > _SHORTEST)
        normals = mean / torch.where(known, length, torch.nan)
    normals = _placed(normals, view, torch.nan)
    if view.mirrored:
        normals = _mirrored(normals, view) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    return normals


def _bilinear(window: Tensor, view: View) -> Tensor:
    if window.shape[-2:] == view.extent:
        return window
    return interpolate(window.unsqueeze(0), size=view.extent, mode="bilinear", align_corners=False).squeeze(0)


def _nearest(window: Tensor, view: View) -> Tensor:
    """``interpolate`` with "nearest-exact", for any dtype."""
    for dimension, extent in zip((-2, -1), view.extent, strict=True):
        source = window.shape[dimension]
        if source != extent:
            centres = 2 * torch.arange(extent) + 1  # in half pixels of the view
            window = window.index_select(dimension, centres * source // (2 * extent))
    return window


def _placed(values: Tensor, view: View, fill: float) -> Tensor:
    """The values of a window in their place in the view, and a fill around them."""
    if view.extent == view.size:
        return values
    (top, left), (height, width) = view.corner, view.extent
    placed = values.new_full((*values.shape[:-2], *view.size), fill)
    placed[..., top : top + height, left : left + width] = values
    return placed


def _mirrored(values: Tensor, view: View) -> Tensor:
    return values.flip(-1) if view.mirrored else values
