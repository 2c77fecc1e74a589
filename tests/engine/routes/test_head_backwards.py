"""Gradients at the representation, against separate autograd calls."""

import pytest
import torch
from torch import Tensor, nn
from two_heads import Backwards, TwoHeads, flat_grad, losses_and_features, task_gradients

import recon

GRAMIAN = ["mgda", "cagrad", "pcgrad", "aligned_mtl", "nash_mtl", "imtl_g", "upgrad"]


def test_at_the_representation_heads_train_plainly_while_the_backbone_is_frozen(x: Tensor) -> None:
    net = TwoHeads()
    net.backbone.requires_grad_(False)
    engine = recon.Engine(net.backbone, ["a", "b"], "mgda", at="representation")
    losses, features = losses_and_features(net, x)
    expected = torch.autograd.grad(losses["a"], list(net.heads["a"].parameters()), retain_graph=True)
    engine.backward(losses, features)
    torch.testing.assert_close([p.grad for p in net.heads["a"].parameters()], list(expected))
    net.backbone.requires_grad_(True)
    engine.backward(*losses_and_features(net, x))
    assert net.backbone[0].weight.grad is not None


@pytest.mark.parametrize("name", GRAMIAN)
def test_at_the_representation_the_features_gradients_are_weighted(name: str, x: Tensor) -> None:
    net = TwoHeads()
    losses, features = losses_and_features(net, x)
    rows = [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses.values()]
    at_features = torch.stack(rows).flatten(1)
    values = torch.stack(list(losses.values())).detach()
    weights = recon.create_method(name).weights(at_features @ at_features.T, values)
    own = {t: torch.autograd.grad(losses[t], list(h.parameters()), retain_graph=True) for t, h in net.heads.items()}

    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name), at="representation")
    info = engine.backward(losses, representation=features)
    assert info.weights is not None
    torch.testing.assert_close(info.weights, weights, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(flat_grad(net.backbone), weights @ task_gradients(net, x), rtol=1e-9, atol=1e-12)
    for task, head in net.heads.items():
        for parameter, gradient in zip(head.parameters(), own[task], strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert info.layer_gramians is None


@pytest.mark.parametrize("name", GRAMIAN)
def test_an_orthogonal_shared_part_makes_representation_and_parameters_one(name: str) -> None:
    """Features W x for the unit vectors x as batch: the features' gradients are those of W, in another order."""
    gradients = {}
    for at in ("parameters", "representation"):
        torch.manual_seed(0)
        shared = nn.Linear(4, 3, bias=False).double()
        heads = {task: nn.Linear(3, 1).double() for task in ("a", "b", "c")}
        features = shared(torch.eye(4, dtype=torch.float64))
        losses = {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(heads.items())}
        handed = features if at == "representation" else None
        recon.backward(losses, shared, recon.create_method(name), at=at, representation=handed)
        gradients[at] = flat_grad(shared)
    torch.testing.assert_close(gradients["representation"], gradients["parameters"], rtol=1e-8, atol=1e-12)


def test_at_the_representation_only_one_backward_runs_through_the_shared_part(x: Tensor) -> None:
    net = TwoHeads(("a", "b", "c"))
    trunk, heads = Backwards(net.backbone[0].weight), [0]
    for head in net.heads.values():
        head.register_full_backward_hook(lambda *_: heads.__setitem__(0, heads[0] + 1))
    engine = recon.Engine(net.backbone, ["a", "b", "c"], recon.create_method("mgda"), at="representation")
    losses, features = losses_and_features(net, x)
    engine.backward(losses, features)
    assert (trunk.count, heads[0]) == (1, 3)
    assert engine._setting.shared._gradients is None  # no K x P buffer
    with pytest.raises(RuntimeError, match="second time"):
        features.sum().backward()


def test_at_the_representation_grad_is_added_to_and_scaled(x: Tensor) -> None:
    net = TwoHeads()
    grads = []
    for scale in ("method", "sum", "sum"):
        losses, features = losses_and_features(net, x)
        recon.backward(
            losses, net.backbone, recon.create_method("mgda"), None, scale, at="representation", representation=features
        )
        grads.append((flat_grad(net.backbone), flat_grad(net.heads)))
    torch.testing.assert_close(grads[1][0], 3 * grads[0][0])
    torch.testing.assert_close(grads[2][0], 5 * grads[0][0])
    torch.testing.assert_close(grads[2][1], 3 * grads[0][1])


def test_an_analyzer_sees_the_parameters_gradients_and_does_not_change_the_step(x: Tensor) -> None:
    net = TwoHeads()
    jacobian, grads = task_gradients(net, x), []
    for analyzer in (None, recon.ConflictAnalyzer(net.backbone, ["a", "b"])):
        net.zero_grad()
        losses, features = losses_and_features(net, x)
        engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), analyzer, at="representation")
        info = engine.backward(losses, features)
        grads.append(flat_grad(net))
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)
    assert torch.equal(*grads)


def test_a_step_takes_the_features_from_its_closure(x: Tensor) -> None:
    net = TwoHeads()
    losses, features = losses_and_features(net, x)
    recon.backward(losses, net.backbone, recon.create_method("mgda"), at="representation", representation=features)
    expected = [p.detach() - 0.1 * p.grad for p in net.parameters() if p.grad is not None]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
    engine.step(lambda batch=None: losses_and_features(net, x), optimizer)
    torch.testing.assert_close(list(net.parameters()), expected)
    with pytest.raises(TypeError, match="needs the features"):  # the step's features are not kept for later
        engine.backward(net.losses(x))


def test_half_precision_features_are_weighted_in_full_precision() -> None:
    net = TwoHeads(dtype=torch.float32)
    x = torch.randn(4, 1, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, features = losses_and_features(net, x)
        assert features.dtype == torch.bfloat16
        engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
        info = engine.backward(losses, features)
    assert info.weights is not None
    assert info.weights.dtype == torch.float32
    assert flat_grad(net.backbone).dtype == torch.float32


def test_one_task_needs_no_representation(x: Tensor) -> None:
    net = TwoHeads(("a",))
    net.losses(x)["a"].backward()
    expected = flat_grad(net)
    net.zero_grad()
    recon.Engine(net.backbone, ["a"], recon.create_method("joint"), at="representation").backward(net.losses(x))
    torch.testing.assert_close(flat_grad(net), expected)
