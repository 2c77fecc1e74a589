"""A prepared data set: made sample by sample, resumable, and sealed by a manifest.

``DIR/{train,val}/{image,label,...}/{i}.npy`` (CelebA has ``test`` too), and beside them one of two
JSON files:

    preparing.json   while it is being made: ``format``, ``dataset``, ``source`` (names, sizes
                     and checksums of the official files) and ``settings``. Together they
                     identify the folder; another source or other settings are refused.
    manifest.json    once it is whole: the same, with ``samples`` ({split: names of the samples
                     in the source}) and ``files`` ({path: {"bytes", "sha256"}}).

Every file is replaced whole, so a sample of which all files exist is finished.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from recon.data.dense.layout import MANIFEST, UNFINISHED
from recon.files.atomic import atomic_path, write_json
from recon.files.reading import open_regular, read_object
from recon.progress import Advance, counted

FORMAT = 1
LOCK = ".lock"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """The ingredients of a prepared data set.

    Args:
        dataset: Its name.
        source: Names, sizes and checksums of the official files, as JSON; no paths, which differ
            between machines.
        settings: Everything else that the arrays depend on, as JSON.
        samples: For each split, the names of its samples in the source, in order.
        folders: The folders of a split, one array of a sample in each.
        unit: A sample in a word; one of CelebA is a block of images.
    """

    dataset: str
    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    samples: Mapping[str, Sequence[str]]
    folders: Sequence[str]
    unit: str = "image"

    @property
    def identity(self) -> dict[str, Any]:
        """What must match for an interrupted preparation to resume."""
        parts = {"format": FORMAT, "dataset": self.dataset, "source": self.source, "settings": self.settings}
        return json.loads(json.dumps(parts))

    def files(self, split: str, index: int) -> dict[str, str]:
        """The path of each array of a sample, below the data set's folder."""
        return {folder: f"{split}/{folder}/{index}.npy" for folder in self.folders}


def carry_out(recipe: Recipe, out: Path, make: Callable[[str, int], Arrays]) -> None:
    """Make the missing samples, then write the manifest.

    Args:
        recipe: The ingredients.
        out: Folder of the data set; new, empty, or of the same recipe.
        make: Gives the arrays of a sample, from its split and its index: one for each of the
            recipe's folders.

    Raises:
        ValueError: The folder is of something else (it stays as it is), or another process is
            preparing it.
    """
    _check_owner(recipe, out)  # before anything is written, be it the lock
    if (out / MANIFEST).exists():
        print(f"{out} is prepared already; 'recon data verify {out}' checks it")
        return
    with _locked(out):
        _check_owner(recipe, out)  # another process may have come first
        write_json(out / UNFINISHED, recipe.identity)
        _make_missing(recipe, out, make)
        _seal(recipe, out)
        (out / UNFINISHED).unlink()
    print(f"{out}: " + ", ".join(f"{len(names)} {split} {recipe.unit}s" for split, names in recipe.samples.items()))


def file_record(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def source_record(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a source file; says so on the console, since it takes a while."""
    print(f"checksum of {path.name} ({path.stat().st_size / 2**20:,.0f} MiB) ...", flush=True)
    return {"name": path.name, **file_record(path)}


# The folder ---------------------------------------------------------------------------------------


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Make the folder, and hold its lock."""
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process is preparing {out}; wait for it, or give another folder") from error
    try:
        yield
    finally:
        lock.release()


def _check_owner(recipe: Recipe, out: Path) -> None:
    """Refuse a folder that holds something else."""
    for name in (MANIFEST, UNFINISHED):
        if (out / name).exists():
            _compare(recipe, out, read_object(out / name))
            return
    # Of a process killed at its very beginning there may be a lock, and a part of the first file.
    ours = (LOCK, f".{UNFINISHED}.")
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(ours) for path in out.iterdir())):
        raise ValueError(f"{out} is not empty and holds no data set prepared by recon; give a new folder")


def _compare(recipe: Recipe, out: Path, other: Mapping[str, Any]) -> None:
    differing = [key for key, value in recipe.identity.items() if other.get(key) != value]
    if not differing:
        return
    what = "; ".join(f"{key} {json.dumps(other.get(key))}, not {json.dumps(recipe.identity[key])}" for key in differing)
    raise ValueError(f"{out} holds another data set: {what}. Give another folder, or remove that one")


# Its samples --------------------------------------------------------------------------------------


def _make_missing(recipe: Recipe, out: Path, make: Callable[[str, int], Arrays]) -> None:
    for part in out.glob("*/*/.*.tmp"):  # of a process that was killed while it wrote
        part.unlink()
    samples = [(split, index) for split, names in recipe.samples.items() for index in range(len(names))]
    missing = [
        sample for sample in samples if not all((out / path).exists() for path in recipe.files(*sample).values())
    ]
    done = len(samples) - len(missing)
    with Advance(recipe.dataset, recipe.unit, done) as advance:
        for number, sample in enumerate(missing, done + 1):
            arrays = make(*sample)
            for folder, path in recipe.files(*sample).items():
                _save(out / path, arrays[folder])
            advance.reach(number, len(samples))


def _save(path: Path, array: np.ndarray) -> None:
    with atomic_path(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _seal(recipe: Recipe, out: Path) -> None:
    paths = [
        path
        for split, names in recipe.samples.items()
        for index in range(len(names))
        for path in recipe.files(split, index).values()
    ]
    files = {path: file_record(out / path) for path in counted(paths, "checksums", "file")}
    samples = {split: list(names) for split, names in recipe.samples.items()}
    write_json(out / MANIFEST, {**recipe.identity, "samples": samples, "files": files})
