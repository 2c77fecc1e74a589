import pytest
import torch
from one_layer import Network, batch
from torch import Tensor, nn
from torch.func import functional_call

import recon
from recon.methods import AutoLambda

TASKS = ["a", "b", "c"]


def sgd(network: Network) -> torch.optim.Optimizer:
    groups = [{"params": network.backbone.parameters()}, {"params": network.heads.parameters(), "lr": 0.2}]
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("primary", [None, [1], [0, 2]])
def test_follows_the_papers_algorithm_by_second_derivatives(primary: list[int] | None) -> None:
    network, method = Network(TASKS), AutoLambda(lr=0.02, primary=primary)
    optimizer, engine = sgd(network), recon.Engine(network.backbone, TASKS, method)
    reference = Network(TASKS)
    expected, factors = sgd(reference), nn.Parameter(torch.full((3,), 0.1, dtype=torch.float64))
    adam = torch.optim.Adam([factors], lr=0.02)
    for step in range(5):
        training, held_out = batch(step), batch(step + 50)
        engine.step(
            lambda other=None, x=training: dict(zip(TASKS, network(x), strict=True)),
            optimizer,
            validation=lambda x=held_out: dict(zip(TASKS, network(x), strict=True)),
        )
        parameters = dict(reference.named_parameters())
        gradients = torch.autograd.grad(factors @ reference(training), list(parameters.values()), create_graph=True)
        moved = {}
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            momentum = expected.state[parameter].get("momentum_buffer", 0.0)
            change = 0.9 * momentum + gradient + 0.01 * parameter
            moved[name] = parameter - (0.2 if name.startswith("heads") else 0.05) * change
        validation = functional_call(reference, moved, (held_out,))
        adam.zero_grad()
        factors.grad = torch.autograd.grad(validation[primary or [0, 1, 2]].sum(), factors)[0]
        adam.step()
        expected.zero_grad()
        (factors.detach() @ reference(training)).backward()
        expected.step()
    torch.testing.assert_close(method.factors, factors.detach())
    for own, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_an_auxiliary_task_that_hinders_the_primary_one_loses_weight() -> None:
    torch.manual_seed(0)
    backbone = nn.Linear(3, 2)
    method = AutoLambda(lr=0.01, primary=[0])
    engine, optimizer = recon.Engine(backbone, ["a", "b"], method), torch.optim.SGD(backbone.parameters(), lr=0.01)

    def losses() -> dict[str, Tensor]:
        output = backbone(torch.ones(1, 3)).sum()
        return {"a": (output - 1) ** 2, "b": (output - 5) ** 2 + (output + 20) ** 2}

    for _ in range(20):
        engine.step(lambda other=None: losses(), optimizer, validation=losses)
    assert method.factors[0] > 0.2 > 0 > method.factors[1]


def test_a_validation_batch_without_a_primary_task_moves_nothing() -> None:
    torch.manual_seed(0)
    backbone = nn.Linear(3, 2)
    method = AutoLambda(lr=0.01, primary=[0])
    engine, optimizer = recon.Engine(backbone, ["a", "b"], method), torch.optim.SGD(backbone.parameters(), lr=0.01)

    def losses(*tasks: str) -> dict[str, Tensor]:
        output = backbone(torch.ones(1, 3)).sum()
        return {task: (output - 1 - number) ** 2 for number, task in enumerate(tasks)}

    engine.step(lambda other=None: losses("a", "b"), optimizer, validation=lambda: losses("a", "b"))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    engine.step(lambda other=None: losses("a", "b"), optimizer, validation=lambda: {"b": losses("b")["b"]})
    assert before["adam.steps"].tolist() == [1, 1]
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_wrong_hyperparameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"auto_lambda: primary must be indices of 2 tasks, got \[2\]"):
        AutoLambda(primary=[2]).bind(2)
    with pytest.raises(ValueError, match=r"auto_lambda: primary must be indices of 2 tasks, got \[\]"):
        AutoLambda(primary=[]).bind(2)
    for primary in (1, "0"):
        with pytest.raises(
            ValueError, match=rf"primary must be a list of indices of tasks, got {primary!r}; give \[0\]"
        ):
            AutoLambda(primary=primary)
    with pytest.raises(ValueError, match="auto_lambda: lr must be a finite number >= 0, got -1"):
        AutoLambda(lr=-1)
