"""A shared part that changes between steps: cast, frozen, thawed, observed."""

import pytest
import torch
from torch import Tensor
from two_heads import TwoHeads, flat_grad, task_gradients

import recon
from recon.conflict.measured import MeasuredMap


def test_a_network_that_is_cast_after_construction_keeps_its_precision(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    net.double()
    engine.backward(net.losses(x))
    expected = recon.create_method("mgda").combine(task_gradients(net, x))
    torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-10, atol=1e-12)


def test_a_layer_that_is_unfrozen_later_follows_the_method(x: Tensor) -> None:
    net = TwoHeads()
    net.backbone[0].requires_grad_(False)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    engine.backward(net.losses(x))
    net.backbone[0].requires_grad_(True)
    net.zero_grad()
    engine.backward(net.losses(x))
    expected = recon.create_method("mgda").combine(task_gradients(net, x))
    torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["mgda", "joint"])
def test_a_layer_is_observed_from_when_it_thaws_until_it_freezes(name: str, x: Tensor) -> None:
    net = TwoHeads()
    net.backbone[0].requires_grad_(False)
    analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"])
    engine = recon.Engine(net.backbone, ["a", "b"], name, analyzer)
    for frozen in (True, True, False, False, False, True):
        net.backbone[0].requires_grad_(not frozen)
        engine.backward(net.losses(x))
    cmap = analyzer.conflict_map()
    assert cmap.observations == {"0": 3, "1": 6, "4": 6}
    assert cmap.parameters["0"] == 30
    net.requires_grad_(True)
    rows = task_gradients(net, x)  # all the same in each step, since nothing was trained
    cosines = [
        torch.nn.functional.cosine_similarity(*rows[:, part], dim=0) for part in (slice(30, 36), slice(36, None))
    ]
    assert isinstance(cmap, MeasuredMap)
    torch.testing.assert_close(cmap.mean_cosine[1, 0], cosines[0])
    torch.testing.assert_close(cmap.mean_cosine[2, 0], cosines[1])


def test_an_analyzer_may_be_set_between_steps(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], "mgda")
    analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"])
    engine.backward(net.losses(x))
    net.backbone[0].requires_grad_(False)
    engine.analyzer = analyzer
    engine.backward(net.losses(x))
    assert analyzer.conflict_map().observations == {"0": 0, "1": 1, "4": 1}
    with pytest.raises(ValueError, match="the analyzer was made for tasks"):
        engine.analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "c"])
