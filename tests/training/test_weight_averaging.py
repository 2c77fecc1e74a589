"""Lightning's callbacks that average weights, over the module's own optimisation."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import Tensor, nn

from recon.data import Glyphs
from recon.training import ConflictCallback, MultiTaskModule

TrainerFactory = Callable[..., pl.Trainer]


class Normed(nn.Module):
    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 9, stride=9), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))


class Weights(pl.Callback):
    """The weights after each step, and the number of steps of the optimizer."""

    def __init__(self) -> None:
        self.after_epochs: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.after_epochs.append({name: p.detach().clone() for name, p in pl_module.named_parameters()})


@pytest.mark.parametrize("method", ["joint", "mgda", "graddrop"])
def test_the_epoch_for_batch_statistics_does_not_train(method: str, glyphs: Glyphs, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(Normed(), glyphs.tasks, method=method)
    weights = Weights()
    average = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=1)
    run = trainer(max_epochs=4, callbacks=[average, weights, ConflictCallback()])
    run.fit(module, datamodule=glyphs)
    assert run.global_step == 4 * 3
    assert module.analyzer is not None
    assert module.analyzer.conflict_map().provenance["steps"] == 4 * 3
    # At the start of epochs 1, 2 and 3 the callback averages what the epochs before have left.
    for name, parameter in module.named_parameters():
        expected = torch.stack([weights.after_epochs[epoch][name] for epoch in range(3)]).mean(0)
        torch.testing.assert_close(parameter.detach(), expected)

    loader = glyphs.train_dataloader()
    loader.sampler.set_epoch(4)  # type: ignore[attr-defined]
    with torch.no_grad():
        batches = [module.backbone.conv(x) for x, _ in loader]  # type: ignore[operator]
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(module.backbone.norm.running_mean, means)  # type: ignore[union-attr]


def test_an_average_of_the_last_steps_is_what_is_left_after_training(glyphs: Glyphs, trainer: TrainerFactory) -> None:
    torch.manual_seed(0)
    module = MultiTaskModule(Normed(), glyphs.tasks, method="mgda")
    steps: list[Tensor] = []

    class EachStep(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
            steps.append(pl_module.backbone.conv.weight.detach().clone())

    trainer(callbacks=[EMAWeightAveraging(decay=0.5), EachStep()]).fit(module, datamodule=glyphs)
    expected = steps[0]
    for weight in steps[1:]:
        expected = 0.5 * expected + 0.5 * weight
    torch.testing.assert_close(module.backbone.conv.weight.detach(), expected)  # type: ignore[union-attr]
