"""Peak memory of a training step, in units of one gradient above joint training.

    python benchmarks/memory.py                                          # ResNet-18, K = 2, 10, 40
    python benchmarks/memory.py --network vit_tiny --tasks '[2, 10]' --batch 4 --size 224

Each kind of step runs in a process of its own, twice, and the peak counts. On the CPU that is
the largest resident memory, less that of a process which has loaded all libraries and trained a
small network; on CUDA it is PyTorch's own count. A gradient is as large as the shared part. The
last lines compare the time of a step in one process: that of the CPU on one thread, or of the
device.
"""

import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from time import perf_counter, process_time
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

import recon
from recon.models import ResNet18


@dataclass
class Case:
    """What is trained: a network with K heads, on images of a size.

    Attributes:
        network: Name of the network.
        tasks: K.
        batch: Images in a batch.
        size: Height and width of the images.
        device: Where it runs.
    """

    network: str
    tasks: int
    batch: int
    size: int
    device: str

    def names(self) -> list[str]:
        return [f"task{index}" for index in range(self.tasks)]


class Network(nn.Module):
    """A shared network with a linear head a task, an optimizer and a batch."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, features = backbone(case)
        self.heads = nn.ModuleDict({task: nn.Linear(features, 10) for task in case.names()})
        self.to(case.device)
        self.inputs = torch.rand(case.batch, 3, case.size, case.size, device=case.device)
        self.targets = torch.randint(10, (case.tasks, case.batch), device=case.device)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=1e-4, momentum=0.9)

    def features_and_losses(self) -> tuple[Tensor, dict[str, Tensor]]:
        features = self.backbone(self.inputs)
        heads = zip(self.heads.items(), self.targets, strict=True)
        return features, {task: nn.functional.cross_entropy(head(features), target) for (task, head), target in heads}

    def losses(self, batch: object = None) -> dict[str, Tensor]:
        return self.features_and_losses()[1]


def backbone(case: Case) -> tuple[nn.Module, int]:
    """The shared network, and its number of features."""
    if case.network == "resnet18":
        return ResNet18(width=64, in_channels=3), 100
    if case.network == "resnet50":
        from torchvision.models import resnet50

        network = resnet50()
        network.fc = nn.Identity()
        return network, 2048
    from recon.models.backbones.timm_backbone import timm_backbone

    return timm_backbone("vit_tiny_patch16_224", in_channels=3, image_size=case.size), 192


def joint(net: Network) -> Callable[[], None]:
    """Joint training in plain PyTorch: one forward, one backward."""

    def step() -> None:
        net.optimizer.zero_grad()
        torch.stack(list(net.losses().values())).sum().backward()
        net.optimizer.step()

    return step


def ours(net: Network, memory: str) -> Callable[[], None]:
    """A step of the engine."""
    engine = recon.Engine(net.backbone, list(net.heads), "mgda", memory=memory)

    def step() -> None:
        engine.step(net.losses, net.optimizer)

    return step


def mtl_backward(net: Network) -> Callable[[], None]:
    """A step of TorchJD's ``mtl_backward``, one task at a time."""
    from torchjd.aggregation import MGDA
    from torchjd.autojac import jac_to_grad, mtl_backward

    aggregator = MGDA()

    def step() -> None:
        net.optimizer.zero_grad()
        features, losses = net.features_and_losses()
        mtl_backward(list(losses.values()), features=features, parallel_chunk_size=1)
        del features, losses
        jac_to_grad(net.backbone.parameters(), aggregator)
        net.optimizer.step()

    return step


def autogram(net: Network) -> Callable[[], None]:
    """A step of TorchJD's autogram engine; heads get the weighted sum here."""
    from torchjd.aggregation import MGDAWeighting
    from torchjd.autogram import Engine

    engine, weighting = Engine(net.backbone, batch_dim=None), MGDAWeighting()

    def step() -> None:
        net.optimizer.zero_grad()
        losses = torch.stack(list(net.losses().values()))
        losses.backward(weighting(engine.compute_gramian(losses)))
        net.optimizer.step()

    return step


KINDS: dict[str, Callable[[Network], Callable[[], None]]] = {
    "joint, plain PyTorch": joint,
    "memory='jacobian'": lambda net: ours(net, "jacobian"),
    "memory='gramian'": lambda net: ours(net, "gramian"),
    "TorchJD mtl_backward": mtl_backward,
    "TorchJD autogram": autogram,
}


@dataclass
class Peak:
    """Memory of a step.

    Attributes:
        bytes: Its peak.
        gradient: Bytes of one gradient of the shared part.
    """

    bytes: int
    gradient: int


def main(
    tasks: tuple[int, ...] = (2, 10, 40),
    network: Literal["resnet18", "resnet50", "vit_tiny"] = "resnet18",
    batch: int = 16,
    size: int = 64,
    device: str = "cpu",
    rounds: int = 3,
) -> None:
    """Print peak memory and time of each kind of step.

    Args:
        tasks: Numbers of tasks.
        network: The shared network.
        batch: Images in a batch.
        size: Height and width of the images.
        device: Where to run.
        rounds: Rounds of the comparison of times, after one that does not count; 0 for none.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # freed tensors go back to the system at once
    print(f"{network}, {batch} images of {size}x{size}, {device}, one thread, torch {torch.__version__}")
    for count in tasks:
        case = Case(network, count, batch, size, device)
        least = None
        for kind in KINDS:
            found = in_own_process(peak, case, kind)
            if isinstance(found, str):
                print(f"K = {count:2}  {kind:22} {found}", flush=True)
                continue
            least = least or found.bytes
            above = (found.bytes - least) / found.gradient
            print(f"K = {count:2}  {kind:22} {found.bytes / 1e6:8.0f} MB   joint + {above:5.2f} gradients", flush=True)
        if rounds:
            ratio = in_own_process(gramian_to_jacobian, case, rounds)
            print(f"K = {count:2}  time of a step, memory='gramian' / 'jacobian': {ratio}", flush=True)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, or the first line of its error."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except Exception as error:
            return f"does not run: {str(error).strip().splitlines()[0][:100]}"


def gramian_to_jacobian(case: Case, rounds: int) -> str:
    """Median and range of the ratio of two times, taken one after the other in each round."""
    torch.set_num_threads(1)
    steps = [ours(Network(case), memory) for memory in ("gramian", "jacobian")]
    ratios = []
    for _ in range(rounds + 1):
        gramian, jacobian = (seconds(step, case.device) for step in steps)
        ratios.append(gramian / jacobian)
    counted = sorted(ratios[1:])
    return f"{median(counted):.2f}   ({counted[0]:.2f} to {counted[-1]:.2f})"


def seconds(step: Callable[[], None], device: str) -> float:
    """Time of a step: on the CPU its processor time, which other processes do not lengthen."""
    if device == "cpu":
        start = process_time()
        step()
        return process_time() - start
    torch.cuda.synchronize()
    start = perf_counter()
    step()
    torch.cuda.synchronize()
    return perf_counter() - start


def peak(case: Case, kind: str) -> Peak:
    """The peak of two steps above a process that is warmed up."""
    torch.set_num_threads(1)
    small = Network(Case("resnet18", 2, 1, 36, case.device))
    KINDS["joint, plain PyTorch"](small)()
    del small
    baseline = _now(case.device)
    net = Network(case)
    step = KINDS[kind](net)
    for _ in range(2):
        step()
    return Peak(_peak(case.device) - baseline, sum(p.nbytes for p in net.backbone.parameters()))


def _now(device: str) -> int:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


def _peak(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    auto_cli(main)
