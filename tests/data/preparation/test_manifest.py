import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from recon.data.preparation.manifest import Recipe, carry_out

RECIPE = Recipe(
    dataset="squares",
    source={"name": "squares.txt", "bytes": 4},
    settings={"size": 2},
    samples={"train": ["a", "b", "c"], "val": ["d"]},
    folders=("image", "depth"),
)


class Maker:
    """Makes arrays of ones and notes which; the ``stop``-th sample ends it."""

    def __init__(self, stop: int = -1) -> None:
        self.made: list[tuple[str, int]] = []
        self.stop = stop

    def __call__(self, split: str, index: int) -> dict[str, np.ndarray]:
        if len(self.made) == self.stop:
            raise KeyboardInterrupt
        self.made.append((split, index))
        return {"image": np.full((2, 2), index), "depth": np.ones((2, 2), np.float32)}


def test_a_finished_data_set_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    carry_out(RECIPE, tmp_path, Maker())
    again = Maker()
    carry_out(RECIPE, tmp_path, again)
    assert not again.made
    assert "is prepared already" in capsys.readouterr().out


def test_the_manifest_has_the_checksum_of_every_file(tmp_path: Path) -> None:
    carry_out(RECIPE, tmp_path, Maker())
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    present = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.npy")}
    assert files == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in present.items()
    }
    assert len(files) == 8


def test_what_is_finished_is_not_repeated_after_an_interruption(tmp_path: Path) -> None:
    first, second = Maker(stop=2), Maker()
    with pytest.raises(KeyboardInterrupt):
        carry_out(RECIPE, tmp_path, first)
    carry_out(RECIPE, tmp_path, second)
    assert first.made + second.made == [("train", 0), ("train", 1), ("train", 2), ("val", 0)]


def test_a_sample_of_which_a_file_is_missing_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        carry_out(RECIPE, tmp_path, Maker(stop=3))
    (tmp_path / "train" / "depth" / "1.npy").unlink()
    second = Maker()
    carry_out(RECIPE, tmp_path, second)
    assert second.made == [("train", 1), ("val", 0)]


def test_what_a_killed_process_left_behind_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".preparing.json.123.tmp").write_text("{")
    with pytest.raises(KeyboardInterrupt):
        carry_out(RECIPE, tmp_path, Maker(stop=1))
    part = tmp_path / "train" / "image" / ".1.npy.123.tmp"
    part.write_bytes(b"half")
    carry_out(RECIPE, tmp_path, Maker())
    assert not part.exists()
    np.testing.assert_array_equal(np.load(tmp_path / "train" / "image" / "1.npy"), np.full((2, 2), 1))


@pytest.mark.parametrize("stop", [1, -1])
def test_other_settings_are_refused_and_the_folder_left_as_it_is(tmp_path: Path, stop: int) -> None:
    out = tmp_path / "out"
    if stop == 1:
        with pytest.raises(KeyboardInterrupt):
            carry_out(RECIPE, out, Maker(stop))
    else:
        carry_out(RECIPE, out, Maker())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = Recipe(RECIPE.dataset, RECIPE.source, {"size": 3}, RECIPE.samples, RECIPE.folders)
    with pytest.raises(ValueError, match=r"out holds another data set: settings \{\"size\": 2\}, not \{\"size\": 3\}"):
        carry_out(other, out, Maker())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_foreign_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"is not empty and holds no data set prepared by recon; give a new folder"):
        carry_out(RECIPE, tmp_path, Maker())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(ValueError, match="out is not empty"):
        carry_out(RECIPE, tmp_path / "out", Maker())
    assert (tmp_path / "out").read_text() == "precious"


def test_two_processes_do_not_prepare_one_folder(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another process is preparing"):
        carry_out(RECIPE, tmp_path, Maker())
