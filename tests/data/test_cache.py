import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recon.data.cache import Arrays, cached, is_writable, user_cache


class Maker:
    """Makes one array, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        return {"images": np.arange(5000, dtype=np.uint8)}


def get(directories: list[Path], make: Maker, seed: int = 0) -> np.ndarray:
    return cached("set.npz", {"seed": seed}, directories, make)["images"]


def read_only(directory: Path) -> Path:
    directory.mkdir(mode=0o555)
    return directory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have folders of their own")
def test_caches_are_where_linux_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache() == tmp_path / ".cache" / "recon"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert user_cache() == tmp_path / "elsewhere" / "recon"


def test_arrays_are_made_once_and_then_read(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        np.testing.assert_array_equal(get([tmp_path / "new"], make), np.arange(5000, dtype=np.uint8))
    assert make.calls == 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["set.npz"]


def test_the_first_writable_directory_keeps_them(tmp_path: Path) -> None:
    make = Maker()
    directories = [read_only(tmp_path / "a") / "below", tmp_path / "b", tmp_path / "c"]
    for _ in range(2):
        get(directories, make)
    assert make.calls == 1
    assert [file.relative_to(tmp_path) for file in tmp_path.rglob("*.npz")] == [Path("b/set.npz")]


def test_without_a_writable_directory_they_are_made_each_time(tmp_path: Path) -> None:
    make, directory = Maker(), read_only(tmp_path / "a")
    for _ in range(2):
        assert len(get([directory], make)) == 5000
    assert make.calls == 2
    assert not list(directory.iterdir())


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3000] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_another_archive(file: Path) -> None:
    np.savez(file, images=np.zeros(3))


def replace_by_text(file: Path) -> None:
    file.write_text("not an archive")


def forget_a_member(file: Path) -> None:
    with zipfile.ZipFile(file) as whole:
        members = {name: whole.read(name) for name in whole.namelist() if name != "images.npy"}
    with zipfile.ZipFile(file, "w") as rest:
        for name, content in members.items():
            rest.writestr(name, content)


def ask_for_a_password(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    file.write_bytes(content)


def need_another_compression(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"PK\1\2") + 10] = 99
    file.write_bytes(content)


DAMAGES = [truncate, flip_a_bit, empty, replace_by_another_archive, replace_by_text]
DAMAGES += [forget_a_member, ask_for_a_password, need_another_compression]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_made_again(tmp_path: Path, damage) -> None:
    make = Maker()
    get([tmp_path], make)
    damage(tmp_path / "set.npz")
    with pytest.warns(UserWarning, match=r"set\.npz cannot be used .*; it is made again"):
        np.testing.assert_array_equal(get([tmp_path], make), np.arange(5000, dtype=np.uint8))
    get([tmp_path], make)
    assert make.calls == 2


def test_a_file_of_another_header_is_made_again(tmp_path: Path) -> None:
    make = Maker()
    get([tmp_path], make, seed=0)
    with pytest.warns(UserWarning, match="its header is another one"):
        get([tmp_path], make, seed=1)
    assert make.calls == 2


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file, **arrays: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    make = Maker()
    with pytest.warns(UserWarning, match="cannot be written .*No space left"):
        assert len(get([tmp_path], make)) == 5000
    assert not list(tmp_path.iterdir())


def test_a_directory_is_as_writable_as_the_nearest_one_that_exists(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_writable(tmp_path / "new" / "newer")
    assert not is_writable(read_only(tmp_path / "closed") / "new")
    assert not is_writable(tmp_path / "file" / "new")
