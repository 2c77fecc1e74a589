import pytest
import torch

from recon.data import Glyphs
from recon.data.composites import glyphs as module
from recon.data.composites.module import Composites


@pytest.fixture
def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NOISE", 0.0)


def train(size: int = 200, **options: int) -> Composites:
    return Glyphs(train_size=size, test_size=size, **options).composites("train")


def test_the_same_seed_gives_the_same_images_and_labels() -> None:
    first = train()
    torch.manual_seed(1)
    second = train()
    torch.testing.assert_close(second.images, first.images)
    torch.testing.assert_close(second.targets, first.targets)


def test_another_seed_and_the_other_split_give_other_images() -> None:
    data = Glyphs(train_size=200, test_size=200)
    images = [data.composites("train").images, data.composites("test").images, train(seed=1).images]
    distinct = torch.unique(torch.cat(images), dim=0)
    assert len(distinct) == 600


def test_a_smaller_set_is_the_beginning_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)  # the noise is drawn in chunks
    large, beginning = train(200), train(70)
    torch.testing.assert_close(beginning.images, large.images[:70])
    torch.testing.assert_close(beginning.targets["letter"], large.targets["letter"][:70])


def test_every_class_of_both_tasks_occurs_and_the_tasks_are_independent() -> None:
    targets = train(2000).targets
    pairs = torch.bincount(10 * targets["digit"] + targets["letter"], minlength=100)
    assert len(pairs) == 100
    assert pairs.min() > 0  # 20 of each are expected


@pytest.mark.usefixtures("without_noise")
def test_the_digit_is_towards_the_top_left_and_the_letter_towards_the_bottom_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def centre(hidden: str) -> torch.Tensor:
        """Mean centre of brightness (row, column) of the images with one of the two alphabets hidden."""
        with monkeypatch.context() as patch:
            patch.setattr(module, hidden, " " * 10)
            weight = train().images.double().mean(0)
        pixel = torch.arange(36).double()
        return torch.stack([weight.sum(1) @ pixel, weight.sum(0) @ pixel]) / weight.sum()

    digit, letter = centre("LETTERS"), centre("DIGITS")
    assert (digit < 16).all()
    assert (letter > 19).all()


@pytest.mark.usefixtures("without_noise")
def test_where_glyphs_overlap_the_larger_value_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def images(hidden: str | None) -> torch.Tensor:
        with monkeypatch.context() as patch:
            if hidden:
                patch.setattr(module, hidden, " " * 10)
            return train().images

    digits, letters = images("LETTERS"), images("DIGITS")
    torch.testing.assert_close(images(None), torch.maximum(digits, letters))
    assert ((digits > 0) & (letters > 0)).any(dim=(1, 2)).float().mean() > 0.5


@pytest.mark.usefixtures("without_noise")
def test_glyphs_of_one_class_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIGITS", "8" * 10)
    monkeypatch.setattr(module, "LETTERS", " " * 10)
    images = train().images
    assert len(torch.unique(images, dim=0)) == 200
    ink = images.float().mean(dim=(1, 2))
    assert ink.max() > 1.5 * ink.min()


def test_it_offers_its_tasks_its_shape_and_its_name() -> None:
    data = Glyphs(train_size=30, test_size=20)
    assert [(task.name, task.outputs) for task in data.tasks] == [("digit", 10), ("letter", 10)]
    x, targets = next(iter(data.test_dataloader()))
    assert x.shape == (20, *data.input_shape)
    assert x.min() >= 0
    assert x.max() <= 1
    assert list(targets) == [task.name for task in data.tasks]
    assert data.dataset_name == "Glyphs(train_size=30, test_size=20, seed=0)"
