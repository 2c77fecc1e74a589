"""Steps on a GPU: as on the CPU in float64, in float16 and bfloat16, compiled, and in processes."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gpu_process
import pytest
import torch
from gpu_process import trained
from three_heads import TASKS, ThreeHeads, samples, values
from torch import Tensor
from two_heads import TwoHeads, losses_and_features

import recon
from recon.engine.checks import At
from recon.engine.groups import Granularity
from recon.methods import GramianMethod

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

METHODS = [name for name in recon.list_methods() if name != "torchjd"]
DRAW_ON_THE_DEVICE = {"graddrop", "rlw", "samo"}
"""Methods that draw by a generator of the device, other numbers than the CPU's."""


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def gradients_of_steps(
    name: str, device: str, at: At = "parameters", granularity: Granularity = "network", **options: Any
) -> list[Tensor]:
    """Gradients of a network after three steps, and the cosines of its map."""
    net = TwoHeads(TASKS, torch.float64).to(device)
    x = torch.randn(4, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(device)
    analyzer = recon.ConflictAnalyzer(net.backbone, TASKS)
    method = recon.create_method(name).to(device)
    engine = recon.Engine(net.backbone, TASKS, method, analyzer, at=at, granularity=granularity, **options)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.01)
    evaluate = net.losses if at == "parameters" else partial(losses_and_features, net)
    for _ in range(3):
        engine.step(lambda batch=None: evaluate(x), optimizer, validation=lambda: evaluate(x))
    engine.check_finite()
    found = [parameter.grad.cpu() for parameter in net.parameters() if parameter.grad is not None]
    return [*found, torch.as_tensor(analyzer.conflict_map().mean_cosine)]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in DRAW_ON_THE_DEVICE])
def test_every_method_steps_as_on_the_cpu(name: str) -> None:
    found, expected = (gradients_of_steps(name, device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", sorted(DRAW_ON_THE_DEVICE))
def test_methods_that_draw_on_the_device_repeat_themselves(name: str) -> None:
    first, second = (gradients_of_steps(name, "cuda") for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{"at": "representation"}, {"granularity": "layer"}, {"memory": "gramian"}])
@pytest.mark.parametrize("name", ["cagrad", "mgda", "pcgrad", "nash_mtl"])
def test_other_routes_step_as_on_the_cpu(name: str, options: dict[str, Any]) -> None:
    found, expected = (gradients_of_steps(name, device, **options) for device in ("cuda", "cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def move_of_a_step(name: str, half: torch.dtype | None) -> Tensor:
    """How far the parameters go in one step."""
    net = ThreeHeads(torch.float32).cuda()
    method = recon.create_method(name).cuda()
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0) if half == torch.float16 else None
    engine = recon.Engine(net.backbone, TASKS, method, scaler=scaler)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.01)
    x = samples(32, dtype=torch.float32).cuda()

    def losses(batch: object = None) -> dict[str, Tensor]:
        return net.losses(x, half)

    start = values(net)
    assert not engine.step(losses, optimizer, validation=losses).overflow
    return values(net) - start


@pytest.mark.parametrize("name", METHODS)
def test_updates_in_float16_are_those_of_float32(name: str) -> None:
    half, full = (move_of_a_step(name, precision) for precision in (torch.float16, None))
    assert torch.cosine_similarity(half, full, dim=0) > 0.999


@pytest.mark.parametrize("name", ["joint", *recon.list_methods(GramianMethod)])
def test_updates_in_bfloat16_are_near_those_of_float32(name: str) -> None:
    half, full = (move_of_a_step(name, precision) for precision in (torch.bfloat16, None))
    assert torch.cosine_similarity(half, full, dim=0) > 0.98


def test_an_overflow_on_the_gpu_skips_the_step() -> None:
    net = ThreeHeads(torch.float32).cuda()
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    engine = recon.Engine(net.backbone, TASKS, "mgda", scaler=scaler)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x = samples(32, dtype=torch.float32).cuda()

    def losses(batch: object = None) -> dict[str, Tensor]:
        found = net.losses(x, torch.float16)
        return found | {"b": found["b"] + (found["b"] - found["b"].detach()) * 1e36}

    before = values(net)
    assert engine.step(losses, optimizer).overflow
    assert scaler.get_scale() == 512
    torch.testing.assert_close(values(net), before, rtol=0, atol=0)


@pytest.mark.parametrize("branched", [False, True])
def test_a_network_compiled_for_the_gpu(branched: bool) -> None:
    torch.compiler.reset()
    found = []
    for compiled in (True, False):
        net = ThreeHeads(torch.float64)
        shared: Any = recon.branch(net.backbone, ["2"], TASKS) if branched else net.backbone
        net.cuda()
        shared.cuda()
        if compiled:
            shared.compile()
        engine = recon.Engine(shared, TASKS, "pcgrad")
        features = shared(samples(8).cuda())
        taken = features if isinstance(features, dict) else dict.fromkeys(TASKS, features)
        engine.backward({task: head(taken[task]).square().mean() for task, head in net.heads.items()})
        found.append([parameter.grad for parameter in shared.parameters()])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("backend", "ranks"), [("nccl", 1), ("gloo", 2)])
def test_processes_on_a_gpu_step_as_one(backend: str, ranks: int, tmp_path: Path) -> None:
    commands = [[sys.executable, gpu_process.__file__, backend, str(rank), str(ranks)] for rank in range(ranks)]
    processes = [subprocess.Popen(command, cwd=tmp_path) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0] * ranks
    expected = trained(samples(8).cuda())
    for rank in range(ranks):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
