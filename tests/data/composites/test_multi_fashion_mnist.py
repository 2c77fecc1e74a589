import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from recon.data import MultiFashion, MultiFashionMNIST, MultiMNIST
from recon.data.composites.module import Composites

COUNTS = {"train": 30, "t10k": 20}


def write_idx(file: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def write_set(root: Path, name: str, values: dict[str, np.ndarray]) -> None:
    """Write images of one value each; the label is the value's last decimal digit."""
    for prefix, value in values.items():
        write_idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", np.repeat(value, 28 * 28).reshape(-1, 28, 28))
        write_idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", value % 10)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Raw files in which a pixel tells set, split and image: digits 1..50, clothes 101..150, test after training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, first in (("MNIST", 1), ("FashionMNIST", 101)):
        train, test = np.split(np.arange(first, first + 50), [COUNTS["train"]])
        write_set(tmp_path / "raw", name, {"train": train, "t10k": test})
    return tmp_path / "raw"


def digit_values(composites: Composites) -> torch.Tensor:
    return composites.images[:, 0, 0].long()


def fashion_values(composites: Composites) -> torch.Tensor:
    return composites.images[:, -1, -1].long()


def small(root: Path, **options: int) -> MultiFashionMNIST:
    return MultiFashionMNIST(root, **{"train_size": 60, "test_size": 40, **options})


def freeze(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_the_digit_is_at_the_top_left_the_clothing_at_the_bottom_right_and_the_larger_value_counts(root: Path) -> None:
    image = small(root).composites("train").images[0]
    digit, fashion = image[0, 0].item(), image[-1, -1].item()
    expected = torch.zeros(36, 36, dtype=torch.uint8)
    expected[:28, :28] = digit
    expected[8:, 8:] = fashion  # the clothes are brighter in these files
    assert 0 < digit < fashion
    torch.testing.assert_close(image, expected)


def test_a_digit_brighter_than_the_clothing_covers_it(root: Path) -> None:
    write_set(root, "MNIST", {"train": np.arange(200, 230), "t10k": np.arange(230, 250)})
    image = small(root).composites("train").images[0]
    assert (image[:28, :28] == image[0, 0]).all()
    assert (image[28:, 8:] == image[-1, -1]).all()
    assert image[0, 0] > image[-1, -1]


def test_labels_belong_to_their_images(root: Path) -> None:
    data = small(root)
    for split in ("train", "test"):
        composites = data.composites(split)
        torch.testing.assert_close(composites.targets["digit"], digit_values(composites) % 10)
        torch.testing.assert_close(composites.targets["fashion"], fashion_values(composites) % 10)


def test_training_pairs_hold_training_images_and_test_pairs_test_images_each_once_a_round(root: Path) -> None:
    data = small(root)
    for split, start, count in (("train", 0, 30), ("test", 30, 20)):
        composites = data.composites(split)
        for values, first in ((digit_values(composites), 1), (fashion_values(composites), 101)):
            for round_ in values.split(count):
                assert sorted(round_.tolist()) == list(range(first + start, first + start + count))


def test_a_smaller_set_is_the_beginning_of_a_larger_one(root: Path) -> None:
    large = small(root, train_size=100).composites("train")
    for size in (7, 30, 45):
        beginning = small(root, train_size=size).composites("train")
        torch.testing.assert_close(beginning.images, large.images[:size])
        torch.testing.assert_close(beginning.targets["fashion"], large.targets["fashion"][:size])


def test_sets_of_different_length_are_paired_too(root: Path) -> None:
    write_set(root, "MNIST", {"train": np.arange(1, 6), "t10k": np.arange(6, 9)})
    composites = small(root, train_size=12).composites("train")
    assert len(composites) == 12
    assert sorted(digit_values(composites)[:5].tolist()) == [1, 2, 3, 4, 5]


def test_the_seed_alone_decides_the_pairing(root: Path) -> None:
    def pairs(seed: int) -> list[tuple[int, int]]:
        composites = small(root, seed=seed).composites("train")
        return list(zip(digit_values(composites).tolist(), fashion_values(composites).tolist(), strict=True))

    first = pairs(0)
    for file in root.rglob("*.npz"):
        file.unlink()
    torch.manual_seed(1)
    np.random.seed(1)
    assert pairs(0) == first
    assert pairs(1) != first


def test_the_second_time_the_pairs_are_read_from_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small(root).composites("train")
    assert len(list((root / "MultiFashionMNIST").glob("train-60-seed0-*.npz"))) == 1
    monkeypatch.setattr(
        "recon.data.composites.overlapping.OverlappingImages._pair", lambda *_: pytest.fail("paired again")
    )
    second = small(root).composites("train")
    torch.testing.assert_close(second.images, first.images)
    torch.testing.assert_close(second.targets, first.targets)


def test_pairs_of_other_raw_files_are_not_taken_from_the_cache(root: Path) -> None:
    before = small(root).composites("train")
    write_set(root, "MNIST", {"train": np.arange(31, 61), "t10k": np.arange(61, 81)})
    assert digit_values(small(root).composites("train")).min() == 31
    assert digit_values(before).min() == 1


def test_a_read_only_root_is_read_and_left_alone(root: Path, tmp_path: Path) -> None:
    freeze(root)
    before = sorted(root.rglob("*"))
    small(root).setup("fit")
    assert sorted(root.rglob("*")) == before
    assert len(list((tmp_path / "cache" / "recon" / "MultiFashionMNIST").glob("*.npz"))) == 2


def test_where_nothing_may_be_written_the_pairs_are_composed_in_memory(root: Path, tmp_path: Path) -> None:
    freeze(root)
    (tmp_path / "cache").mkdir(mode=0o555)
    assert len(small(root).composites("train")) == 60
    assert not list(tmp_path.rglob("*.npz"))


def test_a_truncated_raw_file_is_named_with_its_sizes(root: Path) -> None:
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    whole = 16 + 30 * 784
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))} has {whole - 5} bytes.*says {whole}"):
        small(root).setup("fit")
    assert not list(root.rglob("*.npz"))


def test_labels_that_do_not_fit_the_images_are_refused(root: Path) -> None:
    file = root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    write_idx(file, np.arange(19) % 10)
    with pytest.raises(ValueError, match=r"has 20 images, but .*t10k-labels-idx1-ubyte has 19 labels"):
        small(root).setup("test")
    write_idx(file, np.full(20, 10))
    with pytest.raises(ValueError, match="has label 10; expected 0 to 9"):
        small(root).setup("test")


def test_images_of_another_size_are_refused(root: Path) -> None:
    write_idx(root / "MNIST" / "raw" / "t10k-images-idx3-ubyte", np.zeros((20, 28, 14)))
    with pytest.raises(ValueError, match="images of 28x14 pixels; expected 28x28"):
        small(root).setup("test")


def stand_in_for_torchvision(monkeypatch: pytest.MonkeyPatch, fetch: Callable[[Path], None]) -> None:
    def dataset(root: Path, *, download: bool) -> None:
        assert download
        fetch(root)

    monkeypatch.setattr(torchvision.datasets, "MNIST", dataset)


def test_absent_raw_files_are_downloaded_by_torchvision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (root / "MNIST" / "raw").iterdir():
        file.unlink()
    values = {"train": np.arange(1, 31), "t10k": np.arange(31, 51)}
    stand_in_for_torchvision(monkeypatch, lambda root: write_set(root, "MNIST", values))
    assert len(small(root).composites("train")) == 60


def test_a_download_that_fails_says_what_is_missing_and_where(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    stand_in_for_torchvision(monkeypatch, fail)
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    raw = re.escape(str(root / "MNIST" / "raw"))
    with pytest.raises(
        ValueError, match=rf"{raw} lacks train-labels-idx1-ubyte, .*cannot download.*{re.escape(str(root))}"
    ):
        small(root).prepare_data()


def test_nothing_is_downloaded_to_a_read_only_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    freeze(root)
    stand_in_for_torchvision(monkeypatch, lambda root: pytest.fail("a download was tried"))
    with pytest.raises(ValueError, match=r"lacks train-labels-idx1-ubyte, and it is read-only; put the files of MNIST"):
        small(root).prepare_data()


def test_the_raw_layout_is_torchvisions_own(root: Path) -> None:
    digits = torchvision.datasets.MNIST(root, train=False, download=False)
    assert digits.data[:, 0, 0].tolist() == list(range(31, 51))
    assert digits.targets.tolist() == [value % 10 for value in range(31, 51)]


def test_it_offers_its_tasks_its_shape_and_its_name(root: Path) -> None:
    data = small(root)
    assert [(task.name, task.outputs) for task in data.tasks] == [("digit", 10), ("fashion", 10)]
    x, targets = next(iter(data.test_dataloader()))
    assert x.shape[1:] == data.input_shape == (1, 36, 36)
    assert list(targets) == [task.name for task in data.tasks]
    assert data.dataset_name == "MultiFashionMNIST(train_size=60, test_size=40, seed=0)"


def test_a_test_run_does_not_build_the_training_split(root: Path) -> None:
    small(root).setup("test")
    assert [file.name.split("-")[0] for file in root.rglob("*.npz")] == ["test"]


@pytest.mark.parametrize(("build", "first"), [(MultiMNIST, 1), (MultiFashion, 101)])
def test_two_images_of_one_set_are_paired_with_the_labels_of_both(
    build: type[MultiMNIST | MultiFashion], first: int, root: Path
) -> None:
    other = root / ("FashionMNIST" if build is MultiMNIST else "MNIST")
    shutil.rmtree(other)  # it is not asked for
    data = build(root, train_size=60, test_size=40)
    composites = data.composites("train")
    left, right = composites.images[:, 0, 0].long(), composites.images[:, -1, -1].long()
    for values in (left, right):
        assert sorted(values[:30].tolist()) == list(range(first, first + 30))
    torch.testing.assert_close(composites.targets, {"left": left % 10, "right": right % 10})
    assert (left != right).sum() > 50
    assert [path.parent.name for path in root.rglob("*.npz")] == [build.__name__]
    assert not other.exists()
    assert len(data.files_read()) == 4
