"""Files written whole or not at all, also where others may write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recon.files.atomic import atomic_path, check_writable, remove_leftovers, write_atomically


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither can the name be foreseen, nor is what is there already written to."""
    monkeypatch.setattr("recon.files.atomic.secrets.token_hex", lambda length: "ab" * length)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".file.{'ab' * 8}.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", "content")
    assert victim.read_text() == "precious"


def test_temporary_names_differ_and_fit_wherever_the_name_itself_does(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        assert first.name.endswith(".tmp")


def test_the_mode_of_a_new_file_is_that_of_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", "")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from recon.files.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary: temporary.write_text('part'); os._exit(9)"
    )
    (tmp_path / "runs").mkdir()
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "runs" / "map.json"], check=False)
    assert killed.returncode == 9
    (left,) = (tmp_path / "runs").iterdir()
    for name in (".mine.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    with atomic_path(tmp_path / "living") as living:
        remove_leftovers(tmp_path, "**/")
        assert living.exists()
    assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "living", "notes.tmp", "runs"]


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "folder" / "map.json", "--out")
    check_writable(tmp_path / "file", "--out")
    with pytest.raises(
        ValueError, match=r"--out .*/file/map.json cannot be written: .*/file is no folder; give another"
    ):
        check_writable(tmp_path / "file" / "map.json", "--out")
    with pytest.raises(ValueError, match=r"--out .* cannot be written: File name too long; give another path"):
        check_writable(tmp_path / ("x" * 300), "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_known_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="no permission"):
        check_writable(tmp_path / "map.json", "--out")
