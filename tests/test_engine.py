"""The engine against naive references: separate autograd calls, one a task."""

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.gradients import TaskGradients, shared_layers


class TwoHeads(nn.Module):
    def __init__(self, tasks: tuple[str, ...] = ("a", "b"), dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in tasks})
        self.to(dtype)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def task_gradients(net: TwoHeads, x: Tensor) -> Tensor:
    """(K, P) by one autograd call a task, on a fresh graph each."""
    rows = []
    for task in net.heads:
        gradients = torch.autograd.grad(net.losses(x)[task], list(net.backbone.parameters()), materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def flat_grad(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


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


class Backwards:
    """Counts backward passes by the gradients that arrive at a tensor of the trunk."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.count = 0
        parameter.register_post_accumulate_grad_hook(self)

    def __call__(self, parameter: Tensor) -> None:
        self.count += 1


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


def test_update_scale_matches_the_summed_loss(x: Tensor) -> None:
    net = TwoHeads()
    gradients = {}
    for scale in ("method", "sum", "mean"):
        net.zero_grad()
        recon.backward(net.losses(x), net.backbone, recon.create_method("mgda"), update_scale=scale)
        gradients[scale] = flat_grad(net.backbone)
    torch.testing.assert_close(gradients["sum"], 2 * gradients["method"])
    torch.testing.assert_close(gradients["mean"], gradients["method"])


def test_one_task_trains_plainly(x: Tensor) -> None:
    net = TwoHeads(("a",))
    net.losses(x)["a"].backward()
    expected = flat_grad(net)
    for name in recon.list_methods():
        net.zero_grad()
        recon.backward(net.losses(x), net.backbone, recon.create_method(name))
        torch.testing.assert_close(flat_grad(net), expected)


def test_gramian_is_not_computed_in_half_precision_under_autocast() -> None:
    net = TwoHeads(dtype=torch.float32)
    x = torch.randn(4, 1, 6, 6)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        info = engine.backward(net.losses(x))
    jacobian = engine.gradients.jacobian
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)
    assert flat_grad(net.backbone).dtype == torch.float32


def test_memory_format_of_gradients_follows_the_parameters() -> None:
    net = TwoHeads(dtype=torch.float32).to(memory_format=torch.channels_last)
    recon.backward(net.losses(torch.randn(4, 1, 6, 6)), net.backbone, recon.create_method("mgda"))
    weight = net.backbone[0].weight
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride()


def test_a_network_that_is_cast_after_construction_keeps_its_precision(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    net.double()
    engine.backward(net.losses(x))
    expected = recon.create_method("mgda").combine(task_gradients(net, x))
    torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-10, atol=1e-12)


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


def test_an_analyzer_does_not_fit_a_network_that_is_unfrozen_later(x: Tensor) -> None:
    net = TwoHeads()
    net.backbone[0].requires_grad_(False)
    analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"])
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), analyzer)
    net.backbone[0].requires_grad_(True)
    with pytest.raises(ValueError, match="another network"):
        engine.backward(net.losses(x))


def test_a_module_that_happens_to_be_called_shared_layers_is_a_module_like_any_other() -> None:
    net = nn.Module()
    net.shared_layers = nn.Sequential(nn.Linear(2, 2))
    assert list(shared_layers(net)) == ["shared_layers.0"]


def test_the_users_matmul_precision_is_neither_used_for_gramians_nor_lost(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    seen = []

    class Watch(recon.GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return torch.ones(len(gramian), dtype=torch.float64)

    torch.set_float32_matmul_precision("medium")
    try:
        recon.backward(net.losses(x.float()), net.backbone, Watch())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["ieee"]


def test_layers_own_their_parameters_and_a_tied_one_belongs_to_the_first() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.LayerNorm(2))
    net[2].weight = net[0].weight
    net[3].requires_grad_(False)
    layers = shared_layers(net)
    assert list(layers) == ["0", "2"]
    assert layers["2"] == [net[2].bias]
    assert TaskGradients(layers, 2).jacobian.shape == (2, 8)


# Bad input ------------------------------------------------------------------------------------------------------------


def test_a_missing_or_unknown_loss_is_named(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("joint"))
    with pytest.raises(ValueError, match=r"no loss for \['b'\]"):
        engine.backward({"a": net.losses(x)["a"]})
    with pytest.raises(ValueError, match=r"unknown \['c'\]"):
        engine.backward({**net.losses(x), "c": net.losses(x)["a"]})


def test_a_loss_without_graph_or_not_scalar_is_named(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    losses = net.losses(x)
    with pytest.raises(ValueError, match="loss of task 'b' has no graph"):
        engine.backward({"a": losses["a"], "b": losses["b"].detach()})
    with pytest.raises(TypeError, match=r"loss of task 'a' is 1.0; it must be a scalar tensor"):
        engine.backward({"a": 1.0, "b": losses["b"]})
    with pytest.raises(ValueError, match=r"loss of task 'a' has shape \(2,\)"):
        engine.backward({"a": losses["a"].expand(2), "b": losses["b"]})


@pytest.mark.parametrize("name", ["joint", "mgda"])
def test_a_loss_that_is_not_finite_names_task_and_step(name: str, x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name))
    engine.backward(net.losses(x))
    losses = net.losses(x)
    with pytest.raises(ValueError, match="loss of task 'b' is not finite in step 1"):
        engine.backward({"a": losses["a"], "b": losses["b"] * float("nan")})


@pytest.mark.parametrize("name", ["joint", "mgda", "graddrop"])
def test_a_gradient_that_is_not_finite_is_named(name: str) -> None:
    shared = nn.Linear(2, 2)
    engine = recon.Engine(shared, ["a", "b"], recon.create_method(name))
    x = torch.ones(1, 2)
    bad = torch.sqrt((shared(x) * 0).sum())  # finite value 0, infinite slope times zero: NaN
    with pytest.raises(ValueError, match="gradient of"):
        engine.backward({"a": shared(x).sum(), "b": bad})


def test_an_engine_checks_its_parts(x: Tensor) -> None:
    net = TwoHeads()
    joint = recon.create_method("joint")
    with pytest.raises(ValueError, match="more than once"):
        recon.Engine(net.backbone, ["a", "a"], joint)
    with pytest.raises(TypeError, match="create_method"):
        recon.Engine(net.backbone, ["a", "b"], "joint")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no trainable parameters"):
        recon.Engine(nn.ReLU(), ["a", "b"], joint)
    with pytest.raises(ValueError, match="tasks"):
        recon.Engine(net.backbone, ["a", "b"], joint, recon.ConflictAnalyzer(net.backbone, ["a", "c"]))
    with pytest.raises(ValueError, match="another network"):
        recon.Engine(net.backbone, ["a", "b"], joint, recon.ConflictAnalyzer(nn.Linear(1, 1), ["a", "b"]))
