"""A likeness of a folder of results: its records, and empty files for its checkpoints.

A benchmark sorts the runs of its folder before it begins: it moves and copies them. In a likeness
it can do so without a change to the folder.
"""

import shutil
from pathlib import Path

from recon.experiments.folder import CHECKPOINT
from recon.experiments.reuse.plan_record import IDENTITY, PLAN

_RECORDS = (IDENTITY, "result.json", "config.yaml", "conflict_map.json")
"""The files of a run that tell what it is, and what others take from it."""


def likeness(folder: Path, place: Path) -> Path:
    """Make a likeness of a folder of results; the folder is only read.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as temporary:
    ...     run = Path(temporary, "results", "runs", "joint-plain-seed0")
    ...     run.mkdir(parents=True)
    ...     _ = (run / "last.ckpt").write_bytes(bytes(1000))
    ...     made = likeness(Path(temporary, "results"), Path(temporary, "like"))
    ...     (made / "runs" / "joint-plain-seed0" / "last.ckpt").stat().st_size
    0

    Args:
        folder: The folder; without one the likeness is empty.
        place: Where the likeness is made; nothing is there yet.

    Returns:
        The place.
    """
    place.mkdir()
    if (folder / PLAN).exists():
        shutil.copyfile(folder / PLAN, place / PLAN)
    if (folder / "sweeps").exists():
        shutil.copytree(folder / "sweeps", place / "sweeps")
    for run in (run for name in ("runs", "aside") for run in (folder / name).glob("*/")):
        own = place / run.relative_to(folder)
        own.mkdir(parents=True)
        for record in (run / name for name in _RECORDS):
            if record.exists():
                shutil.copyfile(record, own / record.name)
        if (run / CHECKPOINT).exists():
            (own / CHECKPOINT).touch()
    return place
