"""The time of runs that are carried out some at a time."""

from collections.abc import Collection, Mapping
from heapq import heappop, heappush


def makespan(seconds: Mapping[str, float], waits: Mapping[str, Collection[str]], places: int) -> float:
    """The time from the begin of the first run to the end of the last, each begun when it can be.

    >>> makespan({"c": 1.0, "a": 3.0, "b": 1.0}, {"a": ["c"], "b": [], "c": []}, places=2)
    4.0

    Args:
        seconds: Run -> its time, in the order in which they begin.
        waits: Run -> the runs that must be finished before; others than these may be already.
        places: Runs at a time.
    """
    now, done = 0.0, {other for others in waits.values() for other in others} - set(seconds)
    waiting = list(seconds)
    going: list[tuple[float, str]] = []
    while waiting or going:
        ready = [run for run in waiting if done.issuperset(waits[run])]
        for run in ready[: places - len(going)]:
            waiting.remove(run)
            heappush(going, (now + seconds[run], run))
        now, ended = heappop(going)
        done.add(ended)
    return now
