"""The ends of a process, in words; and the errors that only tell of another process's end."""

import os
import re
import signal
import time

import torch

_BROKEN = re.compile(r"connection (closed|reset|refused)|broken pipe|gloo/transport|nccl", re.IGNORECASE)


_WAIT = 5.0  # seconds in which a launcher ends the other processes of a run that failed


class ProcessFailed(RuntimeError):
    """A process of a run has raised an error, which this one repeats; its cause shows where."""


class ProcessDied(RuntimeError):
    """A process of a run is gone: killed, or ended by the code that it ran.

    Args:
        name: The process, in words.
        how: How it ended.
    """

    def __init__(self, name: str, how: str) -> None:
        super().__init__(f"{name} died ({how}), and the run ended with it")
        self.how = how


def how_it_ended(code: int) -> str:
    """The end of a process in words.

    >>> how_it_ended(-9)
    'killed by SIGKILL, as when memory runs out'

    Args:
        code: Its exit code, as ``multiprocessing`` has it: negative for a signal.
    """
    if code >= 0:
        return f"it ended with status {code}"
    reason = ", as when memory runs out" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{reason}"


def tells_of_another(error: BaseException) -> bool:
    """Whether an error only says that another process of the run can no longer be reached.

    >>> tells_of_another(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    True
    """
    distributed = torch.distributed
    kinds = (distributed.DistError,) if distributed.is_available() else ()
    known = isinstance(error, kinds) or (isinstance(error, RuntimeError) and _BROKEN.search(str(error)) is not None)
    before = error.__cause__ or error.__context__
    return known or (before is not None and tells_of_another(before))


def let_another_tell(error: BaseException) -> None:
    """Wait for the end of this process, if another one of its run has the error to tell.

    A launcher such as torchrun ends all processes after the first. Without waiting each would tell
    of the same error, or of the connection that broke.

    Args:
        error: The error of this process.
    """
    started_by_other = "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"
    first = os.environ.get("RANK", os.environ.get("LOCAL_RANK")) == "0"
    if started_by_other and (not first or tells_of_another(error)):
        time.sleep(_WAIT)
