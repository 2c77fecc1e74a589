import re
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.data.celeba.attributes import TASKS, columns_of
from recon.data.celeba.faces import Faces, block_files, open_faces


def test_a_batch_gathers_images_from_any_block_in_any_order() -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (n, 3, 3, 3), np.uint8) for n in (2, 2, 1)]
    labels = torch.arange(10).view(5, 2)
    indices = torch.tensor([4, 0, 3, 1, 0])
    x, targets = Faces(images, labels, ["a", "b"])[indices]
    expected = np.concatenate(images)[indices.numpy()].transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(x.numpy(), expected)
    assert targets["b"].tolist() == [9, 1, 7, 3, 1] and targets["b"].dtype == torch.int64


def test_an_empty_batch_has_its_shape() -> None:
    x, targets = Faces([np.zeros((2, 3, 3, 3), np.uint8)], torch.zeros(2, 1), ["a"])[torch.empty(0, dtype=torch.int64)]
    assert x.shape == (0, 3, 3, 3) and targets["a"].shape == (0,)


def test_tasks_take_their_own_columns(prepared: Path) -> None:
    everything = open_faces(prepared / "train", 4, columns_of(TASKS))
    some = open_faces(prepared / "train", 4, columns_of(["Young", "Bald"]))
    assert torch.equal(some.labels, everything.labels[:, [39, 4]])
    assert len(block_files(prepared / "train")) == len(some.images) == 3


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        (
            "image/1.npy",
            np.zeros((2, 5, 4, 3), np.uint8),
            "has shape (2, 5, 4, 3) and type uint8; expected (n, 4, 4, 3)",
        ),
        ("image/1.npy", np.zeros((2, 4, 4, 3), np.int16), "and type int16; expected (n, 4, 4, 3) and uint8"),
        ("label/1.npy", np.zeros((3, 40), np.int8), "has shape (3, 40); expected (2, 40)"),
        ("label/1.npy", np.full((2, 40), -1, np.int8), "holds the label -1; a label is 0 or 1"),
        ("label/1.npy", np.zeros((2, 40)), "is no .npy file of whole numbers"),
    ],
)
def test_a_file_of_another_content_is_named(prepared: Path, file: str, array: np.ndarray, message: str) -> None:
    np.save(prepared / "train" / file, array)
    with pytest.raises(ValueError, match=re.escape(f"{prepared / 'train' / file} {message}"[:80])) as caught:
        open_faces(prepared / "train", 4, columns_of(TASKS))
    assert message in str(caught.value)


@pytest.mark.parametrize("file", ["image/0.npy", "label/2.npy", "image/2.npy"])
def test_a_missing_or_truncated_file_is_named(prepared: Path, file: str) -> None:
    path = prepared / "train" / file
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is truncated"):
        open_faces(prepared / "train", 4, columns_of(TASKS))
    path.unlink()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is missing"):
        open_faces(prepared / "train", 4, columns_of(TASKS))
