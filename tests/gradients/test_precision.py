"""Devices without float64: `meta` stands for one, since it runs everything but transfers to the host."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import recon
from recon.engine.step_info import StepInfo
from recon.gradients.precision import in_double, widest_dtype
from recon.methods.base.randomness import RandomMethod
from recon.methods.solvers.gramian import gramian_of


class Doubles(TorchDispatchMode):
    """Notes what makes float64 tensors on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64 and tensor.device.type == "meta":
                self.made.add(str(function))
        return result


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> Doubles:
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())  # there is none for meta
    monkeypatch.setattr(RandomMethod, "generator_on", lambda self, device: None)  # nor a generator
    return Doubles()


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", recon.list_methods())
def test_no_float64_is_made_on_the_device_in_a_step(name: str, observed: bool, doubles: Doubles) -> None:
    with torch.device("meta"):
        net, heads = nn.Linear(6, 8), nn.ModuleDict({task: nn.Linear(8, 1) for task in ("a", "b", "c")})
        x = torch.randn(4, 6)
    method = recon.create_method(name)
    optimizer = torch.optim.SGD([*net.parameters(), *heads.parameters()], lr=0.1)
    with contextlib.suppress(NotImplementedError), doubles:  # nothing can be read from meta
        analyzer = recon.ConflictAnalyzer(net, heads) if observed else None
        engine = recon.Engine(net, list(heads), method, analyzer)

        def closure(batch: Any = None) -> dict[str, Tensor]:
            features = net(x)
            return {task: head(features).square().mean() for task, head in heads.items()}

        for _ in range(2):
            engine.step(closure, optimizer, validation=closure)
    assert doubles.made == set()


def test_what_is_computed_beside_a_step_makes_none_either(doubles: Doubles) -> None:
    gramians = torch.empty(3, 2, 2, device="meta")
    with doubles:
        for compute in (
            lambda: gramian_of(torch.empty(2, 5, device="meta")),
            lambda: StepInfo(0, {}, layer_gramians=gramians).cosines,
            lambda: StepInfo(0, {}, layer_gramians=gramians).conflict_rate,
            lambda: recon.ConflictAnalyzer(nn.Sequential(*[nn.Linear(1, 1)] * 1), ["a", "b"]).observe(gramians[:1]),
        ):
            with pytest.raises(NotImplementedError):
                compute()  # to the host, which meta cannot
    assert doubles.made == set()


def test_numbers_are_as_wide_as_the_device_allows() -> None:
    assert widest_dtype(torch.device("cpu")) == widest_dtype(torch.device("cuda", 0)) == torch.float64
    assert widest_dtype(torch.device("mps")) == torch.float32
    assert in_double(torch.ones(1)).dtype == torch.float64


@pytest.mark.parametrize("name", ["famo", "excess_mtl", "moco"])
def test_state_is_narrowed_on_such_a_device_and_widened_again(name: str) -> None:
    method = recon.create_method(name)
    method.bind(2)
    before = {key: buffer.dtype for key, buffer in method.named_buffers()}
    assert torch.float64 in before.values()
    method.to("meta")
    assert torch.float64 not in {buffer.dtype for buffer in method.buffers()}
    method.to_empty(device="cpu")
    assert {key: buffer.dtype for key, buffer in method.named_buffers()} == before
