"""RotoGrad's network against the numbers that the authors' package gave, and against the paper's objective."""

import json
from pathlib import Path

import pytest
import torch
from rotograd_cases import BURN_IN, CASES, DECAY, LR, STEPS, TASKS, inputs, losses, network
from torch import Tensor, nn

import recon
from recon.models import RotatedHeads

PACKAGE = json.loads(Path(__file__).with_name("rotograd-0.1.6.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_networks_train_as_by_the_authors_package(name: str) -> None:
    case, recorded = CASES[name], PACKAGE[name]
    backbone, made = network(case)
    heads = RotatedHeads(dict(zip(TASKS, made, strict=True)), case.size, LR, DECAY).double()
    method = recon.create_method("constant")
    if case.package_class == "RotoGrad":
        method = recon.create_method("rotograd", burn_in=BURN_IN)
    engine = recon.Engine(backbone, TASKS, method, at="representation", heads=heads)
    parameters = [*backbone.parameters(), *heads.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    close = {"rtol": 1e-9, "atol": 1e-11}

    for step in range(STEPS):

        def closure(step: int = step) -> tuple[dict[str, Tensor], Tensor]:
            features = backbone(inputs(case, step))
            values = losses([head(features) for head in heads.values()], step)
            return dict(zip(TASKS, values, strict=True)), features

        info = engine.step(closure, optimizer)  # type: ignore[arg-type]
        expected = torch.tensor(recorded["losses"][step], dtype=torch.float64)
        torch.testing.assert_close(torch.stack([*info.losses.values()]), expected, **close)
        for task, rotation in zip(TASKS, recorded["rotations"][step], strict=True):
            torch.testing.assert_close(matrix(heads, task), torch.tensor(rotation, dtype=torch.float64), **close)
    for parameter, expected in zip(parameters, recorded["parameters"], strict=True):
        torch.testing.assert_close(parameter.detach(), torch.tensor(expected, dtype=torch.float64), **close)


def matrix(heads: RotatedHeads, task: str) -> Tensor:
    found: Tensor = heads.get_submodule(f"{task}.rotation").matrix  # type: ignore[assignment]
    return found


def rotated(size: int = 3, lr: float = 0.1, tasks: tuple[str, ...] = TASKS) -> RotatedHeads:
    return RotatedHeads({task: nn.Identity() for task in tasks}, size, lr).double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(heads: RotatedHeads) -> None:
    """Bring the rotations away from the identity."""
    for seed, task in enumerate(heads):
        heads.get_submodule(f"{task}.rotation").descend(normal(3, 3, seed=50 + seed))  # type: ignore[operator]


@pytest.mark.parametrize("shape", [(7, 3), (7, 5), (4, 3, 2, 6)], ids=["vectors", "some features", "maps"])
def test_rotations_descend_along_the_objective_of_the_paper(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = rotated()
    turn(heads)
    batch = {task: normal(*shape, seed=seed) * (1 + seed) for seed, task in enumerate(TASKS)}
    found: list[Tensor] = []
    monkeypatch.setattr("recon.models.architectures.rotation.Rotation.descend", lambda self, slope: found.append(slope))
    heads.learn([batch], TASKS)

    matrices = [matrix(heads, task).clone().requires_grad_() for task in TASKS]
    points = [batch[task].movedim(1, 0).flatten(1) for task in TASKS]  # (channels, samples and places)
    whole = [torch.block_diag(own, torch.eye(len(points[0]) - 3).double()) for own in matrices]
    back = [own.detach().mT @ gradient for own, gradient in zip(whole, points, strict=True)]
    mean = sum(back) / len(back)
    direction = sum(own * mean.norm() / own.norm() for own in back) / len(back)
    for own, gradient, leaf, slope in zip(whole, points, matrices, found, strict=True):
        [expected] = torch.autograd.grad((own @ direction - gradient).square().sum(), leaf)
        tangent = [leaf.detach().mT @ each for each in (expected, slope)]  # only this part moves a rotation
        torch.testing.assert_close(*(each - each.mT for each in tangent))


def test_conflicting_tasks_of_a_linear_problem_come_to_agree() -> None:
    heads, features = rotated(2, lr=0.02, tasks=("a", "b")), torch.ones(5, 2).double()
    directions = {"a": torch.tensor([1.0, 0.2]).double(), "b": torch.tensor([-1.0, 0.2]).double()}

    def gradients() -> dict[str, Tensor]:
        leaf = features.clone().requires_grad_()
        outputs = {task: (head(leaf) @ directions[task]).sum() for task, head in heads.items()}
        return {task: torch.autograd.grad(output, leaf)[0].flatten() for task, output in outputs.items()}

    def cosine() -> float:
        found = gradients()
        return float(torch.cosine_similarity(found["a"], found["b"], dim=0))

    assert cosine() < -0.9
    for _ in range(200):
        gradients()
        heads.learn()
    assert cosine() > 0.999


def test_micro_batches_turn_rotations_as_the_whole_batch() -> None:
    whole, parts = rotated(), rotated()
    turn(whole)
    turn(parts)
    batch = {task: normal(9, 3, seed=seed) for seed, task in enumerate(TASKS)}
    whole.learn([batch], TASKS)
    parts.learn(
        [{task: each[:4] for task, each in batch.items()}, {task: each[4:] for task, each in batch.items()}], TASKS
    )
    for task in TASKS:
        torch.testing.assert_close(matrix(parts, task), matrix(whole, task), rtol=1e-12, atol=1e-13)


def test_tasks_without_a_gradient_turn_nothing_and_stand_still() -> None:
    heads = rotated()
    turn(heads)
    before = {task: matrix(heads, task) for task in TASKS}
    heads.learn([{"a": normal(4, 3)}], ["a"])
    heads.learn([], TASKS)
    assert all(torch.equal(matrix(heads, task), before[task]) for task in TASKS)
    heads.learn([{"a": normal(4, 3), "c": normal(4, 3, seed=1)}], ["a", "c"])
    assert [task for task in TASKS if torch.equal(matrix(heads, task), before[task])] == ["b"]


def test_features_of_other_samples_are_refused() -> None:
    heads = rotated(tasks=("a", "b"))
    for task, samples in (("a", 4), ("b", 3)):
        heads[task](normal(samples, 3).requires_grad_()).sum().backward()
    with pytest.raises(
        ValueError, match=r"in the same samples, got features of shapes \(4, 3\) of 'a', \(3, 3\) of 'b'"
    ):
        heads.take_gradients()


@pytest.mark.parametrize(("size", "lr", "decay"), [(0, 0.1, 1.0), (3, -0.1, 1.0), (3, 0.1, 0.0), (3, 0.1, 1.5)])
def test_numbers_out_of_range_are_refused(size: int, lr: float, decay: float) -> None:
    with pytest.raises(ValueError, match=r"rotations need size >= 1, lr >= 0 and decay in \(0, 1\], got"):
        RotatedHeads({"a": nn.Identity()}, size, lr, decay)


def test_a_branched_backbone_gives_each_rotation_the_features_of_its_task() -> None:
    backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    heads = RotatedHeads({task: nn.Linear(3, 1) for task in TASKS}, 3, lr=0.1).double()
    network = recon.branch(backbone, ["2"], TASKS, init="reset")
    engine = recon.Engine(network, TASKS, "rotograd", heads=heads)

    def closure() -> dict[str, Tensor]:
        features = network(normal(8, 4))
        return {task: (heads[task](features[task]) - 1).square().mean() for task in TASKS}

    engine.step(closure, torch.optim.SGD([*network.parameters(), *heads.parameters()], lr=0.1))
    assert all((matrix(heads, task) - torch.eye(3)).abs().max() > 0.01 for task in TASKS)
