"""Rooms on disk: ``ROOT/{train,val}/{image,label,depth,normal}/{i}.npy`` and ``rooms.json``.

``rooms.json`` says which rooms they are. Every file is written atomically, so an interrupted folder
can be completed: a room is finished when its four files are there. 1,000 rooms of 96 x 128 pixels
take 35 seconds of processor time (measured), shared by the cores there are:

    python -c "from recon.data import Rooms; Rooms(val_size=1, root='rooms').prepare_data()"
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from recon.data.dense.layout import SPLITS, Split
from recon.data.rooms.sample import render_room
from recon.files.atomic import atomic_path, write_json
from recon.files.reading import open_regular
from recon.progress import Advance, counted

VERSION = 1
"""Version of the generator; every change of a pixel raises it."""

MANIFEST = "rooms.json"
_LOCK = ".lock"
_FOLDERS = ("image", "label", "depth", "normal")
_SHARE = 16  # rooms that are worth a process of their own


@dataclass(frozen=True)
class RoomFolder:
    """A set of rooms: all that its files depend on, besides the generator's version.

    >>> RoomFolder(train_size=1000, val_size=200, height=96, width=128, seed=0).name
    'rooms-train1000-val200-96x128-seed0-v1'

    Args:
        train_size: Number of rooms of the train split, the first of the sequence.
        val_size: Number of rooms of the val split, likewise.
        height: Height of an image, in pixels.
        width: Width of an image, in pixels.
        seed: Seed of the sequences, not negative.
    """

    train_size: int
    val_size: int
    height: int
    width: int
    seed: int

    @property
    def name(self) -> str:
        """A folder's name that no other set has."""
        sizes = f"train{self.train_size}-val{self.val_size}-{self.height}x{self.width}"
        return f"rooms-{sizes}-seed{self.seed}-v{VERSION}"

    def write(self, root: Path) -> None:
        """Render the missing rooms of a folder.

        It is safe in several processes at once, and fast when nothing is missing.

        Args:
            root: A new folder, an empty one, or one of the same set.

        Raises:
            ValueError: The folder is of something else; it stays as it is.
        """
        if not self._lacking(root):
            return
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _LOCK):
            if lacking := self._lacking(root):
                write_json(root / MANIFEST, self._manifest)
                for leftover in root.glob("*/*/.*.tmp"):
                    leftover.unlink()
                _Rendering(self, root, lacking).run()

    @property
    def _manifest(self) -> dict[str, Any]:
        return {"generator": "recon rooms", "version": VERSION, **asdict(self)}

    def _lacking(self, root: Path) -> list[tuple[Split, int]]:
        """The missing rooms of a folder; a folder of something else is refused."""
        self._check(root)
        return list(self._missing(root))

    def _check(self, root: Path) -> None:
        cure = "give a new folder"
        if not root.is_dir():
            if root.exists():
                raise ValueError(f"{root} is no folder; {cure}")
            return
        try:
            with open_regular(root / MANIFEST) as file:
                manifest = json.loads(file.read())
        except FileNotFoundError:
            names = _names(root)
            if MANIFEST in names:  # another process has written it since
                return self._check(root)
            if any(not name.startswith((_LOCK, f".{MANIFEST}.")) for name in names):
                raise ValueError(f"{root} is not empty, and no set of rooms (it has no {MANIFEST}); {cure}") from None
            return
        except ValueError as error:
            raise ValueError(f"{root / MANIFEST} is no JSON ({error}); {cure}") from error
        if manifest != self._manifest:
            other = manifest if isinstance(manifest, dict) else {}
            differing = [key for key, value in self._manifest.items() if other.get(key) != value]
            what = ", ".join(f"{key} {other.get(key)!r}, not {self._manifest[key]!r}" for key in differing)
            raise ValueError(f"{root} holds other scenes ({what or 'other keys'}); {cure}, or remove that one")

    def _missing(self, root: Path) -> Iterator[tuple[Split, int]]:
        for split, size in zip(SPLITS, (self.train_size, self.val_size), strict=True):
            present = [_names(root / split / folder) for folder in _FOLDERS]
            for index in range(size):
                if not all(f"{index}.npy" in names for names in present):
                    yield split, index


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


@dataclass(frozen=True)
class _Rendering:
    """The rendering of rooms, shared by processes.

    A process whose parent is killed finishes its share and ends; until then it holds the lock that
    it inherited.
    """

    rooms: RoomFolder
    root: Path
    lacking: list[tuple[Split, int]]

    def run(self) -> None:
        processes = min(_processors(), len(self.lacking) // _SHARE)
        if processes < 2:
            for sample in counted(self.lacking, "rendering rooms", "room"):
                self._make(*sample)
        else:
            with Advance("rendering rooms", "room") as advance:
                self._run_in(processes, advance)

    def _run_in(self, count: int, advance: Advance) -> None:
        context = multiprocessing.get_context("fork")
        done: Synchronized[int] = context.Value("i", 0)
        processes = [context.Process(target=self._make_share, args=(i, count, done)) for i in range(count)]
        try:
            for process in processes:
                process.start()
            for process in processes:
                while process.is_alive():
                    process.join(0.1)
                    advance.reach(done.value, len(self.lacking))
        finally:
            for process in processes:
                if process.is_alive():
                    process.terminate()
        if any(process.exitcode for process in processes):
            raise RuntimeError(
                f"rendering rooms into {self.root} failed; what is finished there will not be made again"
            )
        advance.reach(len(self.lacking), len(self.lacking))

    def _make_share(self, first: int, step: int, done: "Synchronized[int]") -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
        for sample in self.lacking[first::step]:
            self._make(*sample)
            with done.get_lock():
                done.value += 1

    def _make(self, split: Split, index: int) -> None:
        arrays = render_room(self.rooms.seed, split, index, self.rooms.height, self.rooms.width)
        for folder in _FOLDERS:
            path = self.root / split / folder / f"{index}.npy"
            with atomic_path(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, arrays[folder], allow_pickle=False)


def _processors() -> int:
    """Number of processes worth forking: one where forking is not safe, as on macOS."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
