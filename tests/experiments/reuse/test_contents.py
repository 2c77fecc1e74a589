"""Data are known by their content, whatever folder has them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning import LightningDataModule

from recon.experiments.reuse.contents import content_of


class Files(LightningDataModule):
    """Data of two files."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def files_read(self) -> dict[str, Path]:
        return {name: self.root / name for name in ("images", "labels")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    (root / "images").write_bytes(bytes(1000))
    (root / "labels").write_bytes(b"0123456789")
    return root


def test_a_changed_label_makes_other_data_even_with_its_time_set_back(root: Path) -> None:
    content, before = content_of(Files(root)), (root / "labels").stat()
    (root / "labels").write_bytes(b"0123456780")
    os.utime(root / "labels", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_of(Files(root)) != content


def test_files_that_change_places_make_other_data(root: Path) -> None:
    before = content_of(Files(root))
    for name, other in (("images", "third"), ("labels", "images"), ("third", "labels")):
        (root / name).rename(root / other)
    assert content_of(Files(root)) != before


def test_only_what_has_changed_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content_of(Files(root))
    monkeypatch.setattr("hashlib.file_digest", pytest.fail)
    assert content_of(Files(root)) == first


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: "{}", lambda text: text.replace("sha256", "sha257")])
def test_damaged_checksums_are_made_again(damage: Callable[[str], str], root: Path, tmp_path: Path) -> None:
    first = content_of(Files(root))
    (kept,) = (tmp_path / "cache/recon/checksums").iterdir()
    kept.write_text(damage(kept.read_text()))
    assert content_of(Files(root)) == first
