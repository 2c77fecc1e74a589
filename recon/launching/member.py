"""One of the processes that train together, from the inside."""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from recon.errors import in_one_line
from recon.launching.ends import tells_of_another


@dataclass(frozen=True)
class Told:
    """A message of the first process to whoever started it, while it works."""

    message: Any


@dataclass(frozen=True)
class Done:
    """A process has done its part.

    Attributes:
        value: The value that it returned; ``None`` from all but the first process.
    """

    value: Any


@dataclass(frozen=True)
class Failed:
    """A process has raised an error.

    Attributes:
        reason: The error in one line.
        trace: The traceback.
        secondary: Whether the error only tells of the end of another process.
    """

    reason: str
    trace: str
    secondary: bool


Message = Told | Done | Failed

Target = Callable[[Callable[[Any], None]], Any]
"""The work of a process. Its argument passes on messages, those of the first process alone."""


def take_part(connection: "Connection[Any, Any]", rank: int, target: Target) -> None:
    """Do the part of one process, and send its outcome to the process that started it.

    The process ends with its parent, so that a killed command leaves none behind.

    Args:
        connection: The way to the parent.
        rank: Number of the process, from 0.
        target: The work.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(message: Any) -> None:
        if rank == 0:
            connection.send(Told(message))

    outcome: Message
    try:
        value = target(tell)
        outcome = Done(value if rank == 0 else None)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except BaseException as error:
        outcome = Failed(in_one_line(error), traceback.format_exc(), tells_of_another(error))
    connection.send(outcome)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
