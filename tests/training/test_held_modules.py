"""Losses that are more than functions: what they hold is registered, trained, saved and moved with the network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import recon
from recon.tasks.task import Task
from recon.training import MultiTaskModule
from recon.training.held_modules import held_modules

TrainerFactory = Callable[..., pl.Trainer]


class Centres(nn.Module):
    """Mean distance from a learned centre of the label's class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.zeros(classes, width))

    def forward(self, prediction: Tensor, labels: Tensor) -> Tensor:
        return (prediction - self.centres[labels]).square().sum(1).mean()


def combined(prediction: Tensor, labels: Tensor, entropy: nn.Module, centres: nn.Module) -> Tensor:
    return entropy(prediction, labels) + 0.1 * centres(prediction, labels)


class Callables:
    """A callable object of a user's own, with a method that is a loss too."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = {"only": [module]}

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.parts["only"][0](prediction, target)


MODULE = Centres(2, 3)


def of_a_global(prediction: Tensor, target: Tensor) -> Tensor:
    return MODULE(prediction, target)


def ways_to_hold(module: nn.Module) -> dict[str, Any]:
    def with_default(prediction: Tensor, target: Tensor, criterion: nn.Module = module) -> Tensor:
        return criterion(prediction, target)

    return {
        "itself": module,
        "partial of it": partial(module, labels=None),
        "partial with it": partial(combined, entropy=module),
        "nested partial": partial(partial(combined, entropy=module), centres=None),
        "bound method": module.forward,
        "closure": lambda prediction, target: 2 * module(prediction, target),
        "default": with_default,
        "object": Callables(module),
        "method of an object": partial(Callables(module).__call__),
        "global": of_a_global,
    }


@pytest.mark.parametrize("way", ways_to_hold(MODULE))
def test_a_module_is_found_however_a_loss_holds_it(way: str) -> None:
    assert held_modules(ways_to_hold(MODULE)[way]) == [MODULE]


def test_functions_hold_nothing() -> None:
    assert held_modules(nn.functional.cross_entropy) == []
    assert held_modules(None) == []
    assert held_modules(torch.sub) == []


def data(samples: int = 32) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 4, generator=generator)
    labels = torch.randint(2, (samples, 2), generator=generator)

    def collate(rows: list[tuple[Tensor, Tensor]]) -> Any:
        both = torch.stack([label for _, label in rows])
        return torch.stack([row for row, _ in rows]), {"a": both[:, 0], "b": both[:, 1]}

    return DataLoader(TensorDataset(x, labels), batch_size=8, collate_fn=collate)


class Net(nn.Module):
    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu()


def tasks() -> list[Task]:
    centres = Centres(2, 3)
    entropy = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))
    return [
        Task("a", nn.CrossEntropyLoss(weight=torch.tensor([0.25, 1.0, 1.0])), dict, 3),
        Task("b", partial(combined, entropy=entropy, centres=centres), dict, 3, estimate=nn.Softmax(dim=1)),
    ]


def module_for(**options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Net(), tasks(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), **options)


def test_names_in_the_state_are_the_tasks_and_the_roles() -> None:
    names = [name for name in module_for().state_dict() if name.startswith("task_modules")]
    assert names == [
        "task_modules.a.loss.weight",
        "task_modules.b.loss.weight",
        "task_modules.b.loss_1.centres",
    ]
    module = module_for(only=["b"])
    assert [*module.task_modules] == ["b"]
    assert [*module.task_modules["b"]] == ["loss", "loss_1", "estimate"]


def test_a_module_that_two_tasks_hold_or_that_is_part_of_the_network_is_registered_once() -> None:
    shared, heads = Centres(2, 3), nn.ModuleDict({"a": nn.Linear(5, 3), "b": nn.Linear(5, 3)})
    both = [
        Task("a", shared, dict, 3),
        Task("b", lambda p, t: shared(p, t) + heads["a"].weight.square().sum(), dict, 3),  # type: ignore[operator, union-attr]
    ]
    module = MultiTaskModule(Net(), both, heads=heads)
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert [name for name in names if "task_modules" in name] == ["task_modules.a.loss.centres"]


def test_modules_of_losses_follow_the_network_to_another_device() -> None:
    module = module_for().to("meta")
    assert module.tasks[0].loss.weight.is_meta  # type: ignore[attr-defined]
    assert module.tasks[1].loss.keywords["centres"].centres.is_meta  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["joint", "mgda", "pcgrad", "graddrop"])
@pytest.mark.parametrize("only", [None, ["b"]], ids=["both", "single"])
def test_what_a_loss_learns_is_trained_by_its_own_tasks_gradient(
    method: str, only: list[str] | None, trainer: TrainerFactory
) -> None:
    module = module_for(method=method, only=only)
    loader = data(8)
    centres = module.tasks[-1].loss.keywords["centres"].centres  # type: ignore[attr-defined]
    loss = module.losses(next(iter(loader)))["b"]
    (gradient,) = torch.autograd.grad(loss, centres)
    trainer().fit(module, loader)
    torch.testing.assert_close(centres.detach(), -0.1 * gradient)
    assert gradient.any()


def test_a_resumed_run_goes_on_with_what_the_loss_has_learned(trainer: TrainerFactory, tmp_path: Path) -> None:
    def fit(epochs: int, checkpoint: Path | None = None) -> MultiTaskModule:
        module = module_for()
        run = trainer(max_epochs=epochs)
        run.fit(module, data(), ckpt_path=checkpoint)
        run.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return module

    whole = fit(2)
    fit(1)
    resumed = fit(2, tmp_path / "1.ckpt")
    expected = whole.state_dict()
    assert [name for name, value in resumed.state_dict().items() if not torch.equal(value, expected[name])] == []
    assert expected["task_modules.b.loss_1.centres"].any()


@pytest.mark.parametrize("method", ["mgda", "graddrop"])
def test_in_a_loop_of_ones_own_a_loss_gets_its_own_tasks_gradient_too(method: str) -> None:
    backbone, centres = nn.Linear(4, 3), Centres(2, 3)
    heads = {"a": nn.Linear(3, 2), "b": nn.Linear(3, 3)}
    x, labels = torch.randn(6, 4), torch.tensor([0, 1, 1, 0, 1, 0])

    def losses() -> dict[str, Tensor]:
        features = backbone(x)
        entropy = nn.functional.cross_entropy(heads["a"](features), labels)
        return {"a": entropy, "b": centres(heads["b"](features), labels)}

    (expected,) = torch.autograd.grad(losses()["b"], centres.centres)
    recon.backward(losses(), backbone, recon.create_method(method))
    torch.testing.assert_close(centres.centres.grad, expected)
