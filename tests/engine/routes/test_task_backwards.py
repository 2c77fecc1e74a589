"""One backward a task, against naive references: separate autograd calls."""

import pytest
import torch
from torch import Tensor, nn
from two_heads import Backwards, TwoHeads, flat_grad, task_gradients

import recon


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "cagrad", "graddrop"])
def test_update_is_the_methods_combination_of_separate_task_gradients(name: str, x: Tensor) -> None:
    net = TwoHeads()
    expected = recon.create_method(name, seed=3) if name in ("pcgrad", "graddrop") else recon.create_method(name)
    method = recon.create_method(name, seed=3) if name in ("pcgrad", "graddrop") else recon.create_method(name)
    update = expected.combine(task_gradients(net, x))
    recon.backward(net.losses(x), shared=net.backbone, method=method)
    torch.testing.assert_close(flat_grad(net.backbone), update, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["joint", "mgda", "pcgrad", "cagrad", "graddrop"])
def test_heads_receive_their_own_tasks_gradient(name: str, x: Tensor) -> None:
    net = TwoHeads()
    own = {t: torch.autograd.grad(net.losses(x)[t], list(head.parameters())) for t, head in net.heads.items()}
    recon.backward(net.losses(x), shared=net.backbone, method=recon.create_method(name))
    for task, head in net.heads.items():
        for parameter, gradient in zip(head.parameters(), own[task], strict=True):
            torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("name", ["joint", "mgda", "cagrad"])
def test_adds_to_grad_as_backward_does(name: str, x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name))
    engine.backward(net.losses(x))
    once = flat_grad(net)
    engine.backward(net.losses(x))
    torch.testing.assert_close(flat_grad(net), 2 * once)


def test_weighted_joint_weights_heads_too_and_so_does_the_observed_step(x: Tensor) -> None:
    net = TwoHeads()
    (2 * net.losses(x)["a"] + 0.5 * net.losses(x)["b"]).backward()
    expected = flat_grad(net)
    for analyzer in (None, recon.ConflictAnalyzer(net.backbone, ["a", "b"])):
        net.zero_grad()
        recon.backward(net.losses(x), net.backbone, recon.create_method("joint", weights=[2, 0.5]), analyzer)
        torch.testing.assert_close(flat_grad(net), expected)


def test_layer_gramians_are_of_raw_task_gradients_and_sum_to_the_gramian(x: Tensor) -> None:
    net = TwoHeads()
    jacobian = task_gradients(net, x)
    for method in (recon.create_method("mgda"), recon.create_method("joint", weights=[2, 0.5])):
        engine = recon.Engine(net.backbone, ["a", "b"], method, recon.ConflictAnalyzer(net.backbone, ["a", "b"]))
        info = engine.backward(net.losses(x))
        assert info.layer_gramians is not None
        torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)
        columns = engine.gradients.slices["1"]
        torch.testing.assert_close(info.layer_gramians[1], jacobian[:, columns] @ jacobian[:, columns].T)
        cosine = torch.nn.functional.cosine_similarity(*jacobian, dim=0)
        assert info.cosines is not None
        torch.testing.assert_close(info.cosines[0, 1], cosine)


@pytest.mark.parametrize("weights", [[2.0, 0.0], [1.0, 1e-30]])
def test_gradients_of_a_task_of_no_weight_are_observed_too(weights: list[float], x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    method = recon.create_method("joint", weights=weights)
    recon.backward(net.losses(x.float()), net.backbone, method)
    plain = flat_grad(net)
    net.zero_grad()
    engine = recon.Engine(net.backbone, ["a", "b"], method, recon.ConflictAnalyzer(net.backbone, ["a", "b"]))
    info = engine.backward(net.losses(x.float()))
    torch.testing.assert_close(flat_grad(net), plain)
    jacobian = task_gradients(net, x.float())
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)


@pytest.mark.parametrize(("name", "every", "expected"), [("joint", None, 3), ("joint", 2, 5), ("mgda", None, 6)])
def test_joint_takes_one_backward_unless_observed(name: str, every: int | None, expected: int, x: Tensor) -> None:
    net = TwoHeads()
    analyzer = None if every is None else recon.ConflictAnalyzer(net.backbone, ["a", "b"], every=every)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name), analyzer)
    backwards = Backwards(net.backbone[0].weight)
    for _ in range(3):
        engine.backward(net.losses(x))
    assert backwards.count == expected


def test_a_parameter_that_no_loss_reaches_keeps_grad_none_and_stale_rows_are_cleared() -> None:
    shared = nn.ModuleDict({"one": nn.Linear(2, 2), "two": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    engine = recon.Engine(shared, ["a", "b"], recon.create_method("pcgrad"))
    x = torch.ones(1, 2)
    engine.backward({"a": shared["one"](x).sum(), "b": shared["two"](x).sum()})
    assert shared["idle"].weight.grad is None
    shared.zero_grad()
    engine.backward({"a": shared["two"](x).sum(), "b": shared["two"](x).square().sum()})
    assert shared["one"].weight.grad is None
    assert not engine.gradients.jacobian[:, engine.gradients.slices["one"]].any()


def test_graph_is_freed_after_the_last_task(x: Tensor) -> None:
    net = TwoHeads()
    losses = net.losses(x)
    recon.backward(losses, net.backbone, recon.create_method("mgda"))
    with pytest.raises(RuntimeError, match="second time"):
        losses["b"].backward()


def test_memory_format_of_gradients_follows_the_parameters() -> None:
    net = TwoHeads(dtype=torch.float32).to(memory_format=torch.channels_last)
    recon.backward(net.losses(torch.randn(4, 1, 6, 6)), net.backbone, recon.create_method("mgda"))
    weight = net.backbone[0].weight
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride()
