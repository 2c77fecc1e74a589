"""A network of one shared layer, and its batches, for methods that evaluate it again."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A shared layer and a head for each task, in float64."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(4, 3)
        self.heads = nn.ModuleDict({task: nn.Linear(3, 1) for task in tasks})
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """The losses, (K,)."""
        features = self.backbone(x).tanh()
        return torch.stack([(head(features) - i).square().mean() for i, head in enumerate(self.heads.values())])


def batch(seed: int) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
