import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from recon.data.preparation import verify
from recon.data.preparation.cityscapes import convert
from recon.data.rooms.folder import RoomFolder


@pytest.fixture
def prepared(streets, tmp_path: Path) -> Path:
    convert(streets.root, tmp_path / "out", (4, 8), (16, 32), {})
    return tmp_path / "out"


def test_what_was_prepared_is_found_as_it_was(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(prepared)
    printed = capsys.readouterr().out
    assert "16 files as they were prepared" in printed
    assert "train: 3 images, 7 classes" in printed
    assert "val: 1 image, 19 classes" in printed


def test_a_missing_file_is_named(prepared: Path) -> None:
    (prepared / "train" / "depth" / "1.npy").unlink()
    with pytest.raises(ValueError, match=r"train/depth/1.npy is missing"):
        verify(prepared)


def test_a_changed_file_is_named(prepared: Path) -> None:
    path = prepared / "val" / "label_19" / "0.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} has changed: its sha256 differs"):
        verify(prepared)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} has changed: its bytes differs"):
        verify(prepared)


def test_an_unknown_file_is_named(prepared: Path) -> None:
    np.save(prepared / "train" / "image" / "3.npy", np.zeros((4, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"train/image/3.npy is not in manifest.json"):
        verify(prepared)


def test_all_that_is_wrong_is_said_at_once(prepared: Path) -> None:
    for index in range(3):
        (prepared / "train" / "depth" / f"{index}.npy").unlink()
    with pytest.raises(ValueError, match=r"(?s)0.npy is missing.*1.npy is missing.*2.npy is missing"):
        verify(prepared)


def test_a_folder_that_somebody_else_prepared_is_checked_for_its_contents(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prepared / "manifest.json").unlink()
    verify(prepared)
    assert "no checksums to check" in capsys.readouterr().out
    np.save(prepared / "train" / "depth" / "1.npy", np.zeros((8, 4), np.float32))
    with pytest.raises(ValueError, match=r"train/depth/1.npy has shape \(8, 4\)"):
        verify(prepared)
    with pytest.raises(ValueError, match=r"nothing is no folder"):
        verify(prepared / "nothing")


def test_a_manifest_of_another_format_or_a_damaged_one_is_named(prepared: Path) -> None:
    path = prepared / "manifest.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), "format": 2}))
    with pytest.raises(ValueError, match=r"manifest.json is of format 2"):
        verify(prepared)
    path.write_text(text[:100])
    with pytest.raises(ValueError, match=r"manifest.json is truncated or not JSON"):
        verify(prepared)


def test_built_in_rooms_have_classes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RoomFolder(2, 1, 32, 32, seed=0).write(tmp_path / "rooms")
    verify(tmp_path / "rooms")
    assert "train: 2 images, 7 classes" in capsys.readouterr().out
    label = np.load(tmp_path / "rooms" / "val" / "label" / "0.npy")
    label[0, 0] = 7
    np.save(tmp_path / "rooms" / "val" / "label" / "0.npy", label)
    with pytest.raises(ValueError, match=r"label.0\.npy .*classes are 0 to 6"):
        verify(tmp_path / "rooms")


@pytest.mark.parametrize(
    "name", ["../secret.npy", "/etc/passwd", "train/../../x/0.npy", "train/image/0.npy\n", "train/0.npy"]
)
def test_a_manifest_that_names_what_is_elsewhere_is_refused(prepared: Path, name: str) -> None:
    manifest = json.loads((prepared / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": ""}
    (prepared / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"names {re.escape(repr(name))}, which is no array of a sample"):
        verify(prepared)


def test_a_pipe_in_the_place_of_an_array_is_refused(prepared: Path) -> None:
    path = prepared / "train" / "depth" / "0.npy"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"train/depth/0.npy is missing"):
        verify(prepared)
    (prepared / "manifest.json").unlink()
    with pytest.raises(ValueError, match="it is no regular file"):
        verify(prepared)
