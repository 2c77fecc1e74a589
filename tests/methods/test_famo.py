from functools import partial

import pytest
import torch
import torchjd.scalarization
from torch import Tensor, nn

import recon
from recon.methods import FAMO


def test_equals_torchjds_step_by_step() -> None:
    bounds = torch.tensor([0.1, -0.5, 0.0])
    ours = FAMO(lr=0.1, weight_decay=0.01, lower_bounds=bounds.tolist())
    theirs = torchjd.scalarization.FAMO(3, min_losses=bounds, lr=0.1, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        before, after = 0.2 + torch.rand(2, 3, generator=generator)
        leaves = before.clone().requires_grad_()
        theirs(leaves).backward()
        theirs.update(after)
        torch.testing.assert_close(ours.loss_weights(before), leaves.grad)
        ours.update(before, after)
    assert ours.loss_weights(torch.ones(3)).std() > 0.1


def test_a_step_of_the_engine_evaluates_the_batch_again_after_the_step() -> None:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    x, evaluated = torch.randn(8, 3), []

    def closure(batch: object = None) -> dict[str, Tensor]:
        losses = net(x).square().mean(0)
        evaluated.append((losses.detach(), losses.requires_grad))
        return {"a": losses[0], "b": 5 * losses[1]}

    method, expected = FAMO(), FAMO()
    engine = recon.Engine(net, ["a", "b"], method)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    info = engine.step(closure, optimizer)
    assert [graph for _, graph in evaluated] == [True, False]
    (before, _), (after, _) = evaluated
    torch.testing.assert_close(info.losses["b"], 5 * before[1])
    units = torch.tensor([1.0, 5.0])
    expected.update(units * before, units * after)
    assert torch.equal(method.simplex.logits, expected.simplex.logits)
    assert method.simplex.logits.any()


def test_the_task_that_fell_less_gains_weight() -> None:
    method = FAMO()
    method.update(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.9]))
    weights = method.loss_weights(torch.ones(2))
    assert weights[1] > weights[0]


def test_its_adam_continues_from_a_checkpoint() -> None:
    method, generator = FAMO(), torch.Generator().manual_seed(0)
    batches = 0.1 + torch.rand(6, 2, 3, generator=generator)
    for before, after in batches[:3]:
        method.update(before, after)
    resumed = FAMO()
    resumed.load_state_dict(method.state_dict())
    for before, after in batches[3:]:
        method.update(before, after)
        resumed.update(before, after)
    assert torch.equal(resumed.loss_weights(batches[0, 0]), method.loss_weights(batches[0, 0]))


def test_the_update_is_a_convex_combination() -> None:
    weights = FAMO().loss_weights(torch.tensor([0.1, 5.0, 2.0]))
    torch.testing.assert_close(weights, torch.tensor([10.0, 0.2, 0.5]) / 10.7)


def test_losses_below_their_bound_and_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"famo: needs positive losses.*got -0.5 at task index 1"):
        FAMO(lower_bounds=[0.0, 1.0]).loss_weights(torch.tensor([1.0, 0.5]))
    with pytest.raises(ValueError, match="famo: lr must be a finite number >= 0, got -1"):
        FAMO(lr=-1)


def test_under_autocast_the_second_losses_are_those_of_the_stepped_network() -> None:
    torch.manual_seed(0)
    net, x, evaluated = nn.Linear(3, 2), torch.randn(8, 3), []

    def closure(batch: object = None) -> dict[str, Tensor]:
        losses = net(x).float().square().mean(0)
        evaluated.append(losses.detach())
        return {"a": losses[0], "b": losses[1]}

    engine = recon.Engine(net, ["a", "b"], FAMO())
    with torch.autocast("cpu", torch.bfloat16):
        engine.step(closure, torch.optim.SGD(net.parameters(), lr=0.3))
    torch.testing.assert_close(evaluated[1], net(x).square().mean(0).detach(), rtol=0.05, atol=0.01)


def test_a_step_with_some_tasks_looks_at_these_again_and_one_task_trains_plainly() -> None:
    torch.manual_seed(0)
    net, x, evaluated = nn.Linear(3, 3), torch.randn(8, 3), []

    def evaluate(present: str) -> dict[str, Tensor]:
        evaluated.append(present)
        return {task: net(x).square().mean(0)["abc".index(task)] for task in present}

    method = FAMO()
    engine = recon.Engine(net, ["a", "b", "c"], method)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for present in ("abc", "ac", "b", "ac"):
        engine.step(partial(evaluate, present), optimizer)
    assert evaluated == ["abc", "abc", "ac", "ac", "b", "ac", "ac"]
    assert method.simplex.steps.tolist() == [3, 1, 3]


def test_an_overflow_ends_the_step_before_the_second_look() -> None:
    class Overflowing:
        tasks, gradients = ("a", "b"), None

        def backward(self, losses: dict[str, Tensor]) -> recon.StepInfo:
            return recon.StepInfo(0, losses, overflow=True)

    evaluated: list[int] = []

    def closure(batch: object = None) -> dict[str, Tensor]:
        evaluated.append(1)
        return {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}

    method = FAMO()
    method.bind(2)
    info = method.step(Overflowing(), closure, torch.optim.SGD([torch.zeros(1)], lr=0.1))  # type: ignore[arg-type, type-var]
    assert info.overflow
    assert evaluated == [1]
    assert not method.simplex.steps.any()
