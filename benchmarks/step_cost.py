"""Cost of a training step, relative to one forward, K backwards and the optimizer step.

    python benchmarks/step_cost.py                       # width-64 ResNet-18, batch 64, K = 2
    python benchmarks/step_cost.py --tasks 10 --width 32 --batch 32
    python benchmarks/step_cost.py --tasks 3 --network resnet50 --batch 8
    python benchmarks/step_cost.py --network vit_tiny --batch 16 --only 'pcgrad*'
    python benchmarks/step_cost.py --compile true
    python benchmarks/step_cost.py --device cuda --precision bfloat16

The floor is plain PyTorch: one forward, K backwards (the graph is kept for all but the last), and
the optimizer step. A step and its floor are timed in turns, round after round, so that a drift of
the machine's speed slows both alike. The table shows the median ratio over the rounds and its
quartiles. One thread of a CPU is timed by the time that it runs, so that other programs do not
count. With ``--compile true`` the floor and all steps run the compiled backbone; with
``--precision`` they run under autocast, in float16 with a loss scaler.
"""

from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from statistics import quantiles
from time import perf_counter, thread_time
from typing import Literal

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

import recon

Kind = Literal["resnet18", "resnet50", "vit_tiny"]
Precision = Literal["float32", "bfloat16", "float16"]
METHODS = ("pcgrad", "cagrad", "mgda", "graddrop")
AGGREGATORS = ("PCGrad", "CAGrad", "MGDA")


def backbone_and_image(network: Kind, width: int) -> tuple[nn.Module, int, tuple[int, int, int]]:
    """A backbone, the number of its features, and the shape of its images."""
    if network == "resnet18":
        small = recon.models.ResNet18(width=width)
        return small, small.num_features, (1, 36, 36)
    if network == "resnet50":
        import torchvision

        large = torchvision.models.resnet50()
        large.fc = nn.Identity()
        return large, 2048, (3, 128, 128)
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    return vit, vit.num_features, (3, 224, 224)


class Network(nn.Module):
    """A backbone with a linear head a task, an optimizer, a loss scaler and a batch."""

    def __init__(
        self, network: Kind, tasks: int, width: int, batch: int, device: str, compiled: bool, precision: Precision
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tasks = tuple(f"task{index}" for index in range(tasks))
        self.backbone, features, image = backbone_and_image(network, width)
        if compiled:
            self.backbone.compile()
        self.heads = nn.ModuleDict({task: nn.Linear(features, 10) for task in self.tasks})
        self.to(device)
        self.inputs = torch.rand(batch, *image, device=device)
        self.targets = torch.randint(10, (batch,), device=device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1e-3, momentum=0.9)
        self.autocast = partial(torch.autocast, device, getattr(torch, precision), enabled=precision != "float32")
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "float16")

    def features_and_losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        with self.autocast():
            features = self.backbone(self.inputs)
            losses = {t: nn.functional.cross_entropy(self.heads[t](features), self.targets) for t in self.tasks}
        return features, losses

    def losses(self, batch: object = None) -> dict[str, Tensor]:
        return self.features_and_losses()[1]

    def step_of_optimizer(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


def floor(net: Network) -> Callable[[], None]:
    """One forward, K backwards, the optimizer step: plain PyTorch."""

    def step() -> None:
        losses = list(net.losses().values())
        for i, loss in enumerate(losses):
            net.optimizer.zero_grad()
            net.scaler.scale(loss).backward(retain_graph=i < len(losses) - 1)
        net.step_of_optimizer()

    return step


def plain(net: Network) -> Callable[[], None]:
    """Joint training in plain PyTorch: one forward, one backward."""

    def step() -> None:
        net.optimizer.zero_grad()
        net.scaler.scale(torch.stack(list(net.losses().values())).sum()).backward()
        net.step_of_optimizer()

    return step


def ours(net: Network, method: str, analyzed: bool) -> Callable[[], None]:
    """A step of the engine."""
    analyzer = recon.ConflictAnalyzer(net.backbone, net.tasks) if analyzed else None
    engine = recon.Engine(net.backbone, net.tasks, recon.create_method(method), analyzer, scaler=net.scaler)

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
        scaled = [net.scaler.scale(loss) for loss in losses.values()]
        mtl_backward(scaled, features=features, parallel_chunk_size=chunk)
        jac_to_grad(net.backbone.parameters(), combine)
        net.step_of_optimizer()

    return step


def steps_of(net: Network, compiled: bool) -> dict[str, Callable[[], Callable[[], None]]]:
    """Kinds of steps by name; each is made when its turn comes, so that one buffer is held."""
    steps: dict[str, Callable[[], Callable[[], None]]] = {}
    steps["one joint backward, plain PyTorch"] = lambda: plain(net)
    steps["joint"] = lambda: ours(net, "joint", False)
    for method in METHODS:
        steps[method] = lambda method=method: ours(net, method, False)
        steps[f"{method} + analyzer"] = lambda method=method: ours(net, method, True)
    steps["joint + analyzer"] = lambda: ours(net, "joint", True)
    if find_spec("torchjd") is None:
        return steps
    for name in AGGREGATORS:
        steps[f"TorchJD {name}, chunk 1"] = lambda name=name: torchjd(net, name, 1)
        if not compiled:  # the backward of compiled code does not batch
            steps[f"TorchJD {name}, default chunk"] = lambda name=name: torchjd(net, name, None)
    return steps


def main(
    width: int = 64,
    batch: int = 64,
    tasks: int = 2,
    network: Kind = "resnet18",
    compile: bool = False,
    only: str = "*",
    rounds: int = 7,
    device: str = "cpu",
    precision: Precision = "float32",
    threads: int = 1,
) -> None:
    """Print the cost of each kind of step as a ratio to the floor.

    Args:
        width: Base width of the ResNet-18.
        batch: Batch size.
        tasks: K.
        network: The backbone: ResNet-18 on 1x36x36 images, torchvision's ResNet-50 on 3x128x128, or
            timm's ViT-tiny on 3x224x224.
        compile: Compile the backbone.
        only: The rows to measure, as a pattern of the shell.
        rounds: Rounds counted, after one that is not.
        device: Where to run.
        precision: That of autocast.
        threads: Threads of torch on the CPU.
    """
    torch.set_num_threads(threads)
    net = Network(network, tasks, width, batch, device, compile, precision)
    reference = floor(net)
    name = f"ResNet-18 of width {width}" if network == "resnet18" else network
    kind = ", compiled" if compile else ""
    where = device if device == "cpu" else torch.cuda.get_device_name()
    print(f"{name}{kind}, batch {batch}, K = {tasks}, {precision}, {where}, {rounds} rounds")
    print(f"median (and quartiles) of the ratio to one forward, {tasks} backwards and the optimizer step")
    for row, make in steps_of(net, compile).items():
        if not fnmatch(row, only):
            continue
        try:
            low, middle, high = _quartiles_of_ratios(make(), reference, rounds, device)
        except (ImportError, RuntimeError) as error:
            if not row.startswith("TorchJD"):
                raise
            print(f"{row:34} does not run: {str(error).splitlines()[0][:100]}", flush=True)
            continue
        print(f"{row:34} {middle:6.3f}   ({low:.3f} to {high:.3f})", flush=True)


def _quartiles_of_ratios(
    step: Callable[[], None], reference: Callable[[], None], rounds: int, device: str
) -> list[float]:
    ratios = []
    for _ in range(rounds + 1):
        least = _seconds(reference, device)
        ratios.append(_seconds(step, device) / least)
    return quantiles(ratios[1:])


def _seconds(step: Callable[[], None], device: str) -> float:
    if device == "cpu" and torch.get_num_threads() == 1:
        start = thread_time()  # other programs on the machine do not count
        step()
        return thread_time() - start
    _synchronise(device)
    start = perf_counter()
    step()
    _synchronise(device)
    return perf_counter() - start


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    auto_cli(main)
