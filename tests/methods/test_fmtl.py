"""F-MTL against closed forms on quadratics, and against separate copies of a network."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.methods import create_method

SEEDED = {"pcgrad", "graddrop"}


class Quadratics(nn.Module):
    """Losses ½ x'A x + b'x of a shared point x."""

    def __init__(self, tasks: int = 3, size: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        roots = torch.randn(tasks, size, size, generator=generator, dtype=torch.float64)
        self.hessians = roots @ roots.mT
        self.slopes = torch.randn(tasks, size, generator=generator, dtype=torch.float64)
        self.point = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))

    @property
    def tasks(self) -> list[str]:
        return [f"t{index}" for index in range(len(self.hessians))]

    def losses(self, batch: object = None) -> dict[str, Tensor]:
        values = self.point @ self.hessians @ self.point / 2 + self.slopes @ self.point
        return dict(zip(self.tasks, values, strict=True))


def step(net: Quadratics, update_scale: Any = "method", **options: Any) -> Tensor:
    """The gradient of one step."""
    engine = recon.Engine(net, net.tasks, create_method("fmtl", **options), update_scale=update_scale)
    engine.step(net.losses, torch.optim.SGD(net.parameters(), lr=0.0))
    assert net.point.grad is not None
    return net.point.grad


@pytest.mark.parametrize("name", ["cagrad", "mgda", "pcgrad", "imtl_g", "constant", "graddrop", "config"])
def test_update_is_the_sum_of_the_methods_for_low_and_for_flat_losses(name: str) -> None:
    net = Quadratics()
    options = {"seed": 5} if name in SEEDED else {}
    gradients = (net.hessians @ net.point + net.slopes).detach()
    ascents = 0.1 * gradients / gradients.norm(dim=1, keepdim=True)
    flat = (net.hessians @ ascents.unsqueeze(-1)).squeeze(-1)
    values = torch.stack(list(net.losses().values())).detach()
    low_part, flat_part = (create_method(name, **options).combine(jacobian, values) for jacobian in (gradients, flat))
    update = step(net, method=name, method_options=options, rho=0.1)
    torch.testing.assert_close(update, low_part + flat_part, rtol=1e-9, atol=1e-11)


def test_adaptive_perturbations_are_measured_by_the_parameters() -> None:
    net = Quadratics()
    gradients = (net.hessians @ net.point + net.slopes).detach()
    relative = net.point.detach().abs() * gradients
    ascents = 2.0 * net.point.detach().square() * gradients / relative.norm(dim=1, keepdim=True)
    expected = (gradients + (net.hessians @ ascents.unsqueeze(-1)).squeeze(-1)).sum(0)
    torch.testing.assert_close(step(net, method="constant", rho=2.0, adaptive=True), expected, rtol=1e-9, atol=1e-11)


def test_both_parts_follow_the_update_scale() -> None:
    torch.testing.assert_close(step(Quadratics(), "sum", method="mgda"), 3 * step(Quadratics(), method="mgda"))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleDict(
            {task: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)) for task in "ab"}
        )
        self.double()
        self.forwards = 0

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        self.forwards += 1
        features = self.backbone(x)
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sgd(net: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=lr)


def flat_grad(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def gradient(net: TwoHeads, task: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Flat gradients of one task's loss in the backbone and in its head, on a copy."""
    net = copy.deepcopy(net)
    parts = [list(net.backbone.parameters()), list(net.heads[task].parameters())]
    flat = torch.autograd.grad(net.losses(x)[task], [*parts[0], *parts[1]])
    return tuple(torch.cat([g.flatten() for g in part]) for part in (flat[: len(parts[0])], flat[len(parts[0]) :]))  # type: ignore[return-value]


def moved(net: TwoHeads, task: str, shared_step: Tensor, own_step: Tensor) -> TwoHeads:
    net = copy.deepcopy(net)
    for module, change in ((net.backbone, shared_step), (net.heads[task], own_step)):
        vector = nn.utils.parameters_to_vector(module.parameters())
        nn.utils.vector_to_parameters(vector + change, module.parameters())
    return net


def test_a_network_takes_the_step_of_the_published_algorithm(x: Tensor) -> None:
    net = TwoHeads()
    plain, sharp, own = [], [], {}
    for task in net.heads:
        shared_gradient, head_gradient = gradient(net, task, x)
        shared_step, head_step = (0.3 * g / g.norm() for g in (shared_gradient, head_gradient))
        there = gradient(moved(net, task, shared_step, head_step), task, x)
        plain.append(shared_gradient)
        sharp.append(there[0])
        own[task] = there[1]
    low, high = torch.stack(plain), torch.stack(sharp)
    cagrad = create_method("cagrad")
    expected = cagrad.combine(low) + cagrad.combine(high - low)

    engine = recon.Engine(net.backbone, list(net.heads), create_method("fmtl", rho=0.3))
    info = engine.step(lambda batch=None: net.losses(x), sgd(net))
    torch.testing.assert_close(flat_grad(net.backbone), expected, rtol=1e-9, atol=1e-11)
    for task, head in net.heads.items():
        torch.testing.assert_close(flat_grad(head), own[task], rtol=1e-9, atol=1e-11)
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), low @ low.T)


def test_parameters_come_back_bit_by_bit_and_statistics_see_one_forward(x: Tensor) -> None:
    net = TwoHeads()
    once = copy.deepcopy(net)
    once.losses(x)
    engine = recon.Engine(net.backbone, list(net.heads), create_method("fmtl", rho=1 / 3))
    engine.step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    for name, value in net.state_dict().items():
        assert torch.equal(value, once.state_dict()[name]), name


def test_an_error_in_a_perturbed_forward_leaves_the_network_as_it_was(x: Tensor) -> None:
    net = TwoHeads()
    before = copy.deepcopy(list(net.parameters()))

    def failing(batch: object = None) -> dict[str, Tensor]:
        if net.forwards == 2:
            raise ZeroDivisionError
        return net.losses(x)

    with pytest.raises(ZeroDivisionError):
        recon.Engine(net.backbone, list(net.heads), create_method("fmtl")).step(failing, sgd(net))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))


def test_a_step_costs_one_forward_more_than_tasks_and_two_backwards_a_task(x: Tensor) -> None:
    net, backwards = TwoHeads(), []
    net.backbone[0].weight.register_hook(backwards.append)
    engine = recon.Engine(net.backbone, list(net.heads), create_method("fmtl"))
    engine.step(lambda batch=None: net.losses(x), sgd(net))
    assert (net.forwards, len(backwards), engine.step_count) == (3, 4, 1)


def test_an_analyzer_sees_each_step_once_at_the_unperturbed_parameters(x: Tensor) -> None:
    maps = []
    for name in ("fmtl", "cagrad"):
        net = TwoHeads()
        analyzer = recon.ConflictAnalyzer(net.backbone, list(net.heads))
        engine = recon.Engine(net.backbone, list(net.heads), create_method(name), analyzer)
        engine.step(lambda batch=None, net=net: net.losses(x), sgd(net))
        maps.append(analyzer.conflict_map())
    for severity in (-0.3, 0.0):
        assert maps[0].scores(severity) == maps[1].scores(severity)


def test_branches_are_perturbed_and_trained_by_their_own_task(x: Tensor) -> None:
    """With every layer branched, nothing conflicts: each task takes plain SAM steps, as in its own
    network.
    """
    net = TwoHeads()
    alone = {task: copy.deepcopy(net) for task in net.heads}
    branched = recon.branch(net.backbone, ["0", "1"], list(net.heads)).double()

    def losses(batch: object = None) -> dict[str, Tensor]:
        features = branched(x)
        return {t: (head(features[t]) - i).square().mean() for i, (t, head) in enumerate(net.heads.items())}

    engine = recon.Engine(branched, list(net.heads), create_method("fmtl", method="constant", rho=0.2))
    engine.step(losses, torch.optim.SGD([*branched.parameters(), *net.heads.parameters()], lr=0.0))
    for task, separate in alone.items():
        shared, own = separate.backbone[3], [*separate.backbone[:2].parameters(), *separate.heads[task].parameters()]
        perturbed = [list(shared.parameters()), own]
        loss = separate.losses(x)[task]
        steps = [torch.autograd.grad(loss, part, retain_graph=True) for part in perturbed]
        with torch.no_grad():
            for part, gradients in zip(perturbed, steps, strict=True):
                norm = torch.cat([g.flatten() for g in gradients]).norm()
                for p, g in zip(part, gradients, strict=True):
                    p += 0.2 * g / norm
        expected = torch.autograd.grad(separate.losses(x)[task], list(separate.backbone[0].parameters()))
        copies = [p.grad for p in branched.branch_parameters(task)][: len(expected)]
        torch.testing.assert_close(copies, list(expected), rtol=1e-9, atol=1e-11)


def test_a_single_task_is_trained_plainly(x: Tensor) -> None:
    net = TwoHeads()
    expected = gradient(net, "a", x)[0]
    recon.Engine(net.backbone, ["a"], create_method("fmtl")).step(lambda: {"a": net.losses(x)["a"]}, sgd(net))
    torch.testing.assert_close(flat_grad(net.backbone), expected)


def test_a_task_without_gradient_is_not_perturbed() -> None:
    net = Quadratics()
    with torch.no_grad():
        net.hessians[0], net.slopes[0] = 0.0, 0.0
    assert step(net, method="constant").isfinite().all()


def test_each_part_has_a_state_of_its_own_in_the_checkpoint() -> None:
    def train(method: recon.Method, steps: int, net: Quadratics) -> None:
        engine = recon.Engine(net, net.tasks, method)
        for _ in range(steps):
            engine.step(net.losses, sgd(net, 0.01))

    net, options = Quadratics(), {"method": "moco"}
    method = create_method("fmtl", **options)
    train(method, 3, net)
    state = method.state_dict()
    assert {key.split(".")[0] for key in state} == {"low_loss", "flatness"}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    resumed, other = create_method("fmtl", **options), copy.deepcopy(net)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(method, 2, net)
    train(resumed, 2, other)
    assert torch.equal(net.point, other.point)


def test_seed_and_epochs_reach_both_parts() -> None:
    method = create_method("fmtl", method="pcgrad")
    method.reseed(7)
    assert method.low_loss.seed == method.flatness.seed == 7  # type: ignore[attr-defined]
    assert create_method("fmtl", method="pcgrad").scale == "sum"
    assert repr(method) == "FMTL(method='pcgrad', rho=0.05, adaptive=False, method_options=None)"


def test_a_seed_of_the_wrapped_methods_own_is_kept() -> None:
    method = create_method("fmtl", method="pcgrad", method_options={"seed": 5})
    method.reseed(7)
    assert method.low_loss.seed == method.flatness.seed == 5  # type: ignore[attr-defined]
    inner = create_method("psmgd", method="pcgrad", method_options={"seed": 5})
    inner.reseed(7)
    assert inner.wrapped.seed == 5  # type: ignore[attr-defined]


def test_each_part_has_a_torchjd_object_of_its_own() -> None:
    method = create_method("fmtl", method="torchjd", method_options={"aggregator": "GradVac"})
    parts = [part.aggregator for part in (method.low_loss, method.flatness)]  # type: ignore[attr-defined]
    assert parts[0] is not parts[1]


@pytest.mark.parametrize("name", ["cagrad", "moco", "gradvac"])
def test_steps_with_some_tasks_are_those_of_an_engine_of_these(name: str) -> None:
    some, few = Quadratics(), Quadratics()
    methods = [create_method("fmtl", method=name) for _ in range(2)]
    engines = [
        recon.Engine(some, ["absent", *some.tasks], methods[0]),
        recon.Engine(few, few.tasks, methods[1]),
    ]
    for _ in range(4):
        for engine, net in zip(engines, (some, few), strict=True):
            engine.step(net.losses, sgd(net))
        assert torch.equal(some.point, few.point)
    for own, state in methods[0].state_dict().items():
        if state.ndim == 2:
            assert not state[0].any(), own


def test_under_autocast_the_losses_are_those_of_the_moved_parameters() -> None:
    def gradient(enabled: bool) -> Tensor:
        torch.manual_seed(0)
        net, inputs = nn.Linear(8, 2), torch.randn(32, 8)

        def losses(batch: object = None) -> dict[str, Tensor]:
            return dict(zip("ab", net(inputs).float().square().mean(0), strict=True))

        engine = recon.Engine(net, ["a", "b"], create_method("fmtl", method="constant", rho=5.0))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            engine.step(losses, sgd(net, 0.0))
        return flat_grad(net)

    torch.testing.assert_close(gradient(True), gradient(False), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["joint", "fmtl", "famo"])
def test_only_methods_that_combine_task_gradients_can_be_wrapped(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"fmtl: method must combine task gradients .* '{name}' does not; .* 'constant'"
    ):
        create_method("fmtl", method=name)


@pytest.mark.parametrize("rho", [0, -1.0, float("nan"), "big"])
def test_rho_out_of_range_names_the_range(rho: Any) -> None:
    with pytest.raises(ValueError, match=r"fmtl: rho must be a finite number > 0, got"):
        create_method("fmtl", rho=rho)


@pytest.mark.parametrize("adaptive", ["false", 1, None])
def test_adaptive_is_true_or_false(adaptive: Any) -> None:
    with pytest.raises(ValueError, match="fmtl: adaptive must be True or False, got"):
        create_method("fmtl", adaptive=adaptive)


def test_options_are_a_mapping() -> None:
    with pytest.raises(
        ValueError, match=r"fmtl: method_options must map names of hyperparameters to values, got \[1\]"
    ):
        create_method("fmtl", method_options=[1])
