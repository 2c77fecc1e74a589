"""Groups of layers against a method of its own for each, on the group's own Jacobian."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from two_heads import TwoHeads, flat_grad, task_gradients

import recon
from recon.engine.groups import Granularity
from recon.engine.step_info import StepInfo
from recon.methods import GramianMethod
from recon.methods.base.randomness import RandomMethod

TASKS = ("a", "b", "c")
LAYERS = ("0", "1", "4")
GROUPS: dict[str, dict[str, list[str]]] = {
    "layer": {layer: [layer] for layer in LAYERS},
    "far apart": {"ends": ["4", "0"], "norm": ["1"]},
}
METHODS: dict[str, dict[str, Any]] = {
    name: {} for name in recon.list_methods(GramianMethod) if name not in ("torchjd", "krum")
}
METHODS |= {"krum": {}, "torchjd": {"aggregator": "MGDA"}}


def granularity(case: str) -> Granularity:
    return "layer" if case == "layer" else GROUPS[case]


class Naive:
    """A method for each group, and one autograd call a task; all methods draw from one generator."""

    def __init__(self, method: GramianMethod, groups: dict[str, list[str]]) -> None:
        self.groups = groups
        self.methods = {group: copy.deepcopy(method) for group in groups}
        first, *others = self.methods.values()
        for other in others:
            for one, module in zip(first.modules(), other.modules(), strict=True):
                if isinstance(one, RandomMethod) and isinstance(module, RandomMethod):
                    module.generator = one.generator

    def update(self, net: TwoHeads, x: Tensor, present: Sequence[int] | None = None) -> Tensor:
        """The update of the layers that are not frozen."""
        thawed = copy.deepcopy(net).requires_grad_(True)
        losses = torch.stack([loss.detach() for loss in thawed.losses(x).values()])
        jacobian = task_gradients(thawed, x)
        sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers(net).values()]
        parts = dict(zip(LAYERS, jacobian.split(sizes, 1), strict=True))
        update: dict[str, Tensor] = {}
        rows = [*range(len(jacobian))] if present is None else [*present]
        for group, names in self.groups.items():
            trained = [name for name in names if layers(net)[name].weight.requires_grad]
            if trained:
                own = torch.cat([parts[name][rows] for name in trained], 1)
                self.methods[group].bind(len(jacobian))
                with self.methods[group].among(rows):
                    combined = self.methods[group].combine(own, losses[rows])
                widths = [parts[name].shape[1] for name in trained]
                update |= dict(zip(trained, combined.split(widths), strict=True))
        return torch.cat([update[layer] for layer in LAYERS if layer in update])


def layers(net: TwoHeads) -> dict[str, Any]:
    return {layer: net.backbone.get_submodule(layer) for layer in LAYERS}


def move(net: TwoHeads) -> None:
    """A step along the gradients, after which they are gone."""
    with torch.no_grad():
        for p in net.parameters():
            p.sub_(0.1 * (torch.zeros_like(p) if p.grad is None else p.grad))
    net.zero_grad()


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("name", METHODS)
def test_each_group_has_the_update_of_a_method_of_its_own(name: str, case: str, x: Tensor) -> None:
    method, net = recon.create_method(name, **METHODS[name]), TwoHeads(TASKS)
    assert isinstance(method, GramianMethod)
    naive = Naive(method, GROUPS[case])
    engine = recon.Engine(net.backbone, TASKS, method, granularity=granularity(case))
    assert engine.groups == tuple(GROUPS[case])
    for _ in range(3):
        expected = naive.update(net, x)
        info = engine.backward(net.losses(x))
        torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-7, atol=1e-10)
        assert info.weights is not None
        assert info.weights.shape == (len(GROUPS[case]), 3)
        move(net)


def test_one_group_of_all_layers_is_the_network(x: Tensor) -> None:
    updates = []
    for groups in ("network", {"all": [*LAYERS]}):
        net = TwoHeads(TASKS)
        info = recon.backward(net.losses(x), net.backbone, recon.create_method("cagrad"), granularity=groups)
        assert info.weights is not None
        updates.append((flat_grad(net), info.weights.flatten()))
    torch.testing.assert_close(updates[0], updates[1])


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "gradvac", "imtl", "gradnorm", "psmgd", "cr_mogm"])
def test_groups_freeze_and_thaw_with_their_state(name: str, x: Tensor) -> None:
    method, net = recon.create_method(name), TwoHeads(TASKS)
    assert isinstance(method, GramianMethod)
    naive = Naive(method, GROUPS["layer"])
    engine = recon.Engine(net.backbone, TASKS, method, granularity="layer")
    for frozen in ((), ("1",), ("1", "0"), (), ()):
        for layer, module in layers(net).items():
            module.requires_grad_(layer not in frozen)
        expected = naive.update(net, x)
        info = engine.backward(net.losses(x))
        torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-7, atol=1e-10)
        assert info.weights is not None
        for row, layer in zip(info.weights, LAYERS, strict=True):
            assert bool(row.any()) == (layer not in frozen)
        move(net)


@pytest.mark.parametrize("name", ["mgda", "gradvac", "imtl", "gradnorm", "modo", "cr_mogm", "config"])
def test_groups_are_weighed_among_the_tasks_that_are_there(name: str, x: Tensor) -> None:
    method, net = recon.create_method(name), TwoHeads(TASKS)
    assert isinstance(method, GramianMethod)
    naive = Naive(method, GROUPS["layer"])
    engine = recon.Engine(net.backbone, TASKS, method, granularity="layer")
    for present in ((0, 1, 2), (0, 2), (1, 2), (0, 1, 2)):
        expected = naive.update(net, x, present)
        losses = net.losses(x)
        info = engine.backward({TASKS[task]: losses[TASKS[task]] for task in present})
        torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-7, atol=1e-10)
        assert info.weights is not None
        assert [bool(column.any()) for column in info.weights.T] == [task in present for task in range(3)]
        move(net)
    losses = net.losses(x)
    (alone,) = torch.autograd.grad(net.losses(x)["b"], net.backbone[0].weight)
    engine.backward({"b": losses["b"]})
    torch.testing.assert_close(net.backbone[0].weight.grad, alone)


def test_micro_batches_are_summed_before_groups_are_weighed(x: Tensor) -> None:
    updates = []
    for parts in (1, 2):
        net = TwoHeads(TASKS).eval()
        engine = recon.Engine(net.backbone, TASKS, recon.create_method("mgda"), granularity="layer")
        *first, last = x.chunk(parts)
        for part in first:
            engine.accumulate(net.losses(part))
        engine.backward(net.losses(last))
        updates.append(flat_grad(net))
    torch.testing.assert_close(updates[1], updates[0])


def test_scaled_losses_do_not_change_the_weights(x: Tensor) -> None:
    grads = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        net = TwoHeads(TASKS)
        engine = recon.Engine(net.backbone, TASKS, recon.create_method("cagrad"), scaler=scaler, granularity="layer")
        info = engine.backward({task: loss + 0 * loss.half().double() for task, loss in net.losses(x).items()})
        grads.append((flat_grad(net) / (1024 if scaler else 1), info.weights))
    torch.testing.assert_close(grads[1], grads[0])


def test_float32_gradients_that_nearly_depend_are_weighed_in_float64() -> None:
    backbone = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False))
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    net = copy.deepcopy(backbone).double()

    def losses(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        features = network(inputs)
        return {"a": features.square().mean(), "b": (features.square() + 1e-3 * features).mean()}

    for method in ("mgda", "cagrad"):
        backbone.zero_grad()
        net.zero_grad()
        info = recon.backward(losses(backbone, x), backbone, recon.create_method(method), granularity="layer")
        recon.backward(losses(net, x.double()), net, recon.create_method(method), granularity="layer")
        assert info.layer_cosines is not None
        assert info.layer_cosines[:, 0, 1].min() > 0.999
        for ours, expected in zip(backbone.parameters(), net.parameters(), strict=True):
            assert ours.grad is not None
            assert expected.grad is not None
            size = expected.grad.norm().item()
            torch.testing.assert_close(ours.grad.double(), expected.grad, rtol=0, atol=1e-3 * size)


def test_an_analyzer_sees_the_raw_layer_gramians(x: Tensor) -> None:
    net = TwoHeads(TASKS)
    analyzer = recon.ConflictAnalyzer(net.backbone, TASKS)
    engine = recon.Engine(net.backbone, TASKS, "psmgd", analyzer, granularity="layer")
    for _ in range(2):
        info = engine.backward(net.losses(x))
    jacobian = task_gradients(net, x)
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)
    assert analyzer.observed_steps == 2


def test_weights_that_psmgd_keeps_differ_by_layer(x: Tensor) -> None:
    net = TwoHeads(TASKS)
    engine = recon.Engine(net.backbone, TASKS, recon.create_method("psmgd", every=2), granularity="layer")
    infos: list[StepInfo] = []
    for _ in range(3):
        infos.append(engine.backward(net.losses(x)))
        move(net)
    first, second, third = (info.weights for info in infos)
    assert first is not None
    assert second is not None
    assert third is not None
    assert torch.equal(first, second)
    assert not torch.equal(second, third)
    assert len(torch.unique(first, dim=0)) == 3


def test_a_refused_step_leaves_the_state_of_all_groups(x: Tensor) -> None:
    net = TwoHeads(TASKS)
    engine = recon.Engine(net.backbone, TASKS, "cr_mogm", granularity="layer")
    engine.backward(net.losses(x))
    before = copy.deepcopy(engine.method.state_dict())
    losses = net.losses(x)
    with pytest.raises(ValueError, match="the gradient of task 'b' is not finite in step 1"):
        engine.backward(losses | {"b": losses["b"] + (net.backbone(x).sum() * 0).sqrt()})
    for name, value in engine.method.state_dict().items():
        assert torch.equal(value, before[name])


def test_state_of_groups_is_of_one_granularity() -> None:
    net = TwoHeads(TASKS)
    method = recon.create_method("modo")
    engine = recon.Engine(net.backbone, TASKS, method, granularity="layer")
    assert str(engine).endswith("method: MoDo(gamma=0.1, rho=0.1); granularity: layer)")
    assert (engine.granularity, engine.groups) == ("layer", LAYERS)
    recon.Engine(net.backbone, TASKS, method, granularity="layer")
    with pytest.raises(ValueError, match=r"has the state of 3 groups of layers, and granularity='network' has none"):
        recon.Engine(net.backbone, TASKS, method)
    with pytest.raises(ValueError, match=r"has the state of 3 groups of layers, got 2"):
        recon.Engine(net.backbone, TASKS, method, granularity={"norm": ["1"]})
    engine = recon.Engine(net.backbone, TASKS, "mgda", granularity={"norm": ["1"]})
    assert "granularity: 1 group (norm)" in str(engine)
