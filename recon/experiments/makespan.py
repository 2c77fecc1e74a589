"""The time of runs that are carried out some at a time."""

from collections import defaultdict
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
    order = {run: number for number, run in enumerate(seconds)}
    lacking = {run: {other for other in waits[run] if other in seconds} for run in seconds}
    followers: defaultdict[str, list[str]] = defaultdict(list)
    for run, others in lacking.items():
        for other in others:
            followers[other].append(run)
    ready = [(order[run], run) for run in seconds if not lacking[run]]  # in order, so a heap
    going: list[tuple[float, str]] = []
    now = 0.0
    while ready or going:
        while ready and len(going) < places:
            _, run = heappop(ready)
            heappush(going, (now + seconds[run], run))
        now, ended = heappop(going)
        for run in followers[ended]:
            lacking[run].remove(ended)
            if not lacking[run]:
                heappush(ready, (order[run], run))
    return now
