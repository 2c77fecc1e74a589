"""The run that a checkpoint belongs to, compared with the run that is to resume from it."""

import os
import re
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from recon.methods import Method
from recon.training.checkpoints import read_checkpoint
from recon.training.run_folder import newest_checkpoint

RUN = "recon_run"
"""Key of a checkpoint's :func:`run_record`."""

# Of a method's repr: the seed, which is the run's unless it is given, and addresses.
_CHANGING = re.compile(r"(, )?\bseed=\d+| at 0x[0-9a-f]+")


def checkpoint_file(trainer: pl.Trainer, path: str) -> str:
    """The file that ``--ckpt_path`` names: a path or ``last``, but no URL.

    Raises:
        ValueError: There is no such file, or the name is a URL.
    """
    if path == "last":
        return str(newest_checkpoint(trainer))
    if "://" in path or "::" in path:
        raise ValueError(f"--ckpt_path {path}: no checkpoint is loaded from elsewhere; download it, and give the file")
    if not Path(path).is_file():
        raise ValueError(f"--ckpt_path {path}: there is no such file; give a checkpoint, or last for the newest")
    # A bare name may be one of Lightning's words: best, hpc, registry.
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)


def refuse_search(path: str) -> None:
    """Refuse the checkpoint of a search, whose observations a plain training would drop.

    Raises:
        ValueError: It is of a search.
    """
    if "ConflictCallback" in (read_checkpoint(path).get("callbacks") or {}):
        raise ValueError(
            f"{path} is of a search for conflict layers; recon search --ckpt_path {path} goes on with it, "
            "and recon fit without it begins anew"
        )


def run_record(tasks: list[str], method: Method) -> dict[str, Any]:
    """The part of a checkpoint that says of which run it is: tasks in order, and the method.

    >>> from recon.methods import create_method
    >>> run_record(["digit", "letter"], create_method("pcgrad", seed=3))
    {'tasks': ['digit', 'letter'], 'method': 'PCGrad()'}
    """
    return {"tasks": tasks, "method": _CHANGING.sub("", repr(method))}


def check_same_run(checkpoint: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a checkpoint of other tasks or of another method.

    Args:
        checkpoint: Its content. Checkpoints of earlier versions hold no record, and pass.
        own: The :func:`run_record` of the run that is to resume.

    Raises:
        ValueError: The records differ; the error says where.
    """
    saved = checkpoint.get(RUN)
    if not isinstance(saved, dict):
        return
    for key, value in own.items():
        if saved.get(key) != value:
            raise ValueError(
                f"the checkpoint is of another run: its {key} is {saved.get(key)}, this one's {value}; "
                "train what it was trained with, or give the checkpoint of this run (last takes the newest)"
            )
