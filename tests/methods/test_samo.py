"""SAMO against the published algorithm on copies of a network, and its limits."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.methods import SAMO, create_method


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5))
        self.heads = nn.ModuleDict({task: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)) for task in "ab"})
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


def move(module: nn.Module, steps: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, step in zip(module.parameters(), steps, strict=True):
            parameter.add_(step)


def scaled(steps: list[Tensor], length: float) -> list[Tensor]:
    norm = torch.cat([step.flatten() for step in steps]).norm()
    return [step * length / norm for step in steps]


def published(net: TwoHeads, x: Tensor, method: SAMO) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradients in backbone and heads by the published algorithm, on copies of the network."""
    mean = copy.deepcopy(net)
    torch.stack(list(mean.losses(x).values())).mean().backward()
    rows, own = [], {}
    for task in net.heads:
        generator = method.generator_on(x.device)
        z = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in net.backbone.parameters()]
        values = []
        for sign in (1, -1):
            beside = copy.deepcopy(net)
            move(beside.backbone, [sign * method.zo_eps * direction for direction in z])
            values.append(float(beside.losses(x)[task].detach()))
        estimate = [(values[0] - values[1]) / (2 * method.zo_eps) * direction for direction in z]
        joint = [
            (1 - method.beta) * p.grad + method.beta * p.grad.norm() * local / local.norm()
            for p, local in zip(mean.backbone.parameters(), estimate, strict=True)
            if p.grad is not None
        ]
        there = copy.deepcopy(net)
        move(there.backbone, scaled(joint, method.rho))
        gradients = [p.grad for p in mean.heads[task].parameters() if p.grad is not None]
        move(there.heads[task], scaled(gradients, method.rho))
        there.losses(x)[task].backward()
        rows.append(flat_grad(there.backbone))
        own[task] = flat_grad(there.heads[task])
    return method.wrapped.combine(torch.stack(rows)), own


@pytest.mark.parametrize("wrapped", ["fairgrad", "mgda", "constant", "graddrop"])
@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_a_network_takes_the_step_of_the_published_algorithm(x: Tensor, wrapped: str, beta: float) -> None:
    net = TwoHeads()
    method, twin = (SAMO(method=wrapped, rho=0.2, beta=beta, seed=3) for _ in range(2))
    update, own = published(net, x, twin)
    engine = recon.Engine(net.backbone, list(net.heads), method)
    engine.step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    torch.testing.assert_close(flat_grad(net.backbone), update, rtol=1e-8, atol=1e-11)
    for task, head in net.heads.items():
        torch.testing.assert_close(flat_grad(head), own[task], rtol=1e-8, atol=1e-11)


def test_an_observed_step_is_the_same_and_shows_the_plain_gradients(x: Tensor) -> None:
    grads = []
    for observed in (False, True):
        net = TwoHeads()
        analyzer = recon.ConflictAnalyzer(net.backbone, list(net.heads)) if observed else None
        engine = recon.Engine(net.backbone, list(net.heads), SAMO(rho=0.2), analyzer)
        info = engine.step(lambda batch=None, net=net: net.losses(x), sgd(net, lr=0.0))
        grads.append(torch.cat([flat_grad(net.backbone), flat_grad(net.heads)]))
    torch.testing.assert_close(grads[0], grads[1])
    parameters = list(net.backbone.parameters())
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in net.losses(x).values()]
    plain = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), plain @ plain.T)


def test_a_branched_network_takes_the_steps_of_its_copies(x: Tensor) -> None:
    """Branched layers are a task's own: they move along in the task's own gradient."""
    net = TwoHeads()
    net.backbone = recon.branch(net.backbone, ["3"], list(net.heads)).double()

    def losses(batch: object = None) -> dict[str, Tensor]:
        features = net.backbone(x)
        return {task: (head(features[task]) - i).square().mean() for i, (task, head) in enumerate(net.heads.items())}

    engine = recon.Engine(net.backbone, list(net.heads), SAMO(method="mgda", rho=1e-9))
    engine.step(losses, sgd(net, lr=0.0))
    copied = [p.grad for p in net.backbone.parameters()]
    net.zero_grad()
    plain = recon.Engine(net.backbone, list(net.heads), "mgda")
    plain.step(losses, sgd(net, lr=0.0))
    for got, expected in zip(copied, (p.grad for p in net.backbone.parameters()), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def test_no_estimate_perturbs_all_tasks_alike_and_takes_fewer_forwards(x: Tensor) -> None:
    counts = []
    for beta in (0.0, 0.5):
        net = TwoHeads()
        recon.Engine(net.backbone, list(net.heads), SAMO(beta=beta)).step(
            lambda _=None, net=net: net.losses(x), sgd(net)
        )
        counts.append(net.forwards)
    assert counts == [3, 7]


def test_parameters_come_back_bit_by_bit_and_statistics_see_one_forward(x: Tensor) -> None:
    net = TwoHeads()
    once = copy.deepcopy(net)
    once.losses(x)
    engine = recon.Engine(net.backbone, list(net.heads), SAMO(rho=1 / 3))
    engine.step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    for name, value in net.state_dict().items():
        assert torch.equal(value, once.state_dict()[name]), name


def test_a_step_with_some_of_the_tasks_is_that_of_an_engine_of_these(x: Tensor) -> None:
    grads = []
    for tasks in (["a", "b", "c"], ["a", "b"]):
        net = TwoHeads()
        engine = recon.Engine(net.backbone, tasks, SAMO(rho=0.2, seed=1))
        engine.step(lambda batch=None, net=net: net.losses(x), sgd(net, lr=0.0))
        grads.append(flat_grad(net.backbone))
    torch.testing.assert_close(grads[0], grads[1])


def test_a_single_task_trains_plainly(x: Tensor) -> None:
    net = TwoHeads()
    expected = torch.autograd.grad(net.losses(x)["a"], list(net.backbone.parameters()))
    engine = recon.Engine(net.backbone, ["a", "b"], "samo")
    engine.step(lambda batch=None: {"a": net.losses(x)["a"]}, sgd(net, lr=0.0))
    torch.testing.assert_close(flat_grad(net.backbone), torch.cat([g.flatten() for g in expected]))


def test_a_frozen_shared_part_trains_the_heads_plainly(x: Tensor) -> None:
    net = TwoHeads()
    net.backbone.requires_grad_(False)
    expected = torch.autograd.grad(net.losses(x)["b"], list(net.heads["b"].parameters()))
    recon.Engine(net.backbone, ["a", "b"], "samo").step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    torch.testing.assert_close(flat_grad(net.heads["b"]), torch.cat([g.flatten() for g in expected]))


def test_its_randomness_is_in_the_checkpoint(x: Tensor) -> None:
    net = TwoHeads()
    method, file = SAMO(rho=0.2), io.BytesIO()
    engine = recon.Engine(net.backbone, ["a", "b"], method)
    engine.step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    torch.save(method.state_dict(), file)
    engine.step(lambda batch=None: net.losses(x), sgd(net, lr=0.0))
    file.seek(0)
    resumed, other = SAMO(rho=0.2, seed=9), TwoHeads()
    resumed.load_state_dict(torch.load(file))
    recon.Engine(other.backbone, ["a", "b"], resumed).step(lambda batch=None: other.losses(x), sgd(other, lr=0.0))
    torch.testing.assert_close(flat_grad(other.backbone), flat_grad(net.backbone))


def test_backward_alone_and_accumulation_are_refused(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], "samo")
    with pytest.raises(TypeError, match="SAMO evaluates the losses several times"):
        engine.backward(net.losses(x))
    with pytest.raises(TypeError, match="SAMO"):
        engine.accumulate(net.losses(x))


def test_hyperparameters_out_of_range_are_refused() -> None:
    for name, value in (("rho", 0), ("beta", 1.5), ("zo_eps", -1)):
        with pytest.raises(ValueError, match=f"samo: {name} must be a"):
            create_method("samo", **{name: value})
    with pytest.raises(ValueError, match="samo: method must combine task gradients in one evaluation, 'famo' does not"):
        SAMO(method="famo")
    with pytest.raises(ValueError, match="samo: method must combine task gradients in one evaluation, 'samo' does not"):
        SAMO(method="samo")
