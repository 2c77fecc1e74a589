import multiprocessing
import os
import re
from pathlib import Path

import numpy as np
import pytest

from recon.data.dense.layout import verify_layout
from recon.data.rooms import folder as module
from recon.data.rooms.folder import RoomFolder
from recon.data.rooms.room import CLASSES
from recon.data.rooms.sample import render_room

ROOMS = RoomFolder(train_size=3, val_size=2, height=12, width=16, seed=0)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stamps(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ROOMS.write(tmp_path / "rooms")
    return tmp_path / "rooms"


def test_the_files_are_the_fields_layout(root: Path) -> None:
    found = verify_layout(root, classes=len(CLASSES), size=(12, 16))
    assert [split.scenes for split in found.values()] == [3, 2]
    for name, array in render_room(0, "val", 1, 12, 16).items():
        np.testing.assert_array_equal(np.load(root / "val" / name / "1.npy"), array)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(root: Path, tmp_path: Path) -> None:
    RoomFolder(train_size=5, val_size=2, height=12, width=16, seed=0).write(tmp_path / "larger")
    larger = contents(tmp_path / "larger")
    smaller = {name: data for name, data in contents(root).items() if name.endswith(".npy")}
    assert len(smaller) == 20
    assert smaller.items() <= larger.items()


@pytest.mark.parametrize("processes", [2, 3])
def test_the_number_of_processes_does_not_matter(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(module, "_processors", lambda: processes)
    monkeypatch.setattr(module, "_SHARE", 1)
    monkeypatch.setattr(module._Rendering, "_make", _unless_in_process(os.getpid(), module._Rendering._make))
    ROOMS.write(tmp_path / "forked")
    assert contents(tmp_path / "forked") == contents(root)


def _unless_in_process(process, make):
    def checked(*arguments):
        assert os.getpid() != process
        make(*arguments)

    return checked


def test_an_interrupted_folder_is_gone_on_with(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(root)
    interrupted = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(module.np, "save", _interrupted_save(writes=6))
        with pytest.raises(KeyboardInterrupt):
            ROOMS.write(interrupted)
    (interrupted / "train" / "label" / ".2.npy.1.tmp").write_bytes(b"killed")
    made = {name: data for name, data in contents(interrupted).items() if name.endswith(".npy")}
    assert len(made) == 6
    assert made.items() <= whole.items()
    before = stamps(interrupted)
    ROOMS.write(interrupted)
    assert contents(interrupted) == whole
    first = [f"train/{name}/0.npy" for name in ("image", "label", "depth", "normal")]
    assert {name: stamps(interrupted)[name] for name in first} == {name: before[name] for name in first}


def _interrupted_save(writes: int):
    save, left = np.save, iter(range(writes))

    def interrupted(file, array, **options) -> None:
        if next(left, None) is None:
            file.write(b"a part")
            raise KeyboardInterrupt
        save(file, array, **options)

    return interrupted


def test_a_complete_folder_is_not_touched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamps(root)
    monkeypatch.setattr(module, "render_room", lambda *_: pytest.fail("rendered again"))
    monkeypatch.setattr(module, "FileLock", lambda *_: pytest.fail("locked"))
    ROOMS.write(root)
    assert stamps(root) == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (RoomFolder(3, 2, 12, 16, seed=1), "seed 0, not 1"),
        (RoomFolder(4, 2, 12, 16, seed=0), "train_size 3, not 4"),
        (RoomFolder(3, 2, 16, 12, seed=0), "height 12, not 16, width 16, not 12"),
    ],
)
def test_a_folder_of_other_rooms_is_refused_and_left_as_it_is(root: Path, other: RoomFolder, difference: str) -> None:
    before, then = contents(root), stamps(root)
    with pytest.raises(ValueError, match=rf"{re.escape(str(root))} holds other scenes \({difference}\)"):
        other.write(root)
    assert contents(root) == before
    assert stamps(root) == then


def test_rooms_of_another_version_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(ValueError, match=r"holds other scenes \(version "):
        ROOMS.write(root)


def test_a_folder_of_anything_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "train" / "image").mkdir(parents=True)
    (tmp_path / "train" / "image" / "0.npy").write_bytes(b"mine")
    before = stamps(tmp_path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))} is not empty, and no set of rooms"):
        ROOMS.write(tmp_path)
    assert stamps(tmp_path) == before
    with pytest.raises(ValueError, match=r"0.npy is no folder"):
        ROOMS.write(tmp_path / "train" / "image" / "0.npy")
    (tmp_path / "rooms.json").write_text("{")
    with pytest.raises(ValueError, match=r"rooms.json is no JSON"):
        ROOMS.write(tmp_path)


def test_an_empty_folder_is_filled(tmp_path: Path, root: Path) -> None:
    (tmp_path / "empty").mkdir()
    ROOMS.write(tmp_path / "empty")
    assert contents(tmp_path / "empty") == contents(root)


def test_two_processes_at_once_make_each_room_once(tmp_path: Path, root: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    processes = [context.Process(target=_write_and_log, args=(tmp_path / "shared", log)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(log.read_text().splitlines()) == ["train0", "train1", "train2", "val0", "val1"]
    assert contents(tmp_path / "shared") == contents(root)


def _write_and_log(root: Path, log: Path) -> None:
    def logged(seed, split, index, *size):
        with log.open("a") as file:
            file.write(f"{split}{index}\n")
        return render_room(seed, split, index, *size)

    module.render_room = logged
    ROOMS.write(root)


def test_a_process_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_processors", lambda: 2)
    monkeypatch.setattr(module, "_SHARE", 1)
    monkeypatch.setattr(module, "render_room", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=f"rendering rooms into {re.escape(str(tmp_path))} failed"):
        ROOMS.write(tmp_path)


def test_sets_that_differ_have_folders_of_different_names() -> None:
    sets = [
        ROOMS,
        RoomFolder(4, 2, 12, 16, 0),
        RoomFolder(3, 3, 12, 16, 0),
        RoomFolder(3, 2, 16, 12, 0),
        RoomFolder(3, 2, 12, 16, 1),
    ]
    assert len({rooms.name for rooms in sets}) == len(sets)
