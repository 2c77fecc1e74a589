"""Two tasks that need different numbers of the input, and a backbone with room for one number."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from recon.tasks import Task, classification
from recon.training import MultiTaskModule


class Narrow(nn.Module):
    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 1)
        self.second = nn.Sequential(nn.Tanh(), nn.Linear(1, 4), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class TwoNeeds(pl.LightningDataModule):
    """Whether the first number is positive, and whether the second is."""

    tasks: list[Task] = [classification("a", 2), classification("b", 2)]  # noqa: RUF012

    def __init__(self, size: int = 320, batch_size: int = 32) -> None:
        super().__init__()
        x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(x, (x[:, 0] > 0).long(), (x[:, 1] > 0).long())
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, shuffle=True, collate_fn=_collate)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, self.batch_size, collate_fn=_collate)


def _collate(samples: list[tuple[Tensor, ...]]) -> Any:
    x, a, b = (torch.stack(part) for part in zip(*samples, strict=True))
    return x, {"a": a, "b": b}


def module(**options: Any) -> MultiTaskModule:
    torch.manual_seed(3)

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.05)

    return MultiTaskModule(Narrow(), TwoNeeds.tasks, **{"optimizer": adam, **options})
