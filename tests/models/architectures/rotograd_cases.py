"""Small networks and batches on which the authors' package and ours train alike, without a random number."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TASKS = ("a", "b", "c")
STEPS, BURN_IN, LR, DECAY = 6, 3, 0.05, 0.99


@dataclass(frozen=True)
class Case:
    """Which class of the package trains, the number of rotated features, and whether features are maps."""

    package_class: str
    size: int = 4
    maps: bool = False


CASES = {
    "rotograd": Case("RotoGrad"),
    "rotations alone": Case("RotateOnly"),
    "some features": Case("RotoGrad", size=3),
    "maps": Case("RotoGrad", maps=True),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Values in [-1, 1] without an order, the same with every version of torch."""
    values = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (12.9898 * (values + 1) * (seed + 1) ** 0.5).sin().view(shape)


def network(case: Case) -> tuple[nn.Module, list[nn.Module]]:
    """A backbone of four features, and three heads."""
    if case.maps:
        backbone = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh())
        heads = [nn.Sequential(nn.Conv2d(4, 5, 1), nn.Tanh(), nn.Conv2d(5, 2, 1), nn.Flatten()) for _ in TASKS]
    else:
        backbone = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
        heads = [nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)) for _ in TASKS]
    for seed, parameter in enumerate(p for module in (backbone, *heads) for p in module.parameters()):
        parameter.data = 0.7 * numbers(*parameter.shape, seed=seed)
    return backbone, heads


def inputs(case: Case, step: int) -> Tensor:
    """Seven samples."""
    return numbers(7, 2, 4, 4, seed=100 + step) if case.maps else numbers(7, 5, seed=100 + step)


def losses(outputs: list[Tensor], step: int) -> list[Tensor]:
    """Losses of very unequal size."""
    targets = numbers(len(TASKS), *outputs[0].shape, seed=200 + step)
    sizes = zip(outputs, targets, (1.0, 5.0, 0.2), strict=True)
    return [(output - size * target).square().mean() for output, target, size in sizes]
