"""Yes-or-no questions about glyphs: up to 40 tasks on one set of built-in images. No download."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recon.data.composites.glyphs import DIGITS, LETTERS, Drawn, draw
from recon.data.composites.module import Composites, CompositesModule, Split
from recon.tasks.per_sample import binary

_DIGIT, _LETTER = 0, 1
_SIZE, _SLANT, _RIGHT, _DOWN = range(4)

Question = Callable[[Drawn], np.ndarray]
"""Maps images to the answers about them, ``(N,)``, bool."""


def _is_one_of(characters: str, which: int) -> Question:
    alphabet = (DIGITS, LETTERS)[which]
    places = [alphabet.index(character) for character in characters]
    return lambda drawn: np.isin(drawn.characters[:, which], places)


def _above_half(which: int, quantity: int) -> Question:
    return lambda drawn: drawn.variation[:, which, quantity] >= 0.5


def _digit_has_more(quantity: int) -> Question:
    return lambda drawn: drawn.variation[:, _DIGIT, quantity] > drawn.variation[:, _LETTER, quantity]


def _alike(quantity: int) -> Question:
    return lambda drawn: (drawn.variation[:, :, quantity] >= 0.5).sum(1) != 1


QUESTIONS: dict[str, Question] = {
    "digit_even": _is_one_of("02468", _DIGIT),
    "letter_like_digit": _is_one_of("BIOSZ", _LETTER),
    "digit_large": _above_half(_DIGIT, _SIZE),
    "letter_large": _above_half(_LETTER, _SIZE),
    "digit_slants": _above_half(_DIGIT, _SLANT),
    "letter_slants": _above_half(_LETTER, _SLANT),
    "digit_right": _above_half(_DIGIT, _RIGHT),
    "letter_right": _above_half(_LETTER, _RIGHT),
    "digit_down": _above_half(_DIGIT, _DOWN),
    "letter_down": _above_half(_LETTER, _DOWN),
    "digit_above_four": _is_one_of("56789", _DIGIT),
    "letter_after_i": _is_one_of("OQSTZ", _LETTER),
    "digit_has_loop": _is_one_of("04689", _DIGIT),
    "letter_has_loop": _is_one_of("ABDOQ", _LETTER),
    "digit_larger": _digit_has_more(_SIZE),
    "slants_alike": _alike(_SLANT),
    "sizes_alike": _alike(_SIZE),
    "digit_further_right": _digit_has_more(_RIGHT),
    "digit_further_down": _digit_has_more(_DOWN),
    "digit_prime": _is_one_of("2357", _DIGIT),
    **{f"digit_is_{digit}": _is_one_of(digit, _DIGIT) for digit in DIGITS},
    **{f"letter_is_{letter.lower()}": _is_one_of(letter, _LETTER) for letter in LETTERS},
}
"""Task -> its question, in the order in which :class:`GlyphAttributes` takes them."""

LEAST, MOST = 8, len(QUESTIONS)


class GlyphAttributes(CompositesModule):
    """The images of :class:`~recon.data.Glyphs` with 8 to 40 yes-or-no tasks about them.

    Half of the first questions are about the digit and half about the letter: its kind, its
    size, its slant, its place. The last 20 ask for one character each, of which one image in ten is
    positive. Batches are ``(x, {"digit_even": ..., "letter_like_digit": ..., ...})`` with pixels
    ``(B, 1, 36, 36)``, float32 in [0, 1], and labels ``(B,)``, 1 or 0. Validation and test both
    give the test split. A smaller set is the beginning of a larger one, and fewer tasks are the
    first of more.

    >>> data = GlyphAttributes(attributes=8, train_size=64, test_size=20)
    >>> x, targets = next(iter(data.test_dataloader()))
    >>> list(targets)[:2], targets["digit_even"].shape
    (['digit_even', 'letter_like_digit'], torch.Size([20]))

    Args:
        attributes: Number of tasks, 8 to 40.
        train_size: Number of training images.
        test_size: Number of test images.
        batch_size: Batch size of training, in each process.
        loading: ``eval_batch_size``, ``seed`` of the images, ``shuffle_seed`` and ``held_out``, as
            :class:`~recon.data.composites.module.CompositesModule` takes them.

    Raises:
        ValueError: Another number of tasks, or a number that is too small.
    """

    def __init__(
        self,
        attributes: int = LEAST,
        train_size: int = 10_000,
        test_size: int = 2_000,
        batch_size: int = 128,
        **loading: Any,
    ) -> None:
        if not LEAST <= attributes <= MOST:
            raise ValueError(f"attributes is {attributes}; give a number from {LEAST} to {MOST}")
        super().__init__(train_size, test_size, batch_size, **loading)
        self.attributes = attributes
        self.tasks = [binary(name) for name in list(QUESTIONS)[:attributes]]

    @property
    def dataset_name(self) -> str:
        """The set, its number of tasks, its sizes and its seed, for the provenance of a result."""
        return super().dataset_name.replace("(", f"(attributes={self.attributes}, ")

    def compose(self, split: Split) -> Composites:
        """Render a split, and answer the questions about it."""
        drawn = draw(self.sizes[split], self.seed, split)
        answers = {task.name: torch.from_numpy(QUESTIONS[task.name](drawn)) for task in self.tasks}
        return Composites(torch.from_numpy(drawn.images), answers)
