import copy

import pytest
import scipy.optimize
import torch
from one_layer import Network, batch
from torch import Tensor, nn

import recon
from recon.methods import FORUM
from recon.methods.forum import best_shares

TASKS = ["a", "b"]


def losses(network: Network, x: Tensor) -> dict[str, Tensor]:
    return dict(zip(TASKS, network(x), strict=True))


def train(network: Network, method: FORUM, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Train by the engine, two steps an epoch, with a batch for training and one for validation."""
    engine = recon.Engine(network.backbone, TASKS, method)
    for step in range(steps):
        engine.step(
            lambda other=None, s=step: losses(network, batch(s)),
            optimizer,
            validation=lambda s=step: losses(network, batch(s + 50)),
        )
        if step % 2:
            method.end_epoch()


def flat(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [torch.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(gradients, parameters, strict=True)]
    ).double()


def published(steps: int, rho: float, eta: float, inner_steps: int, lr: float) -> tuple[Network, Tensor, float]:
    """The published training loop; its convex problem of two tasks by a search in one number."""
    network = Network(TASKS)
    logits = nn.Parameter(torch.full((2,), 0.5, dtype=torch.float64))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    adam = torch.optim.Adam([logits], lr=lr)
    shares = torch.zeros(2, dtype=torch.float64)
    for step in range(steps):
        parameters: list[Tensor] = list(network.parameters())
        g_f = flat(logits.softmax(0) @ network(batch(step)), [logits, *parameters])
        inner = copy.deepcopy(network)
        descent = torch.optim.SGD(inner.parameters(), lr=eta)
        for _ in range(inner_steps):
            descent.zero_grad()
            (logits.softmax(0).detach() @ inner(batch(step))).backward()
            descent.step()
        g_q = g_f - flat(logits.softmax(0) @ inner(batch(step)).detach(), [logits, *parameters])
        rows = torch.stack([flat(loss, [logits, *parameters]) for loss in network(batch(step + 50))])
        rows = rows / rows.norm(dim=1, keepdim=True)
        pi = rho - rows @ g_q / g_q.square().sum()

        def objective(first: float, rows: Tensor = rows, pi: Tensor = pi, g_q: Tensor = g_q) -> float:
            weights = torch.tensor([first, 1 - first], dtype=torch.float64)
            nu = (weights @ pi).clamp(min=0)
            return float((weights @ rows + nu * g_q).square().sum() - nu * rho * g_q.square().sum())

        found = scipy.optimize.minimize_scalar(objective, bounds=(0, 1), method="bounded", options={"xatol": 1e-12})
        first = min([found.x, 0.0, 1.0], key=objective)
        now = torch.tensor([first, 1 - first], dtype=torch.float64)
        shares = shares + (now - shares) / (step // 2 + 1) ** 0.75
        nu = (shares @ pi).clamp(min=0)
        update = shares @ rows + nu * g_q
        adam.zero_grad()
        logits.grad = update[:2].clone()
        start = 2
        for parameter in parameters:
            parameter.grad = update[start : start + parameter.numel()].view_as(parameter).clone()
            start += parameter.numel()
        adam.step()
        optimizer.step()
    return network, logits.softmax(0).detach(), float(nu)


@pytest.mark.parametrize("rho", [0.1, 2.0])
def test_follows_the_published_loop(rho: float) -> None:
    network, method = Network(TASKS), FORUM(rho=rho, eta=0.05, inner_steps=3, lr=0.01)
    train(network, method, torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), steps=6)
    expected, weights, nu = published(6, rho, 0.05, 3, 0.01)
    torch.testing.assert_close(method.simplex(), weights, rtol=1e-5, atol=1e-6)
    assert float(method.multiplier) == pytest.approx(nu, rel=1e-4, abs=1e-5)
    for own, reference in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 3.0])
def test_no_other_shares_solve_the_convex_problem_better(tasks: int, rate: float) -> None:
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        rows = nn.functional.normalize(torch.randn(tasks, 8, generator=draw, dtype=torch.float64), dim=1)
        q = nn.functional.normalize(torch.randn(8, generator=draw, dtype=torch.float64), dim=0)

        def objective(shares: Tensor, rows: Tensor = rows, q: Tensor = q) -> Tensor:
            """In units of |q|: ν q has the length v, at least rate - λ·along."""
            combined = shares @ rows
            v = (rate - combined @ q).clamp(min=0)
            return (combined + v[:, None] * q).square().sum(1) - rate * v

        ours = torch.from_numpy(best_shares((rows @ rows.T).numpy(), (rows @ q).numpy(), rate))
        others = torch.distributions.Dirichlet(torch.full((tasks,), 0.3, dtype=torch.float64)).sample((5_000,))
        near = ours + 1e-3 * (others - ours)
        assert objective(ours[None]) <= torch.cat([objective(others), objective(near)]).min() + 1e-9


def test_a_step_with_some_of_the_tasks_moves_their_weights_alone() -> None:
    network = Network(TASKS)
    method = FORUM(rho=1.0, lr=0.1)
    engine = recon.Engine(network.backbone, [*TASKS, "absent"], method)
    engine.step(
        lambda other=None: losses(network, batch(0)),
        torch.optim.SGD(network.parameters(), lr=0.05),
        validation=lambda: losses(network, batch(1)),
    )
    assert method.simplex.logits[2] == 0
    assert method.simplex.logits[:2].all()
    torch.testing.assert_close(method.shares[2], torch.tensor(1 / 3, dtype=torch.float64))
    torch.testing.assert_close(method.shares.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_a_single_task_trains_plainly() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, "forum")
    before = [parameter.clone() for parameter in network.heads["a"].parameters()]
    gradients = torch.autograd.grad(network(batch(0))[0], list(network.heads["a"].parameters()))
    engine.step(
        lambda other=None: {"a": network(batch(0))[0]},
        torch.optim.SGD(network.parameters(), lr=0.1),
        validation=dict,
    )
    for parameter, start, gradient in zip(network.heads["a"].parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter, start - 0.1 * gradient)


def test_without_validation_labels_it_descends_on_the_training_losses_at_the_rate_rho() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, FORUM(rho=0.3))
    expected = 0.3 * flat(network(batch(0)).mean(), list(network.parameters()))
    engine.step(
        lambda other=None: losses(network, batch(0)), torch.optim.SGD(network.parameters(), lr=0.1), validation=dict
    )
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in network.parameters()]), expected)  # type: ignore[union-attr]


def test_the_engines_scale_multiplies_the_whole_update() -> None:
    updates = []
    for scale in ("method", "sum"):
        network = Network(TASKS)
        engine = recon.Engine(network.backbone, TASKS, "forum", update_scale=scale)  # type: ignore[arg-type]
        engine.step(
            lambda other=None, n=network: losses(n, batch(0)),
            torch.optim.SGD(network.parameters(), lr=0.0),
            validation=lambda n=network: losses(n, batch(1)),
        )
        updates.append(torch.cat([p.grad.flatten() for p in network.parameters()]))  # type: ignore[union-attr]
    torch.testing.assert_close(2 * updates[0], updates[1])


def test_a_descent_that_diverges_ends_early() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, FORUM(eta=1e4, inner_steps=50))
    engine.step(
        lambda other=None: losses(network, batch(0)),
        torch.optim.SGD(network.parameters(), lr=0.1),
        validation=lambda: losses(network, batch(1)),
    )
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_a_descent_to_losses_that_are_not_finite_is_refused_and_leaves_the_method() -> None:
    network, method = Network(TASKS), FORUM(eta=1e200, inner_steps=1)
    before = {key: value.clone() for key, value in method.state_dict().items()}

    def steep(x: Tensor) -> dict[str, Tensor]:
        return {"a": network.backbone(x).square().mean(), "b": network.backbone(x).square().square().mean()}

    engine = recon.Engine(network.backbone, TASKS, method)
    with pytest.raises(ValueError, match=r"forum: a loss after the descent to θ\^T is not finite; give a smaller eta"):
        engine.step(
            lambda other=None: steep(batch(0)),
            torch.optim.SGD(network.parameters(), lr=0.1),
            validation=lambda: steep(batch(1)),
        )
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items() if key in before)


def test_running_statistics_see_the_plain_step_alone() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    x, held_out = torch.randn(8, 4), 100 * torch.randn(8, 4)

    def of(x: Tensor) -> dict[str, Tensor]:
        features = backbone(x)
        return {"a": features[:, 0].square().mean(), "b": (features[:, 1] - 1).square().mean()}

    engine = recon.Engine(backbone, TASKS, "forum")
    engine.step(
        lambda other=None: of(x), torch.optim.SGD(backbone.parameters(), lr=0.1), validation=lambda: of(held_out)
    )
    assert backbone[1].num_batches_tracked == 1
    assert backbone[1].running_mean.abs().max() < 3


def test_a_step_without_a_validation_batch_is_refused_before_anything_moves() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, "forum")
    with pytest.raises(ValueError, match="FORUM learns its weights from a validation batch in each step"):
        engine.step(lambda other=None: {}, torch.optim.SGD(network.parameters(), lr=0.1))


def test_a_validation_loss_that_is_not_finite_is_refused_and_leaves_the_method() -> None:
    network, method = Network(TASKS), FORUM()
    engine = recon.Engine(network.backbone, TASKS, method)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with pytest.raises(ValueError, match=r"the gradient of task 'a' is not finite in step 0"):
        engine.step(
            lambda other=None: losses(network, batch(0)),
            torch.optim.SGD(network.parameters(), lr=0.1),
            validation=lambda: {"a": network(batch(1))[0] * float("nan")},
        )
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@pytest.mark.parametrize(("name", "value"), [("rho", 0), ("eta", -1), ("inner_steps", 0), ("lr", "fast")])
def test_hyperparameters_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"forum: {name} must be a"):
        recon.create_method("forum", **{name: value})
