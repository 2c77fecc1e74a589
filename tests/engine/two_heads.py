"""A small network with two heads, and naive references for its steps: separate autograd calls."""

import torch
from torch import Tensor, nn

import recon


class TwoHeads(nn.Module):
    def __init__(self, tasks: tuple[str, ...] = ("a", "b"), dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in tasks})
        self.to(dtype)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}


def losses_and_features(net: TwoHeads, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    features = net.backbone(x)
    return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(net.heads.items())}, features


def task_gradients(net: TwoHeads, x: Tensor) -> Tensor:
    """(K, P) by one autograd call a task, on a fresh graph each."""
    rows = []
    for task in net.heads:
        gradients = torch.autograd.grad(net.losses(x)[task], list(net.backbone.parameters()), materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def flat_grad(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


class Backwards:
    """Counts backward passes by the gradients that arrive at a tensor of the trunk."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.count = 0
        parameter.register_post_accumulate_grad_hook(self)

    def __call__(self, parameter: Tensor) -> None:
        self.count += 1


class Known(recon.GramianMethod):
    """Fixed weights, of which it tells in every step but the first."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values, self.steps = torch.tensor(values, dtype=torch.float64), 0

    def known_weights(self) -> Tensor | None:
        if self.steps == 0:
            return None
        self.steps += 1
        return self.values

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.steps += 1
        return self.values
