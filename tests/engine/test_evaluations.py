"""The engine within a step, for methods that evaluate the losses several times."""

from typing import Any

import torch
from torch import Tensor
from two_heads import TwoHeads, flat_grad, losses_and_features, task_gradients

import recon


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


def test_rows_are_filled_by_other_evaluations_after_a_step_without_task_gradients(x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["absent", "a", "b"], recon.create_method("psmgd", every=9))
    engine.backward(net.losses(x))  # it computes weights
    engine.backward(net.losses(x))  # it keeps them, and makes no rows
    kept = flat_grad(net.backbone)
    for task, factor in (("a", 2), ("b", 3)):
        engine.task_gradient(task, net.losses(factor * x))
    jacobian = torch.stack([task_gradients(net, 2 * x)[0], task_gradients(net, 3 * x)[1]])
    torch.testing.assert_close(engine.gradients.jacobian, jacobian)
    assert torch.equal(flat_grad(net.backbone), kept)


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
    assert len(engine.own_gradients({"a": losses["a"]})) == 1


def test_own_parameters_are_those_of_head_and_branches(x: Tensor) -> None:
    net = TwoHeads()
    backbone = recon.branch(net.backbone, ["4"], ["a", "b"]).double()
    engine = recon.Engine(backbone, ["a", "b"], recon.create_method("mgda"))
    features = backbone(x)
    for task, head in net.heads.items():
        expected = {*head.parameters(), *backbone.branch_parameters(task)}
        assert set(engine.own_parameters(head(features[task]).sum())) == expected


def test_the_features_of_an_evaluation_stay_with_its_losses(x: Tensor) -> None:
    class First(recon.methods.MGDA):
        """Takes the gradients of the first of two evaluations."""

        def step(self, engine: Any, closure: Any, optimizer: torch.optim.Optimizer) -> Any:
            optimizer.zero_grad()
            first = closure()
            closure(2 * x)
            return engine.backward(first)

    net = TwoHeads()
    losses, features = losses_and_features(net, x)
    recon.backward(losses, net.backbone, recon.methods.MGDA(), at="representation", representation=features)
    expected = flat_grad(net)
    engine = recon.Engine(net.backbone, ["a", "b"], First(), at="representation")
    engine.step(lambda batch=x: losses_and_features(net, batch), torch.optim.SGD(net.parameters(), lr=0.1))
    torch.testing.assert_close(flat_grad(net), expected)
