"""Checkpoints of strangers, and damaged ones."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recon.training.checkpoints import WholeCheckpoints, read_checkpoint

CONTENT: dict[str, Any] = {
    "state_dict": {f"layer{i}.weight": torch.arange(8.0 + i) / 7 for i in range(4)},
    "epoch": 3,
    "global_step": 12,
    "optimizer_states": [{"lr": 0.1, "name": "sgd", "nesterov": False, "steps": None}],
}


class Code:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.mkdir, ("executed",)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    WholeCheckpoints().save_checkpoint(CONTENT, "run/last.ckpt")
    return Path("run/last.ckpt")


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and list(first) == list(second) and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, list):
        return isinstance(second, list) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def test_a_checkpoint_is_read_as_it_was_written(path: Path) -> None:
    assert same(read_checkpoint(path), CONTENT)
    assert same(WholeCheckpoints().load_checkpoint(path, weights_only=False), CONTENT)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def mutations(content: bytes, number: int) -> list[bytes]:
    """Copies with a bit flipped, a byte changed, bytes lost, added, zeroed or swapped, or the end cut off."""
    draw = random.Random(0)
    mutated = []
    for kind in range(number):
        new = bytearray(content)
        start, stop = sorted(draw.sample(range(len(new)), 2))
        stop = min(stop, start + 64)
        match kind % 7:
            case 0 | 1:
                new[start] ^= 1 << draw.randrange(8)
            case 2:
                new[start] = draw.randrange(256)
            case 3:
                del new[start:stop]
            case 4:
                new[start:start] = draw.randbytes(stop - start)
            case 5:
                new[start:stop] = bytes(stop - start)
            case _:
                new = new[:start]
        mutated.append(bytes(new))
    return mutated


def test_a_mutated_checkpoint_is_refused_in_one_line_or_is_the_same(path: Path) -> None:
    refused = 0
    for mutated in mutations(path.read_bytes(), 300):
        path.write_bytes(mutated)
        try:
            assert same(read_checkpoint(path), CONTENT)
        except ValueError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 150


def test_a_flipped_bit_of_the_weights_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    where = content.index(CONTENT["state_dict"]["layer3.weight"].numpy().tobytes())
    content[where + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"run/last.ckpt is damaged, or no checkpoint \(the checksum of 'archive/data/3' diff"
    ):
        read_checkpoint(path)


def test_a_tensor_marked_as_a_folder_is_refused(path: Path) -> None:
    """torch would give whatever the memory holds."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"archive/data/3") - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 38] |= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="torch has not written 'archive/data/3' like that"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "is damaged, or no checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "is damaged, or no checkpoint"),
        (lambda path: path.write_text("{}"), "is damaged, or no checkpoint"),
        (lambda path: torch.save([1, 2], path), "is no checkpoint of a run"),
        (lambda path: torch.save({"state_dict": {}}, path), "is no checkpoint of a run"),
        (lambda path: torch.save(CONTENT, path, _use_new_zipfile_serialization=False), "is damaged, or no checkpoint"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "it is empty"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is no regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot read the checkpoint"),
        (lambda path: path.unlink(), "No such file"),
    ],
    ids=["empty", "truncated", "text", "list", "weights", "old-format", "zip", "pipe", "folder", "absent"],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(make: Callable[[Path], object], message: str, path: Path) -> None:
    make(path)
    with pytest.raises(ValueError, match=message) as refusal:
        read_checkpoint(path)
    assert "\n" not in str(refusal.value)
    assert "; give " in str(refusal.value)


@pytest.mark.parametrize("new_format", [True, False])
def test_pickled_code_does_not_run(path: Path, new_format: bool) -> None:
    torch.save({**CONTENT, "callbacks": Code()}, path, _use_new_zipfile_serialization=new_format)
    for read in (read_checkpoint, lambda file: WholeCheckpoints().load_checkpoint(file, weights_only=False)):
        with pytest.raises(ValueError, match=r"holds more than data|damaged") as refusal:
            read(path)
        assert "\n" not in str(refusal.value)
    assert not Path("executed").exists()


def test_a_url_is_no_file(path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"cannot read the checkpoint http://localhost:9/x.ckpt .*; give a file of this"
    ):
        read_checkpoint("http://localhost:9/x.ckpt")
