import pytest
import torch
from one_layer import Network, batch
from torch import Tensor, nn
from torch.func import functional_call

import recon
from recon.methods import MGDA, MOML

TASKS = ["a", "b", "c"]


def train(network: Network, method: object, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    """Train by the engine, with a batch for training and one for validation in each step."""
    engine = recon.Engine(network.backbone, TASKS, method)
    for step in range(steps):

        def losses(batch_: Tensor) -> dict[str, Tensor]:
            return dict(zip(TASKS, network(batch_), strict=True))

        engine.step(
            lambda other=None, s=step: losses(batch(s)), optimizer, validation=lambda s=step: losses(batch(s + 50))
        )


def losses_after(network: Network, weights: Tensor, virtual_lr: float, step: int) -> Tensor:
    """The validation losses after a virtual step, as a function of the weights, by autograd."""
    parameters = dict(network.named_parameters())
    loss = weights @ network(batch(step))
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    moved = {name: p - virtual_lr * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
    return functional_call(network, moved, (batch(step + 50),))


def test_follows_the_papers_algorithm_by_second_derivatives() -> None:
    network, method = Network(TASKS), MOML(lr=0.05, virtual_lr=0.1)
    train(network, method, torch.optim.SGD(network.parameters(), lr=0.05))
    reference = Network(TASKS)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.05)
    logits = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([logits], lr=0.05)
    for step in range(4):
        validation = losses_after(reference, logits.softmax(0), 0.1, step)
        rows = torch.stack([torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in validation])
        logits.grad = MGDA(normalization="l2").weights(rows @ rows.T) @ rows
        adam.step()
        optimizer.zero_grad()
        (logits.softmax(0).detach() @ reference(batch(step))).backward()
        optimizer.step()
    torch.testing.assert_close(method.simplex(), logits.softmax(0).detach())
    assert method.simplex().std() > 0.01
    for own, expected in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, expected)


def test_a_step_with_some_of_the_tasks_moves_their_weights_alone() -> None:
    network, method = Network(TASKS), MOML(lr=0.1)
    engine = recon.Engine(network.backbone, TASKS, method)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    training, held_out = batch(0), batch(1)
    engine.step(
        lambda other=None: dict(zip("ac", network(training)[[0, 2]], strict=True)),
        optimizer,
        validation=lambda: dict(zip(TASKS, network(held_out), strict=True)),
    )
    logits = method.simplex.logits
    assert logits[1] == 0
    assert logits[0] != 0
    assert logits[2] != 0


def test_a_single_task_trains_plainly() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, "moml")
    before = [parameter.clone() for parameter in network.heads["a"].parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    gradients = torch.autograd.grad(network(batch(0))[0], list(network.heads["a"].parameters()))
    engine.step(lambda other=None: {"a": network(batch(0))[0]}, optimizer, validation=dict)
    for parameter, start, gradient in zip(network.heads["a"].parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter, start - 0.1 * gradient)


def test_validation_leaves_running_statistics_alone() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    x, held_out = torch.randn(8, 4), 100 * torch.randn(8, 4)

    def losses(x: Tensor) -> dict[str, Tensor]:
        return {"a": backbone(x)[:, 0].square().mean(), "b": (backbone(x)[:, 1] - 1).square().mean()}

    engine = recon.Engine(backbone, ["a", "b"], "moml")
    engine.step(
        lambda other=None: losses(x),
        torch.optim.SGD(backbone.parameters(), lr=0.1),
        validation=lambda: losses(held_out),
    )
    assert backbone[1].num_batches_tracked == 2  # one evaluation runs the network twice
    assert backbone[1].running_mean.abs().max() < 3


def test_a_step_without_a_validation_batch_is_refused_before_anything_moves() -> None:
    network = Network(TASKS)
    engine = recon.Engine(network.backbone, TASKS, "moml")
    with pytest.raises(ValueError, match=r"MOML learns its weights from a validation batch in each step, and there is"):
        engine.step(lambda other=None: {}, torch.optim.SGD(network.parameters(), lr=0.1))
    assert engine.step_count == 0


def test_a_validation_loss_that_is_not_finite_is_refused_and_leaves_the_method() -> None:
    network, method = Network(TASKS), MOML()
    engine = recon.Engine(network.backbone, TASKS, method)

    def held_out() -> dict[str, Tensor]:
        losses = dict(zip(TASKS, network(batch(1)), strict=True))
        return losses | {"b": losses["b"] * float("nan")}

    with pytest.raises(ValueError, match=r"the gradient of task '[abc]' is not finite in step 0"):
        engine.step(
            lambda other=None: dict(zip(TASKS, network(batch(0)), strict=True)),
            torch.optim.SGD(network.parameters(), lr=0.1),
            validation=held_out,
        )
    assert not method.simplex.logits.any()


def test_hyperparameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="moml: virtual_lr must be a finite number >= 0, got -1"):
        MOML(virtual_lr=-1)


@pytest.mark.parametrize("name", ["moml", "auto_lambda"])
def test_a_validation_batch_without_labels_moves_no_weights(name: str) -> None:
    network, method = Network(TASKS), recon.create_method(name)
    engine = recon.Engine(network.backbone, TASKS, method)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    weight = network.backbone.weight.detach().clone()
    engine.step(
        lambda _=None: dict(zip(TASKS, network(batch(0)), strict=True)),
        torch.optim.SGD(network.parameters(), lr=0.1),
        validation=dict,
    )
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert not torch.equal(network.backbone.weight, weight)
