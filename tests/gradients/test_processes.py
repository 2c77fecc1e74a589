"""Real processes, which talk by gloo: each operation, and steps of an engine that only they can show."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

import recon
from recon.gradients.processes import Processes

TASKS = ("a", "b")


def operations(rank: int) -> dict[str, Any]:
    """The result of each operation."""
    own, shard = Processes(), torch.zeros(2)
    numbers = torch.arange(4.0) * (rank + 1)
    work = own.begin_shard_sum(numbers, shard)
    assert work is not None
    work.wait()
    summed = numbers.clone()
    work = own.begin_sum(summed)
    assert work is not None
    work.wait()
    buffers = [
        torch.full((2, 2), rank + 1.0),
        torch.tensor(rank + 5),
        torch.tensor([rank == 0, True]),
        torch.tensor([1j * (rank + 1), 2.0]),
        torch.full((3,), rank + 0.5, dtype=torch.bfloat16),
    ]
    own.copy_of_first(buffers)
    return {
        "shard": shard,
        "sum": summed,
        "complex sum": own.sum(torch.tensor([1 + 1j * rank])),
        "join": own.join(torch.tensor([rank, 10 * rank])),
        "gather": own.gather(torch.full((1, 2), float(rank))),
        "objects": own.gather_objects("x" * (rank + 1)),
        "copies": [buffer.tolist() for buffer in buffers],
    }


def expected_operations(rank: int) -> dict[str, Any]:
    return {
        "shard": torch.tensor([[0.0, 3.0], [6.0, 9.0]])[rank],
        "sum": torch.tensor([0.0, 3.0, 6.0, 9.0]),
        "complex sum": torch.tensor([2 + 1j]),
        "join": torch.tensor([0, 0, 1, 10]),
        "gather": torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]]),
        "objects": ["x", "xx"],
        "copies": [[[1.0, 1.0], [1.0, 1.0]], 5, [True, True], [1j, 2 + 0j], [0.5, 0.5, 0.5]],
    }


class Words(nn.Module):
    """A shared part with a sparse, a complex and a bfloat16 parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 4, sparse=True)
        self.wave = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.coarse = nn.Parameter(torch.randn(4).bfloat16())
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))

    def forward(self, words: Tensor) -> Tensor:
        return (self.embedding(words) * self.wave).abs() * self.coarse


def unusual(rank: int, number: int) -> dict[str, Any]:
    """``.grad`` of unusual parameters, by several methods."""
    found = {}
    for method in ("joint", "mgda", "graddrop", "moco"):
        shared = Words()
        heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})
        engine = recon.Engine(shared, TASKS, recon.create_method(method), heads=heads)
        words = torch.tensor([1, 2, 3, 3, 7, 1])[rank::number]
        features = shared(words)
        engine.backward({task: (head(features) - i).square().mean() for i, (task, head) in enumerate(heads.items())})
        for name, parameter in [*shared.named_parameters(), *heads.named_parameters()]:
            assert parameter.grad is not None
            assert parameter.grad.is_sparse == (name == "embedding.weight")
            assert parameter.grad.dtype == parameter.dtype
            found[f"{method} {name}"] = (
                parameter.grad.to_dense().float() if not parameter.is_complex() else parameter.grad
            )
    return found


def nearly_dependent(rank: int, number: int) -> dict[str, Any]:
    """Gradients in float32 whose difference the float32 Gramian does not show."""
    torch.manual_seed(0)
    shared = nn.Linear(64, 1, bias=False)
    x = torch.randn(8, 64) + 5
    direction = torch.randn(64) * 1e-4
    engine = recon.Engine(shared, TASKS, "mgda")
    own = x[rank::number]
    first = shared(own).mean()
    second = shared(own + direction).mean() * 1.0001
    info = engine.backward({"a": first, "b": second})
    assert shared.weight.grad is not None
    return {"grad": shared.weight.grad.clone(), "weights": info.weights}


def made_early(rank: int, number: int, before: recon.Engine) -> dict[str, Any]:
    """An engine made before the processes knew each other; then one task alone, and a subgroup."""
    found: dict[str, Any] = {}
    x = torch.arange(12.0).view(6, 2)
    shared: Any = before.shared
    before.backward({task: (shared(x[rank::number]) - i).square().mean() for i, task in enumerate(TASKS)})
    found["early"] = shared.weight.grad.clone()
    shared.zero_grad()
    single = recon.Engine(shared, ["a"], "pcgrad")
    single.backward({"a": shared(x[rank::number]).square().mean()})
    found["single"] = shared.weight.grad.clone()
    shared.zero_grad()
    shared.requires_grad_(False)
    head = nn.Linear(1, 1)
    nn.init.ones_(head.weight), nn.init.zeros_(head.bias)
    frozen = recon.Engine(shared, TASKS, "mgda", heads=head)
    frozen.backward({"a": head(shared(x[rank::number])).square().mean()})
    assert head.weight.grad is not None and shared.weight.grad is None
    found["frozen"] = head.weight.grad.clone()
    return found


def subgroup(rank: int) -> Tensor:
    """Each process in a group of its own, with its own batch."""
    groups = [distributed.new_group([each]) for each in range(2)]
    shared = nn.Linear(2, 1, bias=False)
    nn.init.ones_(shared.weight)
    engine = recon.Engine(shared, TASKS, "mgda", process_group=groups[rank])
    x = torch.full((1, 2), rank + 1.0)
    engine.backward({task: (shared(x) - i).square().mean() for i, task in enumerate(TASKS)})
    assert shared.weight.grad is not None
    return shared.weight.grad


def early_engine() -> recon.Engine:
    shared = nn.Linear(2, 1, bias=False)
    nn.init.constant_(shared.weight, 0.3)
    return recon.Engine(shared, TASKS, "mgda")


def run(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    early = early_engine()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=120))
    parts: dict[str, Callable[[], Any]] = {
        "operations": lambda: operations(rank),
        "unusual": lambda: unusual(rank, 2),
        "nearly dependent": lambda: nearly_dependent(rank, 2),
        "early": lambda: made_early(rank, 2, early),
        "subgroup": lambda: subgroup(rank),
    }
    torch.save({name: part() for name, part in parts.items()}, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results() -> Iterator[list[dict[str, Any]]]:
    if sys.platform == "win32":
        pytest.skip("gloo by spawn is tested on Linux and macOS")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        spawn(run, (port, folder), nprocs=2)
        yield [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


def test_operations_between_real_processes(results: list[dict[str, Any]]) -> None:
    for rank, result in enumerate(results):
        for name, expected in expected_operations(rank).items():
            found = result["operations"][name]
            assert torch.equal(found, expected) if isinstance(expected, Tensor) else found == expected, name


def test_sparse_complex_and_coarse_parameters(results: list[dict[str, Any]]) -> None:
    alone = unusual(0, 1)
    for result in results:
        for name, expected in alone.items():
            close = (1e-2, 1e-2) if "coarse" in name else (1e-4, 1e-5)
            torch.testing.assert_close(result["unusual"][name], expected, msg=name, rtol=close[0], atol=close[1])


def test_nearly_dependent_gradients_in_float32(results: list[dict[str, Any]]) -> None:
    alone = nearly_dependent(0, 1)
    for result in results:
        torch.testing.assert_close(result["nearly dependent"]["grad"], alone["grad"], rtol=1e-4, atol=1e-6)
        assert torch.equal(result["nearly dependent"]["weights"], results[0]["nearly dependent"]["weights"])


def test_an_engine_made_early_a_single_task_and_a_frozen_shared_part(results: list[dict[str, Any]]) -> None:
    alone = made_early(0, 1, early_engine())
    for result in results:
        torch.testing.assert_close(result["early"], alone)


def test_a_group_of_one_process_trains_alone(results: list[dict[str, Any]]) -> None:
    for rank, result in enumerate(results):
        shared = nn.Linear(2, 1, bias=False)
        nn.init.ones_(shared.weight)
        x = torch.full((1, 2), rank + 1.0)
        losses = {task: (shared(x) - i).square().mean() for i, task in enumerate(TASKS)}
        recon.backward(losses, shared, recon.create_method("mgda"))
        torch.testing.assert_close(result["subgroup"], shared.weight.grad)
