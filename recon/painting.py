"""Targets of dense prediction as pictures: RGB in [0, 1], black where there is no value."""

from functools import lru_cache

import torch
from torch import Tensor

VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
"""Nine colours of matplotlib's perceptually uniform map, evenly spaced from low to high."""


def paint_labels(values: Tensor, truth: Tensor, classes: int) -> Tensor:
    """A colour per class, the same in every picture.

    Args:
        values: Labels, (H, W), -1 where there is none.
        truth: Not looked at.
        classes: Number of classes.

    Returns:
        (3, H, W), float32.
    """
    colours = torch.cat([class_colours(classes), torch.zeros(1, 3)]).to(values.device)
    return colours[torch.where(values < 0, classes, values)].movedim(-1, 0)


def paint_depths(values: Tensor, truth: Tensor) -> Tensor:
    """Dark to bright over the truth's range; what lies outside has the colour of its end.

    Args:
        values: (1, H, W), not finite where there is none.
        truth: (1, H, W), likewise. Without any value, the range is that of ``values``.

    Returns:
        (3, H, W), float32.
    """
    values, truth = values[0].float(), truth[0].float()
    known = next((known for known in (truth[truth.isfinite()], values[values.isfinite()]) if known.numel()), None)
    if known is None:
        return torch.zeros(3, *values.shape, device=values.device)
    low, high = known.aminmax()
    colours = torch.tensor([list(bytes.fromhex(colour)) for colour in VIRIDIS], device=values.device) / 255
    place = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).nan_to_num() * (len(colours) - 1)
    below = place.long().clamp(max=len(colours) - 2)
    painted = torch.lerp(colours[below], colours[below + 1], (place - below)[..., None]).movedim(-1, 0)
    return torch.where(values.isfinite(), painted, 0)


def paint_normals(values: Tensor, truth: Tensor) -> Tensor:
    """(n + 1) / 2, as the field draws normals.

    Args:
        values: Unit vectors, (3, H, W), not finite where there is none.
        truth: Not looked at.

    Returns:
        (3, H, W), float32.
    """
    return torch.where(values.isfinite().all(0), ((values.float() + 1) / 2).clamp(0, 1), 0)


@lru_cache
def class_colours(classes: int) -> Tensor:
    """Colours that are easy to tell from each other and from black, (classes, 3).

    Each is, of a grid of colours, the one that looks most unlike all before it (distance in CIELAB).
    """
    steps = 7
    while steps**3 <= classes:
        steps += 1
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, steps, dtype=torch.float64)] * 3)
    looks = _cielab(grid)
    chosen: list[int] = []
    nearest = (looks - looks[0]).norm(dim=1)  # the first of the grid is black
    for _ in range(classes):
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((looks - looks[chosen[-1]]).norm(dim=1))
    return grid[chosen].float()


def _cielab(rgb: Tensor) -> Tensor:
    """CIE 1976 L*a*b* of sRGB colours (N, 3), under D65."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    matrix = torch.tensor(to_xyz, dtype=rgb.dtype)
    xyz = linear @ matrix.T / matrix.sum(1)  # white is (1, 1, 1)
    x, y, z = torch.where(xyz > 216 / 24389, xyz ** (1 / 3), (24389 / 27 * xyz + 16) / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
