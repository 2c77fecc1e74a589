"""Steps of one backward: a single task, known weights, a frozen shared part."""

import copy

import pytest
import torch
from torch import Tensor
from two_heads import Backwards, Known, TwoHeads, flat_grad

import recon


@pytest.mark.parametrize("values", [[0.3, 2.0], [0.0, 1.0], [-0.5, 1.0]])
@pytest.mark.parametrize("scale", ["method", "sum"])
def test_known_weights_take_one_backward_and_give_the_same_gradients(
    values: list[float], scale: str, x: Tensor
) -> None:
    net = TwoHeads()
    method = Known(values)
    engine = recon.Engine(net.backbone, ["a", "b"], method, update_scale=scale)  # type: ignore[arg-type]
    trunk, grads = Backwards(net.backbone[0].weight), []
    for backwards in (2, 1):
        net.zero_grad()
        trunk.count = 0
        info = engine.backward(net.losses(x))
        grads.append(flat_grad(net))
        assert trunk.count == backwards
    assert info.weights is not None
    torch.testing.assert_close(info.weights, method.values * engine._setting.scale_for(2))
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-10, atol=1e-12)
    assert method.steps == 2


def test_a_branched_network_takes_one_backward_a_task_whatever_is_known(x: Tensor) -> None:
    net = TwoHeads()
    net.backbone = recon.branch(net.backbone, ["0"], ["a", "b"]).double()

    def losses() -> dict[str, Tensor]:
        features = net.backbone(x)
        return {task: (head(features[task]) - i).square().mean() for i, (task, head) in enumerate(net.heads.items())}

    method = Known([0.3, 2.0])
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    trunk, grads = Backwards(net.backbone.shared[1].weight), []
    for _ in range(2):
        net.zero_grad()
        trunk.count = 0
        engine.backward(losses())
        grads.append(flat_grad(net))
        assert trunk.count == 2
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-10, atol=1e-12)
    assert method.steps == 2


def test_an_observed_step_computes_the_gradients_of_known_weights_too(x: Tensor) -> None:
    net = TwoHeads()
    method = Known([0.3, 2.0])
    engine = recon.Engine(net.backbone, ["a", "b"], method, recon.ConflictAnalyzer(net.backbone, ["a", "b"]))
    for _ in range(2):
        assert engine.backward(net.losses(x)).layer_gramians is not None
    assert method.steps == 2


def test_one_task_trains_plainly(x: Tensor) -> None:
    net = TwoHeads(("a",))
    net.losses(x)["a"].backward()
    expected = flat_grad(net)
    for name in recon.list_methods():
        net.zero_grad()
        recon.backward(net.losses(x), net.backbone, recon.create_method(name))
        torch.testing.assert_close(flat_grad(net), expected)


@pytest.mark.parametrize("name", recon.list_methods())
def test_heads_train_plainly_while_all_that_is_shared_is_frozen(name: str, x: Tensor) -> None:
    net = TwoHeads(("a", "b", "c"))
    method = recon.create_method(name)
    analyzer = recon.ConflictAnalyzer(net.backbone.requires_grad_(False), net.heads)
    engine = recon.Engine(net.backbone, list(net.heads), method, analyzer)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1)
    state = copy.deepcopy(method.state_dict())
    own = {t: torch.autograd.grad(net.losses(x)[t], list(head.parameters())) for t, head in net.heads.items()}
    info = engine.step(lambda batch=None: net.losses(x), optimizer, validation=lambda: net.losses(x))
    assert info.layer_gramians is None
    if not isinstance(method, recon.LossMethod):  # those weight heads, too
        assert str(method.state_dict()) == str(state)
        for task, head in net.heads.items():
            torch.testing.assert_close([p.grad for p in head.parameters()], list(own[task]))
    net.backbone.requires_grad_(True)
    engine.step(lambda batch=None: net.losses(x), optimizer, validation=lambda: net.losses(x))
    assert all(p.grad is not None for p in net.backbone.parameters())
    assert set(analyzer.conflict_map().observations.values()) == {3}
