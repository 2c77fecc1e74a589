"""What processes do that train together, in tests of their start and end."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Tell = Callable[[Any], None]


def _meet() -> int:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=int(os.environ["WORLD_SIZE"]))
    return rank


def sum_of_ranks(tell: Tell) -> float:
    rank = torch.tensor(float(_meet()))
    tell("connected")
    dist.all_reduce(rank)
    return rank.item()


def second_fails(tell: Tell) -> None:
    if _meet() == 1:
        raise ValueError("the second has bad data")
    dist.all_reduce(torch.ones(1))


def second_is_killed(tell: Tell) -> None:
    if _meet() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(1))


def wait_for_the_parent(folder: Path, tell: Tell) -> None:
    (folder / f"{_meet()}.pid").write_text(str(os.getpid()))
    time.sleep(600)
