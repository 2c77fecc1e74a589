"""Whether R processes with b samples each train as one process with R * b samples does.

    python benchmarks/processes.py [--ranks '[2,3]'] [--methods '[pcgrad]'] [--precision float32]

Every method trains a small network in each of these settings, for 20 steps with momentum:

* plain: all labels; an analyzer observes.
* labels: random samples lack labels of random tasks, so that some process often has none of a task;
  every fourth batch is smaller, so that processes have different numbers of samples. In every fifth
  one sample alone has labels, so that the other processes have none of any task.
* branched: a layer has one copy per task; labels are missing as before.
* micro-batches: each batch comes in three parts; labels are missing as before.
* representation: gradients are weighted in the features; labels are missing as before.
* layers: each layer is weighed by itself, in batches of two parts; labels are missing as before.
* synchronised: with a norm over the samples of all processes; labels are missing as before, but
  every process has some.

The table shows the difference of all parameters after the last step, relative to the way that they
have come, the largest over the processes; and the bytes that each process sends in a step.
Processes talk by gloo on one machine.
"""

import os
import random
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

import recon
from recon.engine import Evaluation, shared_part
from recon.engine.checks import At
from recon.engine.groups import Granularity
from recon.gradients.processes import Processes, Work
from recon.methods import GramianMethod

TASKS = ("a", "b", "c", "d", "e")
STEPS, BATCH, FEATURES = 20, 24, 6


@dataclass(frozen=True)
class Setting:
    """What is special about a training.

    Attributes:
        observed: Whether an analyzer looks on.
        missing: Whether samples lack labels.
        branched: Whether a layer has one copy per task.
        parts: Number of micro-batches of a batch, in each process.
        at: Where the method takes the gradients.
        granularity: The groups of layers that the method weighs each by itself.
        synchronised: Whether the network has a norm over all samples of a batch.
    """

    observed: bool = False
    missing: bool = True
    branched: bool = False
    parts: int = 1
    at: At = "parameters"
    granularity: Granularity = "network"
    synchronised: bool = False


SETTINGS = {
    "plain": Setting(observed=True, missing=False),
    "labels": Setting(),
    "branched": Setting(branched=True),
    "micro-batches": Setting(parts=3),
    "representation": Setting(at="representation"),
    "layers": Setting(granularity="layer", parts=2),
    "synchronised": Setting(synchronised=True),
}


class SumOverProcesses(torch.autograd.Function):
    """The sum over the processes, whose backward is the same sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return Processes().sum(values.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return Processes().sum(gradient.clone())


class SyncBatchNorm(nn.SyncBatchNorm):
    """A norm over all processes on the CPU, where torch's own does not run."""

    def forward(self, input: Tensor) -> Tensor:
        sums = torch.stack([input.sum(0), input.square().sum(0), torch.full_like(input[0], len(input))])
        if Processes().several:
            sums = SumOverProcesses.apply(sums)
        mean, square = sums[0] / sums[2], sums[1] / sums[2]
        normal = (input - mean) / (square - mean.square() + self.eps).sqrt()
        return normal * self.weight + self.bias


class Network(nn.Module):
    """A small network with a head for each task."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        torch.manual_seed(0)
        norm = SyncBatchNorm(8) if setting.synchronised else nn.Identity()
        backbone = nn.Sequential(nn.Linear(FEATURES, 8), norm, nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 5))
        self.backbone = recon.branch(backbone, ["3"], TASKS) if setting.branched else backbone
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in TASKS})

    def evaluate(self, batch: "Batch", at: At) -> Evaluation:
        """The losses of the tasks that the batch has labels of."""
        features = self.backbone(batch.inputs)
        losses, counts = {}, {}
        for task, head in self.heads.items():
            valid = batch.valid[task]
            if valid.any():
                predictions = head(features[task] if isinstance(features, dict) else features)
                losses[task] = (predictions - batch.targets[task])[valid].square().mean() + 0.1
                counts[task] = int(valid.sum())
        return Evaluation(losses, features if at == "representation" else None, counts)


@dataclass
class Batch:
    """Samples with their targets, and whether they are valid."""

    inputs: Tensor
    targets: dict[str, Tensor]
    valid: dict[str, Tensor]

    def part(self, number: int, of: int) -> "Batch":
        """Every n-th sample."""
        own = slice(number, None, of)
        return Batch(
            self.inputs[own],
            {task: target[own] for task, target in self.targets.items()},
            {task: valid[own] for task, valid in self.valid.items()},
        )


def batches(missing: bool, steps: int, unlabelled: bool = True) -> Iterator[Batch]:
    """The batches of one training, the same everywhere.

    Args:
        missing: Whether samples lack labels.
        steps: Number of batches.
        unlabelled: Whether some batches have one labelled sample alone, where labels are missing.
    """
    draw = torch.Generator().manual_seed(1)
    for step in range(steps):
        size = BATCH if step % 4 < 3 else BATCH - 7
        # A task with few labels is often absent from a process, and at times from all.
        shares = [random.Random(f"{step} {task}").choice([0.0, 0.05, 0.2, 0.8, 1.0]) for task in TASKS]
        valid = [torch.rand(size, generator=draw) < share for share in shares]
        valid[step % len(TASKS)][:] = True
        if unlabelled and step % 5 == 3:  # the other processes, and micro-batches, have no label at all
            for own in valid:
                own[1:] = False
        yield Batch(
            torch.randn(size, FEATURES, generator=draw),
            {task: torch.randn(size, 2, generator=draw) for task in TASKS},
            {task: own if missing else torch.ones_like(own) for task, own in zip(TASKS, valid, strict=True)},
        )


def train(method_name: str, setting: Setting, processes: Processes, steps: int) -> dict[str, Any]:
    """Train in this process, with its part of every batch."""
    method = recon.create_method(method_name)
    network = Network(setting)
    analyzer = recon.ConflictAnalyzer(network.backbone, TASKS) if setting.observed else None
    engine = recon.Engine(
        network.backbone,
        TASKS,
        method,
        analyzer,
        update_scale="sum",
        at=setting.at,
        granularity=setting.granularity,
        heads=network.heads,
    )
    optimizer = torch.optim.SGD([*network.parameters(), *method.parameters()], lr=0.02, momentum=0.9)
    start = flat([*network.parameters(), *method.parameters()])
    before, losses = Traffic.bytes, []
    for step, batch in enumerate(batches(setting.missing, steps, not setting.synchronised)):
        own = [
            batch.part(processes.rank * setting.parts + i, processes.number * setting.parts)
            for i in range(setting.parts)
        ]
        for part in own[:-1]:
            engine.accumulate(network.evaluate(part, setting.at))
        info = engine.step(lambda batch=None, last=own[-1]: network.evaluate(last, setting.at), optimizer)
        losses.append({task: float(loss) for task, loss in info.losses.items()})
        if step % 5 == 4:
            method.end_epoch()
    moved = flat([*network.parameters(), *method.parameters()]) - start
    scores = analyzer.conflict_map().scores(-0.1) if analyzer is not None else {}
    return {"moved": moved, "losses": losses, "scores": scores, "sent": (Traffic.bytes - before) / steps}


class Traffic(Processes):
    """Processes that count the bytes which each sends, by the algorithms that send least."""

    bytes: ClassVar[int] = 0

    def _count(self, rounds: float, tensor: Tensor) -> None:
        Traffic.bytes += int(rounds * (self.number - 1) / self.number * tensor.numel() * tensor.element_size())

    def sum(self, tensor: Tensor) -> Tensor:
        self._count(2, tensor)
        return super().sum(tensor)

    def begin_sum(self, tensor: Tensor) -> Work | None:
        self._count(2, tensor)
        return super().begin_sum(tensor)

    def begin_shard_sum(self, tensor: Tensor, shard: Tensor) -> Work | None:
        self._count(1, tensor)
        return super().begin_shard_sum(tensor, shard)

    def join(self, shard: Tensor) -> Tensor:
        self._count(self.number, shard)
        return super().join(shard)


def flat(parameters: Sequence[Tensor]) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def trainings(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The methods, each with the settings that it is made for."""
    for name in names:
        for label, setting in SETTINGS.items():
            of_all = setting.at == "parameters" and setting.granularity == "network"
            if of_all or name in recon.list_methods(GramianMethod):
                yield name, label


def run(rank: int, number: int, port: int, folder: str, names: Sequence[str], precision: str, steps: int) -> None:
    """Train everything in one of several processes, and write the results to a file."""
    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, precision))
    if number > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        torch.distributed.init_process_group("gloo", rank=rank, world_size=number)
    results = {}
    shared_part.Processes = Traffic  # type: ignore[attr-defined]
    for name, label in trainings(names):
        try:
            results[name, label] = train(name, SETTINGS[label], Processes(), steps)
        except (TypeError, ValueError) as error:
            results[name, label] = {"error": f"{type(error).__name__}: {error}"}
    torch.save(results, Path(folder) / f"{number}-{rank}.pt")
    if number > 1:
        torch.distributed.destroy_process_group()


def in_processes(
    number: int, names: Sequence[str], precision: str, steps: int
) -> list[dict[tuple[str, str], dict[str, Any]]]:
    """The results of every process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        spawn(run, (number, port, folder, names, precision, steps), nprocs=number)
        return [torch.load(Path(folder) / f"{number}-{rank}.pt", weights_only=True) for rank in range(number)]


def difference(one: dict[str, Any], several: Sequence[dict[str, Any]]) -> float | str:
    """The largest difference of the parameters, relative to their way, or the common error."""
    errors = {result.get("error") for result in several}
    if errors != {None}:
        return next(iter(errors)) or "" if len(errors) == 1 else " | ".join(sorted(map(str, errors)))
    if "error" in one:
        return f"one process alone: {one['error']}"
    if any(result["scores"] != one["scores"] for result in several):
        return "other conflict scores"
    if any(
        result["losses"][step].keys() != losses.keys()
        for result in several
        for step, losses in enumerate(one["losses"])
    ):
        return "losses of other tasks"
    return max(float((result["moved"] - one["moved"]).norm() / one["moved"].norm()) for result in several)


def main(
    ranks: tuple[int, ...] = (2, 3), methods: tuple[str, ...] = (), precision: str = "float64", steps: int = STEPS
) -> dict[str, Any]:
    """Print the differences between several processes and one, and the traffic.

    Args:
        ranks: Numbers of processes.
        methods: Names of methods; all by default.
        precision: Dtype of the network.
        steps: Number of steps.
    """
    names = methods or tuple(name for name in recon.list_methods() if name != "torchjd")
    (one,) = in_processes(1, names, precision, steps)
    found: dict[str, Any] = {}
    for number in ranks:
        several = in_processes(number, names, precision, steps)
        print(f"{number} processes, {precision}: relative difference; bytes sent in a step by each process")
        for name, label in trainings(names):
            results = [each[name, label] for each in several]
            found[f"{number} {name} {label}"] = value = difference(one[name, label], results)
            sent = f"{results[0]['sent']:10,.0f}" if "sent" in results[0] else ""
            print(f"{name:14} {label:15} {value if isinstance(value, str) else f'{value:.1e}':10} {sent}", flush=True)
    return found


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
