"""Glyphs: a digit and a letter in one image, rendered on the spot. No download."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from recon.data.composites.module import SIZE, Composites, CompositesModule, Split
from recon.tasks.per_image import classification

DIGITS = "0123456789"
LETTERS = "ABDGIOQSTZ"
"""Half of them look like digits (B, I, O, S, Z).

Only their place tells them apart, and the tasks fight about it.
"""

_FONT_SIZES = (22, 34)  # smallest and largest, in pixels
_CENTRES = (14.0, 22.0)  # where digits and letters are on average, in pixels from the left and from the top
_SHIFT = 4.0  # largest distance from there, in each direction
_SLANT = 0.4  # largest shear, either way
_NOISE = 30.0  # standard deviation, of 255 grey values
_CHUNK = 1000  # images whose noise is drawn at once


class Glyphs(CompositesModule):
    """A digit towards the top left and a letter towards the bottom right, overlapping.

    Both are set in Pillow's own font, in a random size, at a random place and slant. Where they
    overlap the larger value counts. Every pixel has noise. Batches are
    ``(x, {"digit": ..., "letter": ...})`` with pixels ``(B, 1, 36, 36)``, float32 in [0, 1], and
    labels ``(B,)``. Validation and test both give the test split. Training and test images come
    from separate random streams; a smaller set is the beginning of a larger one.

    >>> data = Glyphs(train_size=100, test_size=20, batch_size=32)
    >>> x, targets = next(iter(data.train_dataloader()))
    >>> tuple(x.shape), {task: tuple(labels.shape) for task, labels in targets.items()}
    ((32, 1, 36, 36), {'digit': (32,), 'letter': (32,)})

    Args:
        train_size: Number of training images.
        test_size: Number of test images.
        batch_size: Batch size of training, in each process.
        loading: ``eval_batch_size``, ``seed`` of the images, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.composites.module.CompositesModule` takes them.
    """

    def __init__(
        self,
        train_size: int = 10_000,
        test_size: int = 2_000,
        batch_size: int = 128,
        **loading: Any,
    ) -> None:
        super().__init__(train_size, test_size, batch_size, **loading)
        self.tasks = [classification("digit", len(DIGITS)), classification("letter", len(LETTERS))]

    def compose(self, split: Split) -> Composites:
        """Render a split."""
        drawn = draw(self.sizes[split], self.seed, split)
        digits, letters = torch.from_numpy(drawn.characters).unbind(1)
        return Composites(torch.from_numpy(drawn.images), {"digit": digits, "letter": letters})


@dataclass(frozen=True)
class Drawn:
    """Images of a digit and a letter, and how they were set; index 0 is the digit.

    Attributes:
        images: ``(N, 36, 36)``, uint8.
        characters: ``(N, 2)``, int64: indices in :data:`DIGITS` and :data:`LETTERS`.
        variation: ``(N, 2, 4)``, in [0, 1): size, slant, shift to the right, shift down.
    """

    images: np.ndarray
    characters: np.ndarray
    variation: np.ndarray


def draw(number: int, seed: int, split: Split) -> Drawn:
    """Draw the first images of the sequence of a seed and a split."""
    shapes, noise = (np.random.default_rng([seed, split == "test", stream]) for stream in range(2))
    variation = shapes.random((number, 2, 5))
    characters = (variation[..., 0] * 10).astype(np.int64)
    glyphs = [
        np.maximum(
            _render(DIGITS[digit], _CENTRES[0], *digit_variation),
            _render(LETTERS[letter], _CENTRES[1], *letter_variation),
        )
        for (digit, letter), (digit_variation, letter_variation) in zip(characters, variation[..., 1:], strict=True)
    ]
    images = np.stack(glyphs)
    for chunk in np.split(images, range(_CHUNK, len(images), _CHUNK)):
        noisy = chunk + _NOISE * noise.standard_normal(chunk.shape, np.float32)
        chunk[...] = noisy.clip(0, 255)
    return Drawn(images, characters, variation[..., 1:])


def _render(character: str, centre: float, size: float, slant: float, right: float, down: float) -> np.ndarray:
    """One character ``(36, 36)``, uint8; size, slant and both shifts are in [0, 1)."""
    smallest, largest = _FONT_SIZES
    upright = Image.new("L", (SIZE, SIZE))
    font = _font(smallest + int(size * (largest - smallest + 1)))
    ImageDraw.Draw(upright).text((SIZE / 2, SIZE / 2), character, fill=255, font=font, anchor="mm")
    # Image.transform wants the way from a pixel of the result back to one of the source.
    shear = _SLANT * (2 * slant - 1)
    x, y = centre + _SHIFT * (2 * right - 1), centre + _SHIFT * (2 * down - 1)
    back = (1, shear, SIZE / 2 - x - shear * y, 0, 1, SIZE / 2 - y)
    return np.asarray(upright.transform((SIZE, SIZE), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which the glyphs' font needs; install a wheel of Pillow")
    return font
