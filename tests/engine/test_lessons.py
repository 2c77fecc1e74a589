"""Modules beside the shared part that learn from gradients: what they get, however a step is made."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from in_threads import ThreadProcesses, Threads
from three_heads import TASKS, ThreeHeads, samples
from torch import Tensor, nn

import recon
from recon.engine import Evaluation
from recon.models import RotatedHeads

LOSS_METHODS = ["uw", "uw_so", "rlw", "dwa", "imtl_l", "go4align"]


class Rotated(ThreeHeads):
    """A network with rotations that are not the identity any more."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(dtype)
        self.heads = RotatedHeads(dict(self.heads.items()), 8, lr=0.1).to(dtype)
        draw = torch.Generator().manual_seed(3)
        for task in TASKS:
            slope = torch.randn(8, 8, generator=draw, dtype=torch.float64)
            self.heads.get_submodule(f"{task}.rotation").descend(slope)  # type: ignore[operator]

    def rotations(self) -> Tensor:
        return torch.stack([self.heads.get_buffer(f"{task}.rotation.matrix") for task in TASKS])

    def engine(self, method: str = "constant", **options: Any) -> recon.Engine:
        return recon.Engine(self.backbone, TASKS, method, heads=self.heads, **options)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def stepped(method: str = "constant", x: Tensor | None = None, **options: Any) -> Tensor:
    """The rotations after one plain step."""
    net = Rotated()
    net.engine(method, **options).backward(net.losses(samples(8) if x is None else x))
    return net.rotations()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def test_every_way_through_a_step_turns_rotations_alike() -> None:
    expected = stepped()
    assert ((expected - Rotated().rotations()).abs().amax(dim=(1, 2)) > 0.01).all()
    for method in ("joint", "mgda", "pcgrad", "nash_mtl", "graddrop", "moco", "psmgd", "rotograd", *LOSS_METHODS):
        close(stepped(method), expected)
    close(stepped("mgda", memory="gramian"), expected)
    close(stepped("pcgrad", granularity="layer"), expected)
    net = Rotated()
    net.engine(analyzer=recon.ConflictAnalyzer(net.backbone, TASKS)).backward(net.losses(samples(8)))
    close(net.rotations(), expected)


@pytest.mark.parametrize("method", LOSS_METHODS)
@pytest.mark.parametrize("split", ["observed", "micro-batches"])
def test_an_analyzer_or_micro_batches_train_rotations_as_one_backward(method: str, split: str) -> None:
    plain, net, x = Rotated(), Rotated(), samples(8)
    analyzer = recon.ConflictAnalyzer(net.backbone, TASKS, every=1) if split == "observed" else None
    engines = plain.engine(method), net.engine(method, analyzer=analyzer)
    optimizers = [torch.optim.SGD([*each.parameters()], lr=0.02) for each in (plain, net)]
    for _ in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        engines[0].backward(plain.losses(x))
        if split == "observed":
            engines[1].backward(net.losses(x))
        else:
            engines[1].accumulate(net.losses(x[:3]), dict.fromkeys(TASKS, 3))
            engines[1].backward(net.losses(x[3:]), counts=dict.fromkeys(TASKS, 5))
        for optimizer in optimizers:
            optimizer.step()
    assert ((net.rotations() - Rotated().rotations()).abs().amax(dim=(1, 2)) > 0.01).all()
    torch.testing.assert_close(net.rotations(), plain.rotations(), rtol=1e-6, atol=1e-8)


def test_gradients_at_the_representation_turn_rotations_alike() -> None:
    expected = stepped()
    for observed in (False, True):
        net = Rotated()
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS) if observed else None
        features = net.backbone(samples(8))
        losses = {task: (head(features) - i - 1).square().mean() for i, (task, head) in enumerate(net.heads.items())}
        net.engine("mgda", at="representation", analyzer=analyzer).backward(losses, features)
        close(net.rotations(), expected)


def test_micro_batches_turn_rotations_as_the_whole_batch() -> None:
    x, net = samples(8), Rotated()
    engine = net.engine("pcgrad")
    engine.accumulate(net.losses(x[:3]), dict.fromkeys(TASKS, 3))
    engine.accumulate(net.losses(x[3:5]), dict.fromkeys(TASKS, 2))
    engine.backward(net.losses(x[5:]), counts=dict.fromkeys(TASKS, 3))
    close(net.rotations(), stepped("pcgrad", x))


@pytest.mark.parametrize("method", ["mgda", "uw"])
@pytest.mark.parametrize("accumulates", [False, True])
def test_processes_turn_rotations_as_one(threads: Threads, accumulates: bool, method: str) -> None:
    x = samples(8)

    def train(own: ThreadProcesses) -> Tensor:
        net, part = Rotated(), x[4 * own.rank : 4 * own.rank + 4]
        engine = net.engine(method)
        if accumulates:
            engine.accumulate(net.losses(part[:1]), dict.fromkeys(TASKS, 1))
            part = part[1:]
        engine.backward(net.losses(part), counts=dict.fromkeys(TASKS, len(part)))
        return net.rotations()

    for rotations in threads.run(2, train):
        assert isinstance(rotations, Tensor), rotations
        close(rotations, stepped("mgda", x))  # whatever the weights


def test_a_process_without_labels_turns_its_rotations_too(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> Tensor:
        net = Rotated()
        losses = net.losses(samples(8))
        wanted = ("a", "c") if own.rank == 0 else ()
        net.engine("mgda").backward({task: losses[task] for task in wanted})
        return net.rotations()

    first, second = threads.run(2, train)
    assert torch.equal(first, second)
    turned = (first - Rotated().rotations()).abs().amax(dim=(1, 2)) > 0.01
    assert turned.tolist() == [True, False, True]


def test_a_task_alone_turns_nothing() -> None:
    net = Rotated()
    net.engine("mgda").backward({"b": net.losses(samples(8))["b"]})
    assert torch.equal(net.rotations(), Rotated().rotations())


def test_a_refused_step_turns_nothing_and_leaves_nothing_for_the_next() -> None:
    net = Rotated()
    engine, bad = net.engine("pcgrad"), samples(8) * float("nan")
    engine.accumulate(net.losses(samples(8, seed=1)))
    with pytest.raises(ValueError, match="is not finite in step 0"):
        engine.backward(net.losses(bad))
    assert torch.equal(net.rotations(), Rotated().rotations())
    engine.backward(net.losses(samples(8)))
    close(net.rotations(), stepped("pcgrad"))


@pytest.mark.parametrize("method", ["mgda", "uw"])
def test_scaled_losses_turn_rotations_as_plain_ones_and_an_overflow_nothing(method: str) -> None:
    net = Rotated(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = net.rotations()
    info = net.engine(method, scaler=scaler).backward(net.losses(samples(8, dtype=torch.float32), half=torch.float16))
    assert not info.overflow
    torch.testing.assert_close(net.rotations().double(), stepped(method), rtol=0.02, atol=0.02)
    assert (net.rotations() - before).abs().max() > 0.05

    net = Rotated(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    info = net.engine(method, scaler=scaler).backward(net.losses(samples(8, dtype=torch.float32), half=torch.float16))
    assert info.overflow
    assert torch.equal(net.rotations(), before)


@pytest.mark.parametrize("make", [lambda p: torch.optim.LBFGS(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.05)])
@pytest.mark.parametrize("method", ["joint", "fmtl", "famo"])
def test_evaluations_of_one_step_see_the_same_rotations(
    method: str, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    net = Rotated()
    optimizer, seen = make([*net.parameters()]), []
    if method != "joint" and isinstance(optimizer, torch.optim.LBFGS):
        return  # refused, as tests of closures say

    def closure() -> Mapping[str, Tensor]:
        seen.append(net.rotations())
        return net.losses(samples(8))

    net.engine(method).step(closure, optimizer)
    assert all(torch.equal(each, Rotated().rotations()) for each in seen)
    close(net.rotations(), stepped())


def test_a_frozen_shared_part_turns_nothing() -> None:
    net = Rotated()
    net.backbone.requires_grad_(False)
    net.engine("mgda").backward(net.losses(samples(8)))
    assert torch.equal(net.rotations(), Rotated().rotations())


def test_any_module_may_learn_from_the_gradients_it_takes() -> None:
    class Pupil(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lessons: list[tuple[Any, Any]] = []

        def take_gradients(self) -> dict[str, Tensor]:
            return {"a": torch.ones(2)}

        def learn(
            self, batches: Sequence[Mapping[str, Tensor]], tasks: Sequence[str], summed: Callable[[Tensor], Tensor]
        ) -> None:
            self.lessons.append(([float(batch["a"].sum()) for batch in batches], [*tasks]))

    net, pupil = ThreeHeads(), Pupil()
    engine = recon.Engine(net.backbone, TASKS, "mgda", heads=[net.heads, pupil])
    losses = net.losses(samples(4))
    engine.accumulate({"a": losses["a"]}, {"a": 3})
    engine.step(lambda: Evaluation(net.losses(samples(4)), counts={"a": 1, "b": 1, "c": 1}), _sgd(net))
    assert pupil.lessons == [([2 * 3 / 4, 2.0], ["a", "b", "c"])]


def _sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1)
