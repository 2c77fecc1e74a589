"""The part of a batch's target that has truth: missing values, missing labels, and masks.

A target marks its own gaps: NaN among values, -1 among labels. A mask marks them from outside: the
target is then ``{"target": ..., "mask": ...}``, with a bool mask that is True where there is truth.

A mask of samples (B,) leaves out the other samples. A finer mask, such as pixels (B, H, W) or every
entry of the target, turns the other entries into NaN, or -1 among labels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recon.tasks.losses import UNLABELLED

MASKED = frozenset({"target", "mask"})
"""The keys of a target with a mask."""


@dataclass(frozen=True)
class Labelled:
    """A target without its mask, and its items with truth.

    Attributes:
        target: The target, of any form; a finer mask has become NaN or -1 in it.
        count: The number of items with truth: a scalar tensor, int64, on the target's device.
        samples: (B,), bool: the samples with truth. ``None`` if items are finer than samples.
    """

    target: Any
    count: Tensor
    samples: Tensor | None

    def select(self, prediction: Tensor, count: int) -> tuple[Tensor, Any]:
        """A prediction and the target without the samples that have no truth.

        Args:
            prediction: Of the whole batch, (B, ...).
            count: The value of ``self.count``, which the caller has read from the device.

        Returns:
            Prediction and target of the samples with truth; whole ones if none is without, or if
            items are finer than samples.
        """
        if self.samples is None or count == len(self.samples):
            return prediction, self.target
        return prediction[self.samples], self.target[self.samples]


def has_mask(target: Any) -> bool:
    """Whether a target is ``{"target": ..., "mask": ...}``."""
    return isinstance(target, Mapping) and target.keys() == MASKED


def labelled(target: Any, valid: Callable[[Any], Tensor]) -> Labelled:
    """Apply a target's mask, if it has one, and find the items with truth.

    >>> mask = torch.tensor([True, False, True])
    >>> found = labelled({"target": torch.tensor([4.0, 5.0, 6.0]), "mask": mask}, valid_samples)
    >>> found.select(torch.zeros(3), count=2)
    (tensor([0., 0.]), tensor([4., 6.]))

    Args:
        target: A target of any form, or ``{"target": ..., "mask": ...}``.
        valid: Maps a target without mask to its items with truth, bool.

    Raises:
        ValueError: The mask does not go with the target.
    """
    if not has_mask(target):
        found = valid(target)
    else:
        target, mask = _checked(target["target"], target["mask"])
        found = valid(target)
        if mask.dim() == found.dim() == 1:
            found = found & mask
        else:
            target = _without_masked(target, mask)
            found = valid(target)
    return Labelled(target, torch.count_nonzero(found), found if found.dim() == 1 else None)


def valid_samples(target: Any) -> Tensor:
    """The samples with truth of a target whose form is not known.

    A sample of a floating tensor has truth if an entry of it is finite. Every other sample has:
    -1 may be a value there.

    >>> nan = float("nan")
    >>> valid_samples(torch.tensor([[1.0, nan], [nan, nan]]))
    tensor([ True, False])

    Args:
        target: A tensor (B, ...); or a sequence of B parts, or a mapping to such.

    Returns:
        (B,), bool; (1,) for a scalar.
    """
    if isinstance(target, Tensor):
        samples = target.reshape(1) if target.dim() == 0 else target
        if target.is_floating_point():
            finite = samples.isfinite()
            return finite if samples.dim() == 1 else finite.flatten(1).any(1)
        return torch.ones(len(samples), dtype=torch.bool, device=target.device)
    if isinstance(target, Mapping) and target:
        return valid_samples(next(iter(target.values())))
    return torch.ones(len(target) if isinstance(target, list | tuple) else 1, dtype=torch.bool)


def _checked(target: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """A target and its mask, which go together."""
    if not isinstance(target, Tensor):
        raise ValueError(f"a mask goes with a tensor, and the target is a {type(target).__name__}")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = str(mask.dtype).removeprefix("torch.") if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"the mask is of type {kind}; give a bool tensor, True where there is truth")
    if mask.dim() == 0 or not _covers(_beside(mask, target), target):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not go with a target of shape {tuple(target.shape)}; "
            "give one of its samples, of its pixels, or of its own shape"
        )
    return target, mask


def _without_masked(target: Tensor, mask: Tensor) -> Tensor:
    if not target.is_floating_point() and (target.dtype == torch.bool or not target.dtype.is_signed):
        kind = str(target.dtype).removeprefix("torch.")
        raise ValueError(f"the target is {kind}, which has no -1 for what a mask hides; convert it to int64")
    return torch.where(_beside(mask, target), target, math.nan if target.is_floating_point() else UNLABELLED)


def _beside(mask: Tensor, target: Tensor) -> Tensor:
    """The mask with the dimensions of the target: (B,) to (B, 1, ...), pixels to (B, 1, H, W)."""
    if mask.dim() == 1:
        return mask.reshape(-1, *[1] * (target.dim() - 1))
    return mask.unsqueeze(1) if mask.dim() == target.dim() - 1 >= 3 else mask


def _covers(mask: Tensor, target: Tensor) -> bool:
    pairs = zip(mask.shape, target.shape, strict=False)
    return mask.dim() == target.dim() and len(mask) == len(target) and all(m in (1, t) for m, t in pairs)
