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
            share = (done - self._done) / max(total - self._done, 1)
            state = f"{self._what}: {done}/{total} {self._unit}s, {elapsed(now - self._began, share)}"
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


def elapsed(seconds: float, share: float) -> str:
    """Format the time that a share of the work has taken, and an estimate of the time left.

    >>> elapsed(90, share=0.25), elapsed(90, share=0.0)
    ('1:30, about 4:30 left', '1:30')

    Args:
        seconds: The time so far.
        share: The share of the work that was done in it, from 0 to 1.
    """
    left = f", about {clock(seconds * (1 - share) / share)} left" if seconds >= 1 and 0 < share < 1 else ""
    return f"{clock(seconds)}{left}"


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, from an hour on with the hours before.

    Example:
        >>> clock(61.5), clock(7384)
        ('1:01', '2:03:04')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    return f"{hours}:{minutes_of_hour:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
