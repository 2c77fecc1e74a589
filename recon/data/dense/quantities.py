"""Quantities in a layout: their form on disk, and their form for a network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recon.data.dense.augmentation import View, view_depth, view_disparity, view_image, view_labels, view_normals

_ROUNDING = 1e-3  # how far float images may leave [0, 1]: a step of float16
_FARTHEST = 1000.0  # metres, or pixels of disparity; what is larger is in millimetres, or not divided by 256
_SHORTEST = 0.5  # length below which a normal says that there is none


class Quantity(ABC):
    """One quantity of a scene, an array per scene.

    Args:
        folders: Names of its folder; the first one that exists is read.

    Attributes:
        channels: Length of the last dimension, ``(H, W, channels)``; one channel may also be
            ``(H, W)``.
    """

    channels: int

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(folders)

    def shapes(self, size: tuple[int, int]) -> list[tuple[int, ...]]:
        """The shapes that an array of height and width ``size`` may have."""
        return [size, (*size, 1)] if self.channels == 1 else [(*size, self.channels)]

    @abstractmethod
    def tensor(self, stored: np.ndarray) -> Tensor:
        """A stored window in the form for a network.

        Raises:
            ValueError: A value that the quantity cannot have. The message continues the file's
                name.
        """

    @abstractmethod
    def seen(self, window: Tensor, view: View) -> Tensor:
        """The tensor of a view's window, as the view shows it."""

    def implausible(self, stored: np.ndarray) -> str | None:
        """The fault of a readable array whose values hardly mean what they say, or ``None``."""
        return None


class Image(Quantity):
    """The image: ``(3, H, W)``, float32 in [0, 1].

    It is stored as ``(H, W, 3)``, uint8 or floats in [0, 1].
    """

    channels = 3

    def __init__(self) -> None:
        super().__init__(["image"])

    def tensor(self, stored: np.ndarray) -> Tensor:
        pixels = _channels_first(stored)
        if stored.dtype == np.uint8:
            return pixels.div_(255)
        lowest, highest = pixels.aminmax()
        if not (lowest >= -_ROUNDING and highest <= 1 + _ROUNDING):
            raise ValueError(
                f"has pixels from {lowest:g} to {highest:g} as {stored.dtype}; store uint8, or floats in [0, 1]"
            )
        return pixels

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_image(window, view)


class Labels(Quantity):
    """A class per pixel: ``(H, W)``, int64, -1 without truth.

    It is stored as ``(H, W)`` in any numeric dtype, -1 without truth.

    >>> Labels(3).tensor(np.array([[0, 2, -1]], dtype=np.int8))
    tensor([[ 0,  2, -1]])

    Args:
        classes: Number of classes; labels are 0 to classes - 1.
        folders: Names of its folder; the first one that exists is read.
    """

    channels = 1

    def __init__(self, classes: int, folders: Sequence[str] = ("label",)) -> None:
        super().__init__(folders)
        self.classes = classes

    def tensor(self, stored: np.ndarray) -> Tensor:
        with np.errstate(invalid="ignore"):  # NaN is no label, and is found below
            labels = stored.reshape(stored.shape[:2]).astype(np.int64)
        if stored.dtype.kind == "f" and (wrong := stored[stored != labels.reshape(stored.shape)]).size:
            raise self._wrong(wrong.flat[0])
        for value in (labels.min(), labels.max()):
            if not -1 <= value < self.classes:
                raise self._wrong(value)
        return torch.from_numpy(labels)

    def _wrong(self, value: float) -> ValueError:
        return ValueError(f"holds the label {value:g}; classes are 0 to {self.classes - 1}, and -1 where there is none")

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_labels(window, view)


class Depth(Quantity):
    """Distance: ``(1, H, W)``, float32, in metres, NaN without truth.

    It is stored as ``(H, W)`` or ``(H, W, 1)``, in metres; a value that is not positive or not
    finite is no truth.

    >>> Depth().tensor(np.array([[1.5, 0.0]]))
    tensor([[[1.5000,    nan]]])
    """

    channels = 1

    def __init__(self) -> None:
        super().__init__(["depth"])

    def tensor(self, stored: np.ndarray) -> Tensor:
        depth = _channels_first(stored.reshape(*stored.shape[:2], 1))
        return depth.masked_fill_(~((depth > 0) & depth.isfinite()), torch.nan)

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_depth(window, view)

    def implausible(self, stored: np.ndarray) -> str | None:
        known = stored[np.isfinite(stored)]
        if known.size and known.min() < 0:
            return f"holds {known.min():g}; a value is positive, or 0 where there is none"
        if known.size and known.max() > _FARTHEST:
            return f"holds {known.max():g}; values above {_FARTHEST:g} are hardly in metres, or pixels of disparity"
        return None


class Disparity(Depth):
    """Inverse depth or disparity, in the form of depth; it grows where depth shrinks."""

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_disparity(window, view)


class Normals(Quantity):
    """Surface normals: ``(3, H, W)``, float32 unit vectors, NaN without truth.

    They are stored as ``(H, W, 3)``; a vector that is shorter than 0.5 or not finite is no truth.
    """

    channels = 3

    def __init__(self) -> None:
        super().__init__(["normal"])

    def tensor(self, stored: np.ndarray) -> Tensor:
        normals = _channels_first(stored)
        length = normals.square().sum(0).sqrt()  # several times as fast as norm()
        return normals.div_(torch.where((length >= _SHORTEST) & length.isfinite(), length, torch.nan))

    def seen(self, window: Tensor, view: View) -> Tensor:
        return view_normals(window, view)

    def implausible(self, stored: np.ndarray) -> str | None:
        length = np.linalg.norm(stored.astype(np.float32), axis=-1)
        length = length[np.isfinite(length) & (length >= _SHORTEST)]
        # Arrays that were interpolated have shorter vectors at edges; they can be read.
        if length.size and (length.max() > 1.05 or length.mean() < 0.9):
            return f"has vectors of length {length.mean():.3g} on average, at most {length.max():.3g}; normals have 1"
        return None


def _channels_first(stored: np.ndarray) -> Tensor:
    """A copy of an array ``(h, w, c)`` as ``(c, h, w)``, float32."""
    return torch.from_numpy(np.array(stored.transpose(2, 0, 1), dtype=np.float32, order="C"))
