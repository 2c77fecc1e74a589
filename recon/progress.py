"""How far some work is: a bar on a terminal, a line a minute elsewhere, where a bar would be drawn again and again."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SILENCE = 60.0
"""Seconds without a line after which what is done is worth one."""

DELAY = 1.0
"""Seconds that work takes before it is worth a bar."""


class Advance:
    """Tells on standard error how far some work is. Use as a context.

    Args:
        what: The work, in a word or two.
        unit: What is counted, in the singular.
        done: How many were done before.
    """

    def __init__(self, what: str, unit: str, done: int = 0) -> None:
        self._what = what
        self._unit = unit
        self._done = done
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self._began = self._told = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(desc=self._what, unit=self._unit, initial=self._done, delay=DELAY, dynamic_ncols=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def reach(self, done: int, total: int) -> None:
        """So many of all are done, those before included."""
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif (now := time.monotonic()) - self._told > SILENCE:
            self._told = now
            state = f"{self._what}: {done}/{total} {self._unit}s, {clock(now - self._began)}"
            print(state, file=sys.stderr, flush=True)


def counted(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """The items one after the other, while an :class:`Advance` tells how many the caller is done with."""
    with Advance(what, unit) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance.reach(done, len(items))


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(61.5)
    '1:01'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
