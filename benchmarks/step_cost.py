"""Cost of a training step, relative to one forward, K backwards and the optimizer step.

    python benchmarks/step_cost.py                       # width-64 ResNet-18, batch 64, K = 2
    python benchmarks/step_cost.py --width 16 --rounds 10

The floor is plain PyTorch: one forward, K backwards (the graph is kept for all but the last), and
the optimizer step. Each kind of step is timed right after the floor, round after round, so that a
drift of the machine's speed slows both alike. The table shows the median ratio over the rounds.
"""

from collections.abc import Callable
from statistics import quantiles
from time import perf_counter

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

import recon
from recon.models import ResNet18

TASKS = ("digit", "fashion")


class Network(nn.Module):
    """ResNet-18 with a linear head a task, an optimizer and a batch."""

    def __init__(self, width: int, batch: int, device: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = ResNet18(width=width)
        self.heads = nn.ModuleDict({task: nn.Linear(self.backbone.num_features, 10) for task in TASKS})
        self.to(device)
        self.inputs = torch.rand(batch, 1, 36, 36, device=device)
        self.targets = torch.randint(10, (batch,), device=device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)

    def features_and_losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.backbone(self.inputs)
        losses = {t: nn.functional.cross_entropy(self.heads[t](features), self.targets) for t in TASKS}
        return features, losses

    def losses(self, batch: object = None) -> dict[str, Tensor]:
        return self.features_and_losses()[1]


def floor(net: Network) -> Callable[[], None]:
    """One forward, K backwards, the optimizer step: plain PyTorch."""

    def step() -> None:
        losses = list(net.losses().values())
        for i, loss in enumerate(losses):
            net.optimizer.zero_grad()
            loss.backward(retain_graph=i < len(losses) - 1)
        net.optimizer.step()

    return step


def plain(net: Network) -> Callable[[], None]:
    """Joint training in plain PyTorch: one forward, one backward."""

    def step() -> None:
        net.optimizer.zero_grad()
        sum(net.losses().values(), torch.zeros((), device=net.inputs.device)).backward()
        net.optimizer.step()

    return step


def ours(net: Network, method: str, analyzed: bool) -> Callable[[], None]:
    """A step of the engine."""
    analyzer = recon.ConflictAnalyzer(net.backbone, TASKS) if analyzed else None
    engine = recon.Engine(net.backbone, TASKS, recon.create_method(method), analyzer)

    def step() -> None:
        engine.step(net.losses, net.optimizer)

    return step


def torchjd(net: Network, aggregator: str, chunk: int | None) -> Callable[[], None]:
    """A step of TorchJD's ``mtl_backward``, for comparison."""
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    options = {"c": 0.4} if aggregator == "CAGrad" else {}
    combine = getattr(aggregation, aggregator)(**options)

    def step() -> None:
        net.optimizer.zero_grad()
        features, losses = net.features_and_losses()
        mtl_backward(list(losses.values()), features=features, parallel_chunk_size=chunk)
        jac_to_grad(net.backbone.parameters(), combine)
        net.optimizer.step()

    return step


def main(width: int = 64, batch: int = 64, rounds: int = 7, device: str = "cpu", threads: int | None = None) -> None:
    """Print the cost of each kind of step as a ratio to the floor.

    Args:
        width: Base width of the ResNet-18.
        batch: Batch size.
        rounds: Rounds counted, after one that is not.
        device: Where to run.
        threads: Threads of torch on the CPU; by default torch's own choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)

    def net() -> Network:
        return Network(width, batch, device)

    reference = floor(net())
    steps = {"one joint backward, plain PyTorch": plain(net())}
    steps["joint"] = ours(net(), "joint", False)
    for method in ("pcgrad", "cagrad", "mgda", "graddrop"):
        steps[method] = ours(net(), method, False)
        steps[f"{method} + analyzer"] = ours(net(), method, True)
    steps["joint + analyzer"] = ours(net(), "joint", True)
    for aggregator in ("PCGrad", "CAGrad", "MGDA"):
        steps[f"TorchJD {aggregator}, chunk 1"] = torchjd(net(), aggregator, 1)
        steps[f"TorchJD {aggregator}, default chunk"] = torchjd(net(), aggregator, None)

    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            least = _seconds(reference, device)
            ratios[name].append(_seconds(step, device) / least)
    print(f"ResNet-18 of width {width}, batch {batch}, K = 2, {device}, {rounds} rounds")
    print("median (and quartiles) of the ratio to one forward, 2 backwards and the optimizer step")
    for name, (_, *values) in ratios.items():
        low, middle, high = quantiles(values)
        print(f"{name:34} {middle:6.3f}   ({low:.3f} to {high:.3f})")


def _seconds(step: Callable[[], None], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return perf_counter() - start


if __name__ == "__main__":
    auto_cli(main)
