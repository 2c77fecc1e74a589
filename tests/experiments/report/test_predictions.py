"""Sheets of predictions beside the truth."""

import numpy as np
import torch
from torch import nn

from recon.experiments.report.predictions import prediction_sheet
from recon.tasks.colours import class_colours
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import depth, normals, segmentation
from recon.tasks.task import Task
from recon.training import MultiTaskModule

IMAGES = torch.rand(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))
TARGETS = {
    "segmentation": (IMAGES[:, 0] * 4).long(),
    "depth": 1 + IMAGES[:, :1],
    "normals": nn.functional.normalize(IMAGES - 0.5, dim=1),
}
TASKS = [segmentation("segmentation", 4), depth("depth"), normals("normals")]


class Knowing(nn.Module):
    """Gives what it is asked for: the targets of the images, as a perfect network would predict them."""

    num_features = 3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


class Answer(nn.Module):
    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        target = TARGETS[self.task][: len(features)]
        return nn.functional.one_hot(target, 4).permute(0, 3, 1, 2).float() if self.task == "segmentation" else target


def module(tasks: list[Task]) -> MultiTaskModule:
    return MultiTaskModule(Knowing(), tasks, heads=nn.ModuleDict({task.name: Answer(task.name) for task in tasks}))


def test_a_sheet_has_a_row_a_sample_and_truth_beside_prediction_for_each_task() -> None:
    figure = prediction_sheet(module(TASKS), (IMAGES, TARGETS))
    assert figure is not None
    assert len(figure.axes) == 4 * 7 + 4
    titles = [axes.get_title() for axes in figure.axes[:7]]
    assert titles == [
        "image",
        "segmentation: truth",
        "segmentation",
        "depth: truth",
        "depth",
        "normals: truth",
        "normals",
    ]
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[: 4 * 7]]
    np.testing.assert_allclose(pictures[7], IMAGES[1].permute(1, 2, 0), atol=1e-6)
    for row in range(4):
        for column in (1, 3, 5):  # this network is right everywhere
            np.testing.assert_allclose(pictures[7 * row + column], pictures[7 * row + column + 1], atol=1e-6)
            assert pictures[7 * row + column].std() > 0.01


def test_a_sheet_says_what_its_colours_mean() -> None:
    named = [segmentation("segmentation", 4, class_names=("floor", "wall", "ball", "box")), *TASKS[1:]]
    figure = prediction_sheet(module(named), (IMAGES, TARGETS))
    assert figure is not None
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert sorted(text for text in texts if text.strip()) == sorted(
        ["segmentation:", "floor", "wall", "ball", "box", "normals:", "+x", "+y", "+z"]
    )
    patches = dict(zip(texts, legend.get_patches(), strict=True))
    np.testing.assert_allclose(patches["wall"].get_facecolor()[:3], class_colours(4)[1], atol=1e-6)
    for bar, truth in zip(figure.axes[4 * 7 :], TARGETS["depth"], strict=False):
        np.testing.assert_allclose(bar.get_ylim(), [truth.min(), truth.max()], rtol=1e-6)


def test_a_wrong_prediction_looks_wrong() -> None:
    wrong = {**TARGETS, "segmentation": (TARGETS["segmentation"] + 1) % 4}
    figure = prediction_sheet(module(TASKS[:1]), (IMAGES, wrong))
    assert figure is not None
    truth, prediction = (np.asarray(figure.axes[column].images[0].get_array()) for column in (1, 2))
    assert (np.abs(truth - prediction).max(-1) > 0.05).all()


def test_fewer_samples_than_rows_are_no_trouble() -> None:
    figure = prediction_sheet(module(TASKS[1:2]), (IMAGES[:2], {"depth": TARGETS["depth"][:2]}))
    assert figure is not None
    assert len(figure.axes) == 2 * 3 + 2


def test_tasks_that_cannot_be_drawn_give_no_sheet() -> None:
    task = classification("digit", 4)
    network = MultiTaskModule(nn.Flatten(), [task], heads=nn.ModuleDict({"digit": nn.Linear(4, 4)}))
    assert prediction_sheet(network, (torch.zeros(2, 1, 2, 2), {"digit": torch.zeros(2).long()})) is None


def test_a_sheet_has_the_tasks_of_the_batch_that_have_targets() -> None:
    masked = {"target": TARGETS["depth"], "mask": torch.ones(6, dtype=torch.bool)}
    figure = prediction_sheet(module(TASKS), (IMAGES, {"depth": masked, "normals": None}))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "depth: truth", "depth"]
    assert prediction_sheet(module(TASKS), (IMAGES, {})) is None


def test_of_tasks_with_images_of_their_own_the_first_is_drawn() -> None:
    tasks = [classification("room", 2), *TASKS[1:]]
    batch = {"normals": (IMAGES, TARGETS["normals"]), "depth": (IMAGES, TARGETS["depth"]), "room": None}
    figure = prediction_sheet(module(tasks), (batch, 0, 0))  # as a loader of several loaders gives it
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "depth: truth", "depth"]
    assert prediction_sheet(module(tasks), {"room": (IMAGES, torch.zeros(6).long()), "depth": None}) is None
