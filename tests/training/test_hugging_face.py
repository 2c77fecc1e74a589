"""Against Hugging Face's own Trainer, where it is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.conflict import ConflictMap, MeasuredMap

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow


class TwoLosses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4), nn.Linear(4, 4)
        )
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)})

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Any]:
        features = self.encoder(x)
        losses = {task: (head(features) - labels).square().mean() for task, head in self.heads.items()}
        return {"loss": torch.stack([*losses.values()]).sum(), "losses": losses}


def train(folder: Path, model: nn.Module, parts: int, *callbacks: Any) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    data = [
        {"x": torch.randn(6, generator=generator), "labels": torch.randn(1, generator=generator)} for _ in range(40)
    ]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_train_epochs=2,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        gradient_accumulation_steps=parts,
        seed=3,
    )
    transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[*callbacks]).train()
    return [*model.state_dict().values(), torch.rand(3)]


@pytest.mark.parametrize(("parts", "steps"), [(1, 10), (2, 6)])
def test_training_is_the_same_bit_for_bit(parts: int, steps: int, tmp_path: Path) -> None:
    from recon.training.hugging_face import ConflictTrainerCallback

    callback = ConflictTrainerCallback("encoder", every=2, path=str(tmp_path / "map.json"))
    expected = train(tmp_path, TwoLosses(), parts)
    found = train(tmp_path, TwoLosses(), parts, callback)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    cmap = ConflictMap.load(tmp_path / "map.json")
    assert (cmap.provenance["steps"], cmap.provenance["observed_steps"]) == (steps, steps // 2)
    assert cmap.layers == ("0", "1", "4", "5")


def test_the_map_is_that_of_a_watch(tmp_path: Path) -> None:
    from recon.training.hugging_face import ConflictTrainerCallback

    class Watched(TwoLosses):
        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Any]:
            output = super().forward(x, labels)
            own(output["losses"])
            return output

    model = Watched()
    own = recon.watch(model.encoder, model.heads)
    callback = ConflictTrainerCallback("encoder", path=str(tmp_path / "map.json"))
    train(tmp_path, model, 1, callback)
    found = ConflictMap.load(tmp_path / "map.json")
    assert isinstance(found, MeasuredMap)
    assert torch.equal(found.histogram, own.map().histogram)


def test_a_training_after_one_that_failed_observes_each_batch_once() -> None:
    from recon.training.hugging_face import ConflictTrainerCallback

    model, callback = TwoLosses(), ConflictTrainerCallback("encoder")
    callback.on_train_begin(None, None, None, model=model)  # and an error ends the training
    callback.on_train_begin(None, None, None, model=model)
    assert list(model._forward_hooks.values()) == [callback._take]


def test_an_output_without_losses_is_refused_in_one_line(tmp_path: Path) -> None:
    from recon.training.hugging_face import ConflictTrainerCallback

    with pytest.raises(TypeError, match=r"the model's output dict under 'task_losses' gives no losses; let it give"):
        train(tmp_path, TwoLosses(), 1, ConflictTrainerCallback("encoder", losses="task_losses"))
    with pytest.raises(ValueError, match="unknown module 'encode' in TwoLosses; nearest: 'encoder'"):
        train(tmp_path, TwoLosses(), 1, ConflictTrainerCallback("encode"))
