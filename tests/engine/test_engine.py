"""The engine against naive references: separate autograd calls, one a task."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.conflict.measured import MeasuredMap
from recon.gradients.buffer import TaskGradients
from recon.gradients.layers import shared_layers


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


class Rows(nn.Module):
    """A shared point whose K task gradients are the rows of a matrix."""

    def __init__(self, jacobian: Tensor) -> None:
        super().__init__()
        self.jacobian, self.point = jacobian, nn.Parameter(torch.zeros(jacobian.shape[1]))

    def losses(self) -> dict[str, Tensor]:
        return {f"t{i}": row @ self.point + 1 for i, row in enumerate(self.jacobian)}


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 3e-4, 1e-4])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "name", ["mgda", "cagrad", "upgrad", "dualproj", "imtl_g", "nash_mtl", "fairgrad", "aligned_mtl"]
)
def test_gradients_that_nearly_depend_on_each_other_are_told_apart_in_float32(
    name: str, sign: int, distance: float
) -> None:
    for seed in range(3):
        jacobian = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(seed))
        jacobian[1] = sign * jacobian[0] + distance * jacobian[1]
        net = Rows(jacobian)
        recon.backward(net.losses(), net, recon.create_method(name))
        assert net.point.grad is not None
        expected = recon.create_method(name).combine(jacobian)
        torch.testing.assert_close(net.point.grad, expected, rtol=0, atol=1e-4 * float(jacobian[0].norm()))


@pytest.mark.parametrize("name", ["imtl_g", "nash_mtl", "cagrad"])
def test_float32_inner_products_of_regular_gradients_are_taken_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.engine.routes.weights.gramian_of", pytest.fail)
    net = Rows(torch.randn(5, 20_000, generator=torch.Generator().manual_seed(0)))
    recon.backward(net.losses(), net, recon.create_method(name))
    assert net.point.grad is not None
    torch.testing.assert_close(net.point.grad, recon.create_method(name).combine(net.jacobian), rtol=0, atol=1e-4)


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


@pytest.mark.parametrize("name", recon.list_methods())
def test_heads_train_plainly_while_all_that_is_shared_is_frozen(name: str, x: Tensor) -> None:
    net = TwoHeads(("a", "b", "c"))
    method = recon.create_method(name)
    analyzer = recon.ConflictAnalyzer(net.backbone.requires_grad_(False), net.heads)
    engine = recon.Engine(net.backbone, list(net.heads), method, analyzer)
    optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1)
    state = copy.deepcopy(method.state_dict())
    own = {t: torch.autograd.grad(net.losses(x)[t], list(head.parameters())) for t, head in net.heads.items()}
    info = engine.step(lambda batch=None: net.losses(x), optimizer)
    assert info.layer_gramians is None
    if not isinstance(method, recon.LossMethod):  # those weight heads, too
        assert str(method.state_dict()) == str(state)
        for task, head in net.heads.items():
            torch.testing.assert_close([p.grad for p in head.parameters()], list(own[task]))
    net.backbone.requires_grad_(True)
    engine.step(lambda batch=None: net.losses(x), optimizer)
    assert all(p.grad is not None for p in net.backbone.parameters())
    assert set(analyzer.conflict_map().observations.values()) == {3}


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


# Gradients at the representation --------------------------------------------------------------------------------------


def losses_and_features(net: TwoHeads, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    features = net.backbone(x)
    return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(net.heads.items())}, features


GRAMIAN = ["mgda", "cagrad", "pcgrad", "aligned_mtl", "nash_mtl", "imtl_g", "upgrad"]


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


# Weights that are known before the backward ---------------------------------------------------------------------------


class Known(recon.GramianMethod):
    """Fixed weights, of which it tells in every step but the first."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values, self.steps = torch.tensor(values, dtype=torch.float64), 0

    def known_weights(self) -> Tensor | None:
        if self.steps == 0:
            return None
        self.steps += 1
        return self.values

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.steps += 1
        return self.values


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
    torch.testing.assert_close(info.weights, method.values * engine._setting.scale)
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


# Methods that evaluate the losses several times -----------------------------------------------------------------------


def test_a_row_becomes_the_change_of_its_gradient_and_grad_of_the_shared_part_stays(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    engine.backward(net.losses(x))
    before, kept = task_gradients(net, x), flat_grad(net.backbone)
    net.heads["b"].zero_grad()
    engine.task_gradient_change("b", net.losses(2 * x))
    jacobian = torch.stack([before[0], task_gradients(net, 2 * x)[1] - before[1]])
    torch.testing.assert_close(engine.gradients.jacobian, jacobian)
    assert torch.equal(flat_grad(net.backbone), kept)
    own = torch.autograd.grad(net.losses(2 * x)["b"], list(net.heads["b"].parameters()))
    torch.testing.assert_close([p.grad for p in net.heads["b"].parameters()], list(own))


def test_a_combination_of_the_jacobian_is_added_to_grad_at_the_engines_scale(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), update_scale="sum")
    engine.backward(net.losses(x))
    before = flat_grad(net.backbone)
    for times in (1, 2):
        engine.add_combination(lambda jacobian: jacobian[0] - jacobian[1])
        expected = before + times * 2 * (engine.gradients.jacobian[0] - engine.gradients.jacobian[1])
        torch.testing.assert_close(flat_grad(net.backbone), expected)


def test_a_layer_that_ran_only_before_a_change_is_zero_again_in_the_next_step(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    engine.backward(net.losses(x))
    without = {task: net.backbone[4].bias.sum() for task in net.heads}
    engine.task_gradient_change("a", without)
    engine.backward({task: net.backbone[4].bias.square().sum() + i for i, task in enumerate(net.heads)})
    assert not engine.gradients.jacobian[:, engine.gradients.slices["0"]].any()


def test_own_gradients_are_each_tasks_in_its_own_parameters_shared_heads_too(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    features, common = net.backbone(x), net.heads["a"]
    losses = {"a": common(features).square().mean(), "b": common(features).sum()}
    for (parameters, gradients), loss in zip(engine.own_gradients(losses), losses.values(), strict=True):
        assert set(parameters) == set(common.parameters())
        torch.testing.assert_close(gradients, list(torch.autograd.grad(loss, parameters, retain_graph=True)))
    with pytest.raises(ValueError, match="no loss for"):
        engine.own_gradients({"a": losses["a"]})


def test_own_parameters_are_those_of_head_and_branches(x: Tensor) -> None:
    net = TwoHeads()
    backbone = recon.branch(net.backbone, ["4"], ["a", "b"]).double()
    engine = recon.Engine(backbone, ["a", "b"], recon.create_method("mgda"))
    features = backbone(x)
    for task, head in net.heads.items():
        expected = {*head.parameters(), *backbone.branch_parameters(task)}
        assert set(engine.own_parameters(head(features[task]).sum())) == expected


def test_parameters_of_a_method_that_the_optimizer_lacks_are_warned_of(x: Tensor) -> None:
    net, method = TwoHeads(), recon.create_method("uw")
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    with pytest.warns(UserWarning, match=r"UW has parameters that the optimizer does not train; .*method.parameters"):
        engine.step(lambda batch=None: net.losses(x), torch.optim.SGD(net.parameters(), lr=0.1))
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1)
        engine.step(lambda batch=None: net.losses(x), optimizer)


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


def test_an_engine_takes_a_methods_name_and_shows_what_it_is(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], "MGDA", update_scale="sum")
    assert repr(engine) == (
        "Engine(Sequential: 3 layers, 281 parameters; tasks: a, b; method: MGDA(normalization='none'); "
        "update_scale: sum)"
    )
    engine.analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"], every=2)
    engine.backward(net.losses(x))
    expected = "ConflictAnalyzer(Sequential: 3 layers; tasks: a, b; every=2; 1 of 1 steps observed)"
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


@pytest.mark.parametrize("name", ["graddrop", "moco", "trimmed_mean", "fmtl"])
def test_a_jacobian_method_is_refused_at_the_representation_by_name(name: str) -> None:
    net, method = TwoHeads(), recon.create_method(name)
    with pytest.raises(
        ValueError, match=f"{type(method).__name__} needs the Jacobian .* Gramian method: .*cagrad, .*mgda"
    ):
        recon.Engine(net.backbone, ["a", "b"], method, at="representation")


def test_loss_methods_branches_and_unknown_places_are_refused_at_the_representation() -> None:
    net = TwoHeads()
    with pytest.raises(ValueError, match="Joint weights losses and takes one backward"):
        recon.Engine(net.backbone, ["a", "b"], recon.create_method("joint"), at="representation")
    branched = recon.branch(net.backbone, ["4"], ["a", "b"])
    with pytest.raises(ValueError, match=r"branched network .* use at='parameters'"):
        recon.Engine(branched, ["a", "b"], recon.create_method("mgda"), at="representation")
    with pytest.raises(ValueError, match="at must be 'parameters' or 'representation', got 'features'"):
        recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="features")  # type: ignore[arg-type]


def test_a_representation_that_is_none_is_refused(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
    losses, features = losses_and_features(net, x)
    with pytest.raises(TypeError, match="needs the features"):
        engine.backward(losses)
    with pytest.raises(TypeError, match="of type dict"):
        engine.backward(losses, {"a": features})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not detached"):
        engine.backward(losses, features.detach())
    with pytest.raises(ValueError, match="no loss reaches the representation"):
        engine.backward(losses_past(net, x, 0.0)[0], features)
    with pytest.raises(ValueError, match="past the representation"):
        engine.backward(*losses_past(net, x, 1.0))
    at_parameters = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    with pytest.raises(ValueError, match="make it with at='representation'"):
        at_parameters.backward(net.losses(x), features)


def losses_past(net: TwoHeads, x: Tensor, decay: float) -> tuple[dict[str, Tensor], Tensor]:
    """Losses that also decay the shared weights; without decay, losses of the heads alone."""
    losses, features = losses_and_features(net, x)
    if decay:
        return {t: loss + decay * net.backbone[4].weight.square().sum() for t, loss in losses.items()}, features
    return {t: head.weight.square().sum() for t, head in net.heads.items()}, features


def test_what_a_method_refuses_is_named_by_task_and_step(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("gls"))
    engine.backward(net.losses(x))
    with pytest.raises(ValueError, match=r"gls: .* -1 at task index 1; .* \(step 1; tasks: 0 'a', 1 'b'\)"):
        engine.backward({"a": net.losses(x)["a"], "b": net.losses(x)["b"] * 0 - 1})


def test_losses_that_are_no_mapping_are_refused(x: Tensor) -> None:
    net = TwoHeads()
    for name in ("mgda", "fmtl"):
        engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method(name))
        with pytest.raises(TypeError, match="losses must be a mapping of tasks to scalar losses, got Tensor"):
            engine.step(lambda batch=None: sum(net.losses(x).values()), torch.optim.SGD(net.parameters(), lr=0.1))  # type: ignore[arg-type,return-value]


def test_at_the_representation_a_closure_of_losses_alone_is_told_what_to_return(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"), at="representation")
    with pytest.raises(TypeError, match=r"return \(losses, features\) from the closure"):
        engine.step(lambda batch=None: net.losses(x), torch.optim.SGD(net.parameters(), lr=0.1))


@pytest.mark.parametrize("name", ["fmtl", "famo"])
def test_a_method_that_evaluates_again_is_not_run_on_one_evaluation(name: str, x: Tensor) -> None:
    net, method = TwoHeads(), recon.create_method(name)
    expected = f"{type(method).__name__} evaluates the losses several times a step; train with engine.step"
    with pytest.raises(TypeError, match=expected):
        recon.backward(net.losses(x), net.backbone, method)


def test_a_weight_that_is_not_finite_is_named_in_observed_steps_too(x: Tensor) -> None:
    class Logarithms(recon.LossMethod):
        def loss_weights(self, losses: Tensor) -> Tensor:
            return 1 / losses

        def objective(self, losses: Tensor) -> Tensor:
            return losses.log().sum()

    net = TwoHeads()
    for analyzer in (None, recon.ConflictAnalyzer(net.backbone, ["a", "b"])):
        with pytest.raises(ValueError, match="is not finite in step 0"):
            recon.backward(net.losses(x) | {"a": net.losses(x)["a"] * 0}, net.backbone, Logarithms(), analyzer)


def test_weights_beyond_the_parameters_precision_are_named(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    with pytest.raises(ValueError, match="the update of Known is not finite in step 0"):
        recon.backward(net.losses(x.float()), net.backbone, Known([1e39, 1.0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_named(bad: float, x: Tensor) -> None:
    class Bad(recon.JacobianMethod):
        def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
            return jacobian[0] * bad

    net = TwoHeads()
    with pytest.raises(ValueError, match=r"Bad\(\) returned NaN or infinity in the update.* \(step 0; tasks"):
        recon.backward(net.losses(x), net.backbone, Bad())
