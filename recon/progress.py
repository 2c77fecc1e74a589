"""Progress of long work: a bar on a terminal, one line per minute elsewhere.

A bar would be drawn again and again in a file.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Self, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SILENCE = 60.0
"""Seconds without a line after which progress is worth one."""

DELAY = 1.0
"""Seconds of work before a bar appears."""


class Advance:
    """Reports progress on standard error; a context manager.

    Args:
        what: The work, in a word or two.
        unit: The unit that is counted, in the singular.
        done: The number of units done before.

    Example:
        >>> with Advance("search", unit="step") as advance:
        ...     advance.reach(5, total=10)
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
        """Report that ``done`` of ``total`` units are done, earlier ones included."""
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif (now := time.monotonic()) - self._told > SILENCE:
            self._told = now
            state = f"{self._what}: {done}/{total} {self._unit}s, {clock(now - self._began)}"
            print(state, file=sys.stderr, flush=True)


def counted(items: Sequence[T], what: str, unit: str) -> Iterator[T]:
    """Yield the items one after another, and report how many the caller has finished.

    Example:
        >>> [item.upper() for item in counted(["a", "b"], what="letters", unit="letter")]
        ['A', 'B']
    """
    with Advance(what, unit) as advance:
        for done, item in enumerate(items, 1):
            yield item
            advance.reach(done, len(items))


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds.

    Example:
        >>> clock(61.5)
        '1:01'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
