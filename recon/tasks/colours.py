"""Targets of dense prediction as pictures: RGB in [0, 1], black where there is no value."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

OKABE_ITO = {
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "vermillion": "#d55e00",
    "yellow": "#f0e442",
}
"""Colours that readers of any colour vision tell apart, without black.

Okabe & Ito, "Color Universal Design", 2008. matplotlib has them from version 3.11 on.
"""


@dataclass(frozen=True)
class Legend:
    """The meaning of single colours: names and colours, (N, 3)."""

    names: tuple[str, ...]
    colours: Tensor


@dataclass(frozen=True)
class Scale:
    """The meaning of colours from dark to bright: the values at both ends."""

    low: float
    high: float


def paint_labels(values: Tensor, truth: Tensor, classes: int) -> Tensor:
    """One colour per class, the same in every picture.

    >>> paint_labels(torch.tensor([[0, 1, -1]]), truth=torch.empty(1, 3), classes=2)[0]
    tensor([[0.0000, 0.9020, 0.0000]])

    Args:
        values: Labels, (H, W), -1 where there is none.
        truth: Not used.
        classes: Number of classes.

    Returns:
        (3, H, W), float32.
    """
    colours = torch.cat([class_colours(classes), torch.zeros(1, 3)]).to(values.device)
    return colours[torch.where(values < 0, classes, values)].movedim(-1, 0)


def paint_probabilities(values: Tensor, truth: Tensor) -> Tensor:
    """Between the colours of the first two classes: that of the first for 0, of the second for 1.

    >>> paint_probabilities(torch.tensor([[0.0, 0.5, -1.0]]), truth=torch.empty(1, 3))[2]
    tensor([[0.6980, 0.3490, 0.0000]])

    Args:
        values: Probabilities or labels, (H, W), -1 where there is none.
        truth: Not used.

    Returns:
        (3, H, W), float32.
    """
    no, yes = (colour.view(3, 1, 1) for colour in class_colours(2).to(values.device))
    return torch.where(values < 0, 0, no + (yes - no) * values.float())


def paint_depths(values: Tensor, truth: Tensor) -> Tensor:
    """Dark to bright over the range of the truth; values outside have the colour of its end.

    Args:
        values: (1, H, W), not finite where there is none.
        truth: (1, H, W), likewise. Without any value, the range is that of ``values``.

    Returns:
        (3, H, W), float32.
    """
    scale = depth_scale(truth) or depth_scale(values)
    values = values[0].float()
    if scale is None:
        return torch.zeros(3, *values.shape, device=values.device)
    low, high = torch.tensor([scale.low, scale.high], device=values.device)
    painted = _viridis(((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).nan_to_num()).movedim(-1, 0)
    return torch.where(values.isfinite(), painted, 0)


def depth_colours(number: int) -> Tensor:
    """The colours of evenly spaced depths, from the low end to the high: (number, 3)."""
    return _viridis(torch.linspace(0, 1, number))


def _viridis(values: Tensor) -> Tensor:
    """The colours (..., 3) of values (...) in [0, 1], in matplotlib's perceptually uniform map."""
    from matplotlib import colormaps  # slow to import, and only pictures need it

    colours = colormaps["viridis"](values.cpu().numpy())[..., :3]
    return torch.tensor(colours, dtype=torch.float32, device=values.device)


def depth_scale(truth: Tensor) -> Scale | None:
    """The range of depths of any shape; ``None`` without any value."""
    known = truth[truth.isfinite()]
    return Scale(*(float(end) for end in known.aminmax())) if known.numel() else None


def label_legend(truth: Tensor, names: Sequence[str]) -> Legend | None:
    """The colours of classes; ``None`` for more than a legend can hold. The truth is not used."""
    return Legend(tuple(names), class_colours(len(names))) if len(names) <= _LONGEST_LEGEND else None


def normal_legend(truth: Tensor) -> Legend:
    """The colours of normals along each axis. The truth is not used."""
    return Legend(("+x", "+y", "+z"), (torch.eye(3) + 1) / 2)


def paint_normals(values: Tensor, truth: Tensor) -> Tensor:
    """(n + 1) / 2, the field's picture of normals.

    Args:
        values: Unit vectors, (3, H, W), not finite where there is none.
        truth: Not used.

    Returns:
        (3, H, W), float32.
    """
    return torch.where(values.isfinite().all(0), ((values.float() + 1) / 2).clamp(0, 1), 0)


_LONGEST_LEGEND = 40

# Of linear sRGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of
# Color Vision Deficiency", IEEE TVCG 2009, table 1, severity 1.
_PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
_DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]


@lru_cache
def class_colours(classes: int) -> Tensor:
    """Colours that readers with any colour vision tell from each other and from black.

    The first seven are Okabe's and Ito's. Each further one is chosen from a grid of colours: the
    one whose least distance to black and to all colours before it is largest. Distance is in
    CIELAB, for the vision (full, protanope or deuteranope) to which two colours look most alike.

    >>> class_colours(19).shape
    torch.Size([19, 3])

    Args:
        classes: Number of classes.

    Returns:
        (classes, 3), float32.
    """
    first = torch.tensor([list(bytes.fromhex(colour[1:])) for colour in OKABE_ITO.values()]) / 255
    steps = 7
    while steps**3 <= classes:
        steps += 1
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, steps, dtype=torch.float64)] * 3)
    looks = _looks(torch.cat([grid, first.double()]))
    chosen = list(range(len(grid), len(looks)))[:classes]
    nearest = torch.stack([_unlike(looks, looks[other]) for other in (0, *chosen)]).amin(0)  # the first one is black
    for _ in range(classes - len(chosen)):
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum(_unlike(looks, looks[chosen[-1]]))
    return torch.cat([grid.float(), first])[chosen]


def _unlike(looks: Tensor, other: Tensor) -> Tensor:
    """Distance of colours (N, 3, 3) from one (3, 3), for the vision that sees least of it: (N,)."""
    return (looks - other).norm(dim=2).amin(1)


def _looks(rgb: Tensor) -> Tensor:
    """How full, protanope and deuteranope vision see sRGB colours (N, 3): (N, 3, 3).

    The result is in CIE 1976 L*a*b*.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    blind = [(linear @ torch.tensor(matrix, dtype=rgb.dtype).T).clamp(0, 1) for matrix in (_PROTANOPIA, _DEUTERANOPIA)]
    return torch.stack([_cielab(seen) for seen in (linear, *blind)], dim=1)


def _cielab(linear: Tensor) -> Tensor:
    """CIE 1976 L*a*b* of colours (N, 3) in linear sRGB, under D65."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    matrix = torch.tensor(to_xyz, dtype=linear.dtype)
    xyz = linear @ matrix.T / matrix.sum(1)  # white is (1, 1, 1)
    x, y, z = torch.where(xyz > 216 / 24389, xyz ** (1 / 3), (24389 / 27 * xyz + 16) / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
