"""Resuming: the checkpoint that ``--ckpt_path`` names, and whether it is of the run that resumes.

``Trainer`` hands the file to Lightning, which restores network, optimizers and progress. Runs of a
benchmark resume in :mod:`recon.experiments.run`, from the checkpoint of their own folder.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from recon.methods import Method
from recon.training.checkpoints import read_checkpoint
from recon.training.run_folder import CHECKPOINT, run_folder, short

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


def newest_checkpoint(trainer: pl.Trainer) -> Path:
    """The newest ``last.ckpt`` of the runs beside this one and of the folders it names.

    Raises:
        ValueError: There is none, or the run is a trial of a few batches, which has no folder.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ValueError("--ckpt_path last: with fast_dev_run there is no folder of runs to look in; give the file")
    runs, named = run_folder(trainer).parent, _named_folders(trainer)
    found = _last_checkpoints(runs, named)
    if not found:
        places = ", ".join(str(short(folder)) for folder in (runs, *sorted(named)))
        raise ValueError(
            f"--ckpt_path last: there is no {CHECKPOINT} of a run in {places}; begin without it, or give the file"
        )
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    if trainer.is_global_zero:
        print(f"last checkpoint: {short(newest)}")
    return newest


def checkpoints_since(trainer: pl.Trainer, began: float) -> list[Path]:
    """The ``last.ckpt`` files that runs have written since a time, the newest last.

    Args:
        trainer: A trainer with the settings of the runs.
        began: The time, as ``time.time`` gives it.
    """
    found = [
        (path.stat().st_mtime, path) for path in _last_checkpoints(run_folder(trainer).parent, _named_folders(trainer))
    ]
    return [path for written, path in sorted(found) if written >= began]


def how_to_go_on(saved: Sequence[str | Path]) -> str:
    """How an interrupted training resumes, from the checkpoints that it has written."""
    return f"--ckpt_path {short(Path(saved[-1]))} goes on from the last finished epoch" if saved else ""


def _named_folders(trainer: pl.Trainer) -> set[Path]:
    """The folders that the trainer's checkpoints have by name."""
    return {Path(c.dirpath) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath}


def _last_checkpoints(runs: Path, named: set[Path]) -> list[Path]:
    return [*runs.glob(f"*/{CHECKPOINT}"), *(path for folder in named for path in folder.glob("last*.ckpt"))]


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
