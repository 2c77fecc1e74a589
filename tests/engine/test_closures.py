"""Optimizers that evaluate the losses themselves."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recon
from recon.engine.closures import needs_closure


class Problem(nn.Module):
    def __init__(self, tasks: tuple[str, ...] = ("a", "b")) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in tasks})
        self.x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1))
        self.double()
        self.x = self.x.double()

    def losses(self, batch: Any = None) -> dict[str, Tensor]:
        features = self.net(self.x)
        targets = {"a": self.x[:, :1] ** 2, "b": self.x[:, 1:]}
        return {task: (head(features) - targets[task]).square().mean() for task, head in self.heads.items()}


def lbfgs(problem: nn.Module, **options: Any) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(problem.parameters(), **options)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [2.0, 0.5]])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_joint_training_by_lbfgs_is_that_of_plain_torch(search: str | None, weights: list[float]) -> None:
    ours, plain = Problem(), Problem()
    engine = recon.Engine(ours.net, ["a", "b"], recon.create_method("joint", weights=weights))
    optimizers = [lbfgs(problem, lr=0.5, line_search_fn=search) for problem in (ours, plain)]

    def closure() -> Tensor:
        optimizers[1].zero_grad()
        total = sum(weight * loss for weight, loss in zip(weights, plain.losses().values(), strict=True))
        assert isinstance(total, Tensor)
        total.backward()
        return total

    for _ in range(3):
        before = {task: loss.detach() for task, loss in ours.losses().items()}
        info = engine.step(ours.losses, optimizers[0])
        torch.testing.assert_close(info.losses, before)
        optimizers[1].step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(dict(ours.named_parameters()), dict(plain.named_parameters()), rtol=1e-8, atol=1e-10)


def test_learned_weights_are_part_of_what_is_minimised() -> None:
    ours, plain = Problem(), Problem()
    method = recon.create_method("uw")
    engine = recon.Engine(ours.net, ["a", "b"], method)
    variances = nn.Parameter(torch.zeros(2))
    options = {"lr": 0.5, "line_search_fn": "strong_wolfe"}
    own = torch.optim.LBFGS([*ours.parameters(), *method.parameters()], **options)  # type: ignore[arg-type]
    theirs = torch.optim.LBFGS([*plain.parameters(), variances], **options)  # type: ignore[arg-type]

    def closure() -> Tensor:
        theirs.zero_grad()
        losses = torch.stack(list(plain.losses().values()))
        total = 0.5 * ((-variances).exp() * losses + variances).sum()
        total.backward()
        return total

    for _ in range(2):
        engine.step(ours.losses, own)
        theirs.step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(dict(ours.named_parameters()), dict(plain.named_parameters()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["upgrad", "cagrad", "trimmed_mean", "config"])
@pytest.mark.parametrize("scale", ["method", "sum"])
def test_methods_of_gradients_bring_every_loss_down(name: str, scale: Any) -> None:
    problem = Problem()
    before = {task: loss.item() for task, loss in problem.losses().items()}
    engine = recon.Engine(problem.net, ["a", "b"], name, update_scale=scale)
    optimizer = lbfgs(problem, line_search_fn="strong_wolfe")
    for _ in range(3):
        engine.step(problem.losses, optimizer)
    for task, loss in problem.losses().items():
        assert loss.item() < 0.2 * before[task]


def test_the_analyzer_and_the_count_see_one_step() -> None:
    problem = Problem()
    analyzer = recon.ConflictAnalyzer(problem.net, ["a", "b"], every=2)
    engine = recon.Engine(problem.net, ["a", "b"], "upgrad", analyzer)
    optimizer = lbfgs(problem)
    infos = [engine.step(problem.losses, optimizer) for _ in range(3)]
    assert [info.step for info in infos] == [0, 1, 2]
    assert engine.step_count == 3
    assert analyzer.conflict_map().provenance["steps"] == 3
    assert set(analyzer.conflict_map().observations.values()) == {2}


@pytest.mark.parametrize("name", ["pcgrad", "rlw", "dwa", "moco", "famo", "fmtl", "psmgd", "gradnorm"])
def test_methods_that_remember_or_draw_are_refused_by_name(name: str) -> None:
    problem = Problem()
    method = recon.create_method(name)
    engine = recon.Engine(problem.net, ["a", "b"], method)
    expected = f"LBFGS evaluates the losses several times .* {type(method).__name__} .*take .*Adam"
    with pytest.raises(TypeError, match=expected):
        engine.step(problem.losses, lbfgs(problem))


@pytest.mark.parametrize("name", ["pcgrad", "famo"])
def test_a_single_task_is_trained_by_lbfgs_as_plainly_as_by_any_other(name: str) -> None:
    ours, plain = Problem(("a",)), Problem(("a",))
    engine = recon.Engine(ours.net, ["a"], name)
    optimizers = lbfgs(ours), lbfgs(plain)

    def closure() -> Tensor:
        optimizers[1].zero_grad()
        loss = plain.losses()["a"]
        loss.backward()
        return loss

    engine.step(ours.losses, optimizers[0])
    optimizers[1].step(closure)  # type: ignore[arg-type]
    torch.testing.assert_close(dict(ours.named_parameters()), dict(plain.named_parameters()))


def test_only_optimizers_that_cannot_do_without_get_a_closure() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    assert needs_closure(torch.optim.LBFGS(parameters))
    assert needs_closure(Wrapper(torch.optim.LBFGS(parameters)))
    assert not needs_closure(torch.optim.Adam(parameters))
    torch.optim.lr_scheduler.StepLR(scheduled := torch.optim.LBFGS(parameters), 1)  # wraps the step
    assert needs_closure(scheduled)
