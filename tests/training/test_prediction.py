"""What the module gives to a trainer's predict, and takes as a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recon.data import Glyphs
from recon.models import LeNet
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import normals
from recon.tasks.task import Task
from recon.training import BranchOptions, MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]


class TwoInputs(nn.Module):
    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        features = self.first(left)
        return features if right is None else features * self.second(right)


def samples(count: int) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(count, 2, 3, generator=generator)
    labels = torch.randint(2, (count, 2), generator=generator)
    return [
        ({"left": left, "right": right}, {"a": label[0], "b": label[1]})
        for (left, right), label in zip(rows, labels, strict=True)
    ]


def test_predictions_are_labels_of_each_task(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(LeNet(), glyphs.tasks)
    found = trainer().predict(module, dataloaders=glyphs.test_dataloader())
    composites = glyphs.composites("test")
    x, _ = composites[torch.arange(len(composites))]
    with torch.no_grad():
        features = module.eval().backbone(x)
        expected = {task: module.heads[task](features).argmax(1) for task in ("digit", "letter")}
    for task, labels in expected.items():
        assert torch.cat([batch[task] for batch in found]).equal(labels)  # type: ignore[union-attr, call-overload, index]


def test_predictions_take_inputs_alone_and_follow_the_tasks_estimate(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    raw = Task("height", nn.functional.l1_loss, dict, 1)
    module = MultiTaskModule(
        nn.Identity(),
        [normals("normals"), raw],
        heads=nn.ModuleDict({"normals": nn.Identity(), "height": nn.Identity()}),
    )
    x = torch.randn(4, 3, 2, 2)
    (found,) = trainer().predict(module, DataLoader(x, batch_size=4))  # type: ignore[misc, arg-type]
    torch.testing.assert_close(found["normals"], x / x.norm(dim=1, keepdim=True))
    assert found["height"].equal(x)


@pytest.mark.parametrize("branch", [None, BranchOptions(layers=["second"])], ids=["plain", "branched"])
def test_inputs_by_name_are_the_backbones_keyword_arguments(branch: Any, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    backbone = TwoInputs()
    module = MultiTaskModule(backbone, [classification("a", 2), classification("b", 2)], branch=branch)
    loader = DataLoader(samples(8), batch_size=8)  # type: ignore[arg-type]
    inputs, _ = next(iter(loader))
    expected = backbone(inputs["left"], inputs["right"])
    for task, prediction in module(inputs).items():
        torch.testing.assert_close(prediction, module.heads[task](expected))
    fit = trainer()
    fit.fit(module, loader, loader)
    assert fit.global_step == 1
    assert {"val/a/accuracy", "val/b/accuracy"} <= fit.callback_metrics.keys()


def test_training_takes_a_combined_loader_of_one_and_refuses_several(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(TwoInputs(), [classification("a", 2), classification("b", 2)])
    loader = DataLoader(samples(8), batch_size=4)  # type: ignore[arg-type]
    fit = trainer()
    fit.fit(module, CombinedLoader({"train": loader}, "max_size_cycle"))
    assert fit.global_step == 2
    with pytest.raises(ValueError, match="several loaders at a time"):
        trainer().fit(module, CombinedLoader({"a": loader, "b": loader}, "max_size_cycle"))


def test_evaluation_on_several_loaders_is_refused_with_the_cure(trainer: TrainerFactory) -> None:
    module = MultiTaskModule(TwoInputs(), [classification("a", 2), classification("b", 2)])
    loader = DataLoader(samples(4), batch_size=4)  # type: ignore[arg-type]
    for stage, evaluate in (("val", trainer().validate), ("test", trainer().test)):
        with pytest.raises(
            ValueError, match=rf"2 {stage} loaders are given, and metrics are of one set; give one loader"
        ):
            evaluate(module, [loader, loader])


def test_a_label_out_of_bounds_names_its_task(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(TwoInputs(), [classification("a", 2), classification("b", 2)])
    wrong = [(inputs, {**targets, "b": torch.tensor(7)}) for inputs, targets in samples(4)]
    with pytest.raises(ValueError, match="the loss of task 'b' cannot be computed: Target 7 is out of bounds"):
        trainer().fit(module, DataLoader(wrong, batch_size=4))  # type: ignore[arg-type]


def test_a_target_of_another_shape_names_its_task_in_evaluation(trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(TwoInputs(), [classification("a", 2), classification("b", 2)])
    wrong = [(inputs, {**targets, "b": torch.zeros(3).long()}) for inputs, targets in samples(4)]
    with pytest.raises(
        ValueError, match=r"a metric of task 'b' cannot be computed: .*shape \(4, 3\), values from 0 to 0"
    ):
        trainer().validate(module, DataLoader(wrong, batch_size=4))  # type: ignore[arg-type]
