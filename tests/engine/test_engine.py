"""The engine as a training loop calls it."""

import pytest
import torch
from torch import Tensor, nn
from two_heads import TwoHeads, flat_grad, task_gradients

import recon


def test_update_scale_matches_the_summed_loss(x: Tensor) -> None:
    net = TwoHeads()
    gradients = {}
    for scale in ("method", "sum", "mean"):
        net.zero_grad()
        recon.backward(net.losses(x), net.backbone, recon.create_method("mgda"), update_scale=scale)
        gradients[scale] = flat_grad(net.backbone)
    torch.testing.assert_close(gradients["sum"], 2 * gradients["method"])
    torch.testing.assert_close(gradients["mean"], gradients["method"])


def test_step_zeroes_evaluates_and_steps(x: Tensor) -> None:
    net = TwoHeads()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.backbone[0].weight.detach().clone()
    jacobian = task_gradients(net, x)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("joint"))
    info = engine.step(lambda batch=None: net.losses(x), optimizer)
    assert info.step == 0
    moved = (before - net.backbone[0].weight).flatten()
    torch.testing.assert_close(moved, 0.1 * jacobian.sum(0)[engine.gradients.slices["0"]][: moved.numel()])


def test_an_engine_takes_a_methods_name_and_shows_what_it_is(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], "MGDA", update_scale="sum")
    assert repr(engine) == (
        "Engine(Sequential: 3 layers, 281 parameters; tasks: a, b; method: MGDA(normalization='none'); "
        "update_scale: sum)"
    )
    engine.analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"], every=2)
    engine.backward(net.losses(x))
    expected = "ConflictAnalyzer(Sequential: 3 layers; tasks: a, b; every=2; 1 of 1 step observed)"
    assert f"analyzer: {expected}" in repr(engine)


def test_an_engine_checks_its_parts(x: Tensor) -> None:
    net = TwoHeads()
    joint = recon.create_method("joint")
    with pytest.raises(ValueError, match="more than once"):
        recon.Engine(net.backbone, ["a", "a"], joint)
    with pytest.raises(TypeError, match="create_method"):
        recon.Engine(net.backbone, ["a", "b"], torch.optim.SGD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown method 'cagard'; nearest: 'cagrad'"):
        recon.Engine(net.backbone, ["a", "b"], "cagard")
    with pytest.raises(TypeError, match=r"make it once, before the loop, with recon.create_method\('mgda'\)"):
        recon.backward(net.losses(x), net.backbone, "mgda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no trainable parameters"):
        recon.Engine(nn.ReLU(), ["a", "b"], joint)
    with pytest.raises(ValueError, match="tasks"):
        recon.Engine(net.backbone, ["a", "b"], joint, recon.ConflictAnalyzer(net.backbone, ["a", "c"]))
    with pytest.raises(ValueError, match="another network"):
        recon.Engine(net.backbone, ["a", "b"], joint, recon.ConflictAnalyzer(nn.Linear(1, 1), ["a", "b"]))
