"""Training in float16 by a scaler: on the CPU, under autocast."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from three_heads import TASKS, ThreeHeads, samples, values
from torch import Tensor, nn

import recon
from recon.engine.scaling import LossScaling
from recon.methods import GramianMethod

METHODS = [name for name in recon.list_methods() if name != "torchjd"]
Losses = dict[str, Tensor]


class Trainer:
    """A network, its engine and optimizer, in float16 or in float32."""

    def __init__(self, method: str, half: bool = True, observed: bool = False, **options: Any) -> None:
        self.net, self.half = ThreeHeads(torch.float32), half
        self.method = recon.create_method(method)
        self.analyzer = recon.ConflictAnalyzer(self.net.backbone, TASKS) if observed else None
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if half else None
        self.engine = recon.Engine(self.net.backbone, TASKS, self.method, self.analyzer, scaler=self.scaler, **options)
        self.parameters = [*self.net.parameters(), *self.method.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.01)

    def losses(self, spoil: Callable[[Losses], Losses] = lambda losses: losses) -> Losses:
        return spoil(self.net.losses(samples(32, dtype=torch.float32), torch.float16 if self.half else None))

    def step(self, spoil: Callable[[Losses], Losses] = lambda losses: losses) -> recon.StepInfo:
        return self.engine.step(lambda batch=None: self.losses(spoil), self.optimizer, validation=self.losses)

    def state(self) -> str:
        random = [value.get_state() for m in self.method.modules() for value in vars(m).values() if _random(value)]
        analyzer = None if self.analyzer is None else self.analyzer.state_dict()
        torch.set_printoptions(precision=12)
        try:
            return str((self.parameters, self.method.state_dict(), analyzer, random))
        finally:
            torch.set_printoptions(profile="default")


def _random(value: object) -> bool:
    return isinstance(value, torch.Generator)


def overflow(losses: Losses) -> Losses:
    """A gradient that overflows; some methods divide by the loss, and one trains the largest alone."""
    task = max(losses, key=lambda task: float(losses[task].detach()))
    return losses | {task: losses[task] + (losses[task] - losses[task].detach()) * 1e36}


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_updates_in_float16_are_those_of_float32(name: str, observed: bool) -> None:
    half, full = Trainer(name, observed=observed), Trainer(name, half=False, observed=observed)
    start = values(half.net)
    assert half.step().overflow is full.step().overflow is False
    first, second = values(half.net) - start, values(full.net) - start
    assert torch.cosine_similarity(first, second, dim=0) > 0.999
    assert first.norm() / second.norm() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_an_overflow_changes_nothing_but_the_scale(name: str, observed: bool) -> None:
    trainer = Trainer(name, observed=observed)
    assert trainer.scaler is not None
    trainer.step()
    before = trainer.state()
    for steps in (1, 2):
        assert trainer.step(overflow).overflow
        assert trainer.state() == before
        assert trainer.scaler.get_scale() == 1024 / 2**steps
    assert not trainer.step().overflow
    assert trainer.state() != before


@pytest.mark.parametrize("name", [name for name in METHODS if name in recon.list_methods(GramianMethod)])
def test_groups_of_layers_and_representations_in_float16(name: str) -> None:
    for options in ({"granularity": "layer"}, {"at": "representation"}):
        trainers = [Trainer(name, half, **options) for half in (True, False)]
        start, moved = values(trainers[0].net), []
        for trainer in trainers:
            step_at(trainer)
            moved.append(values(trainer.net) - start)
        assert torch.cosine_similarity(*moved, dim=0) > 0.999
        before = trainers[0].state()
        assert step_at(trainers[0], overflow).overflow
        assert trainers[0].state() == before


def step_at(trainer: Trainer, spoil: Callable[[Losses], Losses] = lambda losses: losses) -> recon.StepInfo:
    def closure(batch: object = None) -> Any:
        kept: list[Tensor] = []
        hook = trainer.net.backbone.register_forward_hook(lambda module, inputs, output: kept.append(output))
        losses = trainer.losses(spoil)
        hook.remove()
        return (losses, kept[0]) if trainer.engine.at == "representation" else losses

    return trainer.engine.step(closure, trainer.optimizer)


def test_an_overflow_at_perturbed_parameters_changes_nothing() -> None:
    trainer = Trainer("fmtl")
    trainer.step()
    before, calls = trainer.state(), 0

    def later(losses: Losses) -> Losses:
        nonlocal calls
        calls += 1
        return overflow(losses) if calls > 1 else losses

    assert trainer.step(later).overflow
    assert trainer.state() == before


@pytest.mark.parametrize("name", [name for name in METHODS if recon.create_method(name).needs_validation])
def test_an_overflow_of_the_validation_batch_alone_skips_the_step_and_lowers_the_scale(name: str) -> None:
    trainer = Trainer(name, observed=True)
    assert trainer.scaler is not None
    trainer.step()
    before = trainer.state()
    info = trainer.engine.step(
        lambda batch=None: trainer.losses(), trainer.optimizer, validation=lambda: trainer.losses(overflow)
    )
    assert info.overflow
    assert trainer.state() == before
    assert trainer.scaler.get_scale() == 512


@pytest.mark.parametrize("name", ["joint", "mgda", "pcgrad"])
def test_a_loss_that_overflows_with_finite_gradients_skips_the_step_too(name: str) -> None:
    trainer = Trainer(name)
    before = trainer.state()
    assert trainer.step(lambda losses: losses | {"b": losses["b"] + float("inf")}).overflow
    assert trainer.state() == before


@pytest.mark.parametrize("name", ["joint", "mgda", "graddrop", "psmgd", "uw"])
def test_a_loop_of_ones_own_steps_as_torch_documents_it(name: str) -> None:
    by_engine, by_hand = Trainer(name), Trainer(name)
    assert by_hand.scaler is not None
    for spoil in (dict, overflow, dict, dict):
        by_engine.step(spoil)
        by_hand.optimizer.zero_grad()
        by_hand.engine.backward(by_hand.losses(spoil))
        by_hand.scaler.step(by_hand.optimizer)
        by_hand.scaler.update()
    assert by_hand.state() == by_engine.state()
    assert by_engine.scaler is not None
    assert by_hand.scaler.get_scale() == by_engine.scaler.get_scale() == 512


def test_optimizers_of_parts_are_skipped_alike() -> None:
    trainer = Trainer("mgda")
    assert trainer.scaler is not None
    optimizers = [
        torch.optim.SGD(part.parameters(), lr=0.1) for part in (trainer.net.backbone, *trainer.net.heads.values())
    ]
    before = values(trainer.net)
    assert trainer.engine.backward(trainer.losses(overflow)).overflow
    for optimizer in optimizers:
        trainer.scaler.step(optimizer)
    trainer.scaler.update()
    assert torch.equal(values(trainer.net), before)


def test_gradients_are_clipped_after_unscaling() -> None:
    trainer, plain = Trainer("pcgrad"), Trainer("pcgrad", half=False)
    assert trainer.scaler is not None
    trainer.engine.backward(trainer.losses())
    trainer.scaler.unscale_(trainer.optimizer)
    plain.engine.backward(plain.losses())
    lengths = [nn.utils.clip_grad_norm_(each.net.parameters(), 0.1) for each in (trainer, plain)]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=2e-3, atol=0)
    trainer.scaler.step(trainer.optimizer)
    plain.optimizer.step()
    torch.testing.assert_close(values(trainer.net), values(plain.net), rtol=0, atol=1e-5)


def test_micro_batches_in_float16_are_the_whole_batch() -> None:
    trainer, whole = Trainer("mgda"), Trainer("mgda", half=False)
    x = samples(32, dtype=torch.float32)
    trainer.engine.accumulate(trainer.net.losses(x[:5], half=torch.float16), counts=dict.fromkeys(TASKS, 5))
    trainer.engine.step(
        lambda batch=None: trainer.net.losses(x[5:], half=torch.float16), trainer.optimizer, dict.fromkeys(TASKS, 27)
    )
    whole.step()
    torch.testing.assert_close(values(trainer.net), values(whole.net), rtol=0, atol=2e-4)


def test_an_overflow_in_a_micro_batch_skips_the_step_of_the_whole() -> None:
    trainer = Trainer("pcgrad")
    before = trainer.state()
    trainer.engine.accumulate(trainer.losses(overflow))
    assert trainer.step().overflow
    assert trainer.state() == before
    assert not trainer.step().overflow


@pytest.mark.parametrize("name", ["joint", "mgda"])
def test_a_loss_that_is_not_finite_ends_with_an_error_once_the_scale_is_below_one(name: str) -> None:
    trainer = Trainer(name)
    with pytest.raises(ValueError, match=r"step 11: .* not finite, and the loss scale is down to 0\.5"):
        for _ in range(20):
            trainer.step(lambda losses: losses | {"b": losses["b"] * float("nan")})


def test_a_small_scale_alone_is_no_error() -> None:
    trainer = Trainer("mgda")
    trainer.scaler = trainer.engine._setting.scaling.scaler = torch.amp.GradScaler("cpu", init_scale=0.5)
    assert not trainer.step().overflow


def test_a_scaler_without_float16_is_refused() -> None:
    trainer = Trainer("mgda")
    trainer.half = False
    with pytest.raises(ValueError, match=r"has a scaler, and no operation of the losses runs in float16"):
        trainer.step()
    with pytest.raises(TypeError, match=r"scaler is of type float; give a torch\.amp\.GradScaler"):
        LossScaling(2.0)  # type: ignore[arg-type]


def test_a_scaler_that_is_not_enabled_does_nothing() -> None:
    trainer, plain = Trainer("pcgrad", half=False), Trainer("pcgrad", half=False)
    trainer.engine = recon.Engine(
        trainer.net.backbone, TASKS, trainer.method, scaler=torch.amp.GradScaler("cpu", enabled=False)
    )
    trainer.step()
    plain.step()
    assert torch.equal(values(trainer.net), values(plain.net))


def test_lbfgs_refuses_a_scaler() -> None:
    trainer = Trainer("joint")
    optimizer = torch.optim.LBFGS(trainer.net.parameters())
    with pytest.raises(TypeError, match=r"LBFGS evaluates the losses itself, which a GradScaler does not support"):
        trainer.engine.step(lambda batch=None: trainer.losses(), optimizer)
