"""A network of three tasks, whose batches may lack labels."""

import torch
from torch import Tensor, nn

from recon.engine import Evaluation

TASKS = ("a", "b", "c")


class ThreeHeads(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8))
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in TASKS})
        with torch.no_grad():
            for parameter in self.parameters():  # not by the seed that all threads share
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4)
        self.to(dtype)

    def losses(self, x: Tensor, half: torch.dtype | None = None) -> dict[str, Tensor]:
        """The losses, computed in a type of 16 bits if one is given."""
        with torch.autocast(x.device.type, half, enabled=half is not None):
            features = self.backbone(x)
            outputs = {task: head(features) for task, head in self.heads.items()}
        targets = {task: i + 1 for i, task in enumerate(TASKS)}
        wide = {task: output.float() if half is not None else output for task, output in outputs.items()}
        return {task: (output - targets[task]).square().mean() + 0.1 for task, output in wide.items()}

    def evaluate(self, x: Tensor, valid: Tensor) -> Evaluation:
        """The losses of the samples that have a label: valid is (tasks, samples)."""
        features, losses, counts = self.backbone(x), {}, {}
        for i, (task, head) in enumerate(self.heads.items()):
            if valid[i].any():
                losses[task] = (head(features[valid[i]]) - i - 1).square().mean() + 0.1
                counts[task] = int(valid[i].sum())
        return Evaluation(losses, counts=counts)


def samples(number: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(number, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def values(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()
