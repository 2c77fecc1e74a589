"""Steps on an accelerator without float64, as Apple's: the same as on the host."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from accelerator import DEVICE, OnDevice, accelerator, put
from torch import Tensor
from two_heads import TwoHeads, losses_and_features

import recon
from recon.engine.checks import At
from recon.engine.groups import Granularity
from recon.methods import GramianMethod

TASKS = ("a", "b", "c", "d")
METHODS = [name for name in recon.list_methods() if name != "torchjd"]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def gradients_of_steps(
    name: str,
    x: Tensor,
    on_device: bool,
    monkeypatch: pytest.MonkeyPatch,
    at: At = "parameters",
    analyzed: bool = False,
    granularity: Granularity = "network",
) -> list[Tensor]:
    """Gradients of a network after three steps, on the host; and the map's cosines, if analyzed."""
    net = TwoHeads(TASKS, torch.float32)
    with accelerator(monkeypatch) if on_device else nullcontext():
        if on_device:
            put(net)
            x = OnDevice(x)
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS) if analyzed else None
        engine = recon.Engine(net.backbone, TASKS, name, analyzer, at=at, granularity=granularity)
        optimizer = torch.optim.SGD([*net.parameters(), *engine.method.parameters()], lr=0.01)
        evaluate = net.losses if at == "parameters" else partial(losses_and_features, net)
        for _ in range(3):
            engine.step(lambda batch=None: evaluate(x), optimizer, validation=lambda: evaluate(x))
        engine.check_finite()
        found = [parameter.grad.cpu() for parameter in net.parameters() if parameter.grad is not None]
        if analyzer is not None:
            found.append(analyzer.conflict_map().mean_cosine)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_every_method_steps_without_float64(name: str, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = (gradients_of_steps(name, x, where, monkeypatch) for where in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["joint", "uw", "mgda", "graddrop", "psmgd", "famo", "fmtl"])
def test_conflicts_are_observed_without_float64(name: str, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = (gradients_of_steps(name, x, where, monkeypatch, analyzed=True) for where in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", recon.list_methods(GramianMethod))
def test_gradients_at_the_representation_without_float64(name: str, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    at: At = "representation"
    expected, found = (gradients_of_steps(name, x, where, monkeypatch, at) for where in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted({*recon.list_methods(GramianMethod)} - {"torchjd"}))
def test_layers_are_weighed_by_themselves_without_float64(
    name: str, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = (gradients_of_steps(name, x, where, monkeypatch, granularity="layer") for where in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_accelerator_refuses_float64_and_mixed_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with accelerator(monkeypatch):
        ones = torch.ones(2, device=DEVICE)
        assert isinstance(ones, OnDevice)
        assert (2 * ones).sum().item() == 4
        for make in (ones.double, lambda: torch.zeros(2, dtype=torch.float64, device=DEVICE)):
            with pytest.raises(AssertionError, match="float64 tensor on the device"):
                make()
        with pytest.raises(AssertionError, match="of the host and of the device"):
            ones + torch.ones(2)
        assert ones.cpu().double().dtype == torch.float64


def test_a_float64_tensor_in_a_step_is_found(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.gradients.precision._HAVE_DOUBLE", ("cpu", "cuda", DEVICE.type))
    with pytest.raises(AssertionError, match="float64 tensor on the device"):
        gradients_of_steps("joint", x, True, monkeypatch, analyzed=True)
