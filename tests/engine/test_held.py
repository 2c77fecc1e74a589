"""Micro-batches: any division of a batch, and the state between its parts."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from three_heads import TASKS, ThreeHeads, gradients, samples, values

import recon
from recon.engine.held import Held

METHODS = ("joint", "uw", "mgda", "pcgrad", "graddrop", "trimmed_mean", "moco", "psmgd", "imtl")
SAMPLES = 12


def engine_of(net: ThreeHeads, method: str, **options: Any) -> recon.Engine:
    return recon.Engine(net.backbone, TASKS, recon.create_method(method), **options)


@given(
    method=st.sampled_from(METHODS),
    labels=st.lists(st.integers(0, 7), min_size=SAMPLES, max_size=SAMPLES).filter(any),
    ends=st.sets(st.integers(1, SAMPLES - 1), max_size=4),
    observed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_division_of_a_batch_gives_the_gradients_of_the_whole(
    method: str, labels: list[int], ends: set[int], observed: bool
) -> None:
    x, valid = samples(SAMPLES), torch.tensor([[bool(bits >> task & 1) for bits in labels] for task in range(3)])
    found, infos = [], []
    for bounds in ((0, SAMPLES), (0, *sorted(ends), SAMPLES)):
        net = ThreeHeads()
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS) if observed else None
        engine = engine_of(net, method, analyzer=analyzer)
        parts = [net.evaluate(x[a:b], valid[:, a:b]) for a, b in pairwise(bounds)]
        for part in parts[:-1]:
            engine.accumulate(part)
        infos.append(engine.backward(parts[-1]))
        found.append(gradients(net) | gradients(engine.method))
    for name, gradient in found[0].items():
        if gradient is None:
            assert found[1][name] is None, name
        else:
            torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-12)
    assert infos[0].losses.keys() == infos[1].losses.keys()
    for task, loss in infos[0].losses.items():
        torch.testing.assert_close(infos[1].losses[task], loss)
    if observed and len(infos[0].losses) > 1:
        torch.testing.assert_close(infos[1].layer_gramians, infos[0].layer_gramians)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"a": 1, "b": 0, "c": 1}, r"step 0: the count of task 'b' is 0; leave out"),
        ({"a": 1, "b": -2, "c": 1}, r"the count of task 'b' is -2"),
        ({"a": 1, "b": float("nan"), "c": 1}, r"the count of task 'b' is nan"),
        ({"a": 1, "b": float("inf"), "c": 1}, r"the count of task 'b' is inf"),
        ({"a": 1, "b": 1}, r"counts are given for \['a', 'b'\], losses for \['a', 'b', 'c'\]"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, r"counts are given for .*'d'"),
    ],
)
def test_bad_counts_are_refused_before_anything_changes(counts: dict[str, float], text: str) -> None:
    net = ThreeHeads()
    engine = engine_of(net, "mgda")
    for call in (engine.backward, engine.accumulate):
        with pytest.raises(ValueError, match=text):
            call(net.losses(samples(4)), counts=counts)
        assert not any(p.grad is not None for p in net.parameters())
    assert engine.step_count == 0
    engine.backward(net.losses(samples(4)))  # nothing of the refused micro-batches is in it
    plain = ThreeHeads()
    engine_of(plain, "mgda").backward(plain.losses(samples(4)))
    assert str(gradients(net)) == str(gradients(plain))


@pytest.mark.parametrize("name", ["joint", "mgda", "graddrop"])
def test_grad_is_untouched_until_backward_which_adds_to_it(name: str) -> None:
    net, plain = ThreeHeads(), ThreeHeads()
    engine = engine_of(net, name)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = str(gradients(net))
    engine.accumulate(net.losses(samples(4)))
    engine.accumulate({"a": net.losses(samples(3))["a"]})
    assert str(gradients(net)) == before
    engine.backward(net.losses(samples(5)))

    other = engine_of(plain, name)
    other.accumulate(plain.losses(samples(4)))
    other.accumulate({"a": plain.losses(samples(3))["a"]})
    other.backward(plain.losses(samples(5)))
    for (key, gradient), expected in zip(gradients(net).items(), gradients(plain).values(), strict=True):
        assert gradient is not None and expected is not None
        torch.testing.assert_close(gradient, expected + 1, msg=key)


def test_the_last_micro_batch_may_have_no_label() -> None:
    net, plain = ThreeHeads(), ThreeHeads()
    engine = engine_of(net, "mgda")
    engine.accumulate(net.losses(samples(4)))
    info = engine.backward({})
    engine_of(plain, "mgda").backward(plain.losses(samples(4)))
    torch.testing.assert_close(gradients(net), gradients(plain))
    assert [*info.losses] == [*TASKS]
    with pytest.raises(ValueError, match=r"step 1: there is no loss of any task"):
        engine.backward({})


def test_a_refused_micro_batch_does_not_count() -> None:
    net, plain = ThreeHeads(), ThreeHeads()
    engine = engine_of(net, "mgda")
    engine.accumulate(net.losses(samples(4)))
    losses = net.losses(samples(4))
    with pytest.raises(ValueError, match=r"the loss of task 'b' is not finite in step 0"):
        engine.accumulate(losses | {"b": losses["b"] * float("nan")})
    with pytest.raises(ValueError, match=r"unknown \['d'\]"):
        engine.accumulate(losses | {"d": losses["b"]})
    engine.backward(net.losses(samples(5)))
    other = engine_of(plain, "mgda")
    other.accumulate(plain.losses(samples(4)))
    other.backward(plain.losses(samples(5)))
    assert str(gradients(net)) == str(gradients(plain))


@pytest.mark.parametrize("spoil", [{"b": float("nan")}, {"d": 1.0}])
def test_a_refused_step_takes_its_micro_batches_with_it(spoil: dict[str, float]) -> None:
    net, plain = ThreeHeads(), ThreeHeads()
    engine = engine_of(net, "mgda")
    engine.accumulate(net.losses(samples(4)))
    losses = net.losses(samples(4))
    with pytest.raises(ValueError, match=r"not finite|unknown"):
        engine.backward(losses | {task: losses["a"] * factor for task, factor in spoil.items()})
    net.zero_grad()
    engine.backward(net.losses(samples(5)))
    engine_of(plain, "mgda").backward(plain.losses(samples(5)))
    assert str(gradients(net)) == str(gradients(plain))


@pytest.mark.parametrize("first_frozen", [False, True])
def test_layers_that_freeze_or_thaw_amid_a_batch_are_refused(first_frozen: bool) -> None:
    net = ThreeHeads()
    engine = engine_of(net, "mgda")
    net.backbone[0].requires_grad_(not first_frozen)
    engine.accumulate(net.losses(samples(4)))
    net.backbone[0].requires_grad_(first_frozen)
    with pytest.raises(ValueError, match=r"layers of the shared part have been frozen, thawed, cast or moved since"):
        engine.backward(net.losses(samples(4)))
    net.zero_grad()
    engine.backward(net.losses(samples(4)))


def test_a_frozen_shared_part_accumulates_in_the_heads() -> None:
    net, plain = ThreeHeads(), ThreeHeads()
    x, valid = samples(8), torch.ones(3, 8, dtype=torch.bool)
    for each in (net, plain):
        each.backbone.requires_grad_(False)
    engine = engine_of(net, "mgda")
    engine.accumulate(net.evaluate(x[:3], valid[:, :3]))
    engine.backward(net.evaluate(x[3:], valid[:, 3:]))
    engine_of(plain, "mgda").backward(plain.evaluate(x, valid))
    torch.testing.assert_close(gradients(net), gradients(plain))


@pytest.mark.parametrize("name", ["famo", "fmtl"])
def test_methods_that_evaluate_the_batch_again_refuse_micro_batches(name: str) -> None:
    net = ThreeHeads()
    with pytest.raises(TypeError, match=r"evaluates the losses of the whole batch again in its step"):
        engine_of(net, name).accumulate(net.losses(samples(4)))


def test_representations_and_lbfgs_take_whole_batches() -> None:
    net = ThreeHeads()
    with pytest.raises(ValueError, match=r"use at='parameters' to accumulate"):
        engine_of(net, "mgda", at="representation").accumulate(net.losses(samples(4)))
    engine = engine_of(net, "joint")
    engine.accumulate(net.losses(samples(4)))
    optimizer = torch.optim.LBFGS(net.parameters())
    before = values(net)
    with pytest.raises(TypeError, match=r"LBFGS evaluates the whole batch several times a step"):
        engine.step(lambda batch=None: net.losses(samples(4)), optimizer)
    assert torch.equal(values(net), before)


def test_sums_of_losses_in_half_precision_are_wide() -> None:
    held = Held()
    held.add({0: torch.tensor(2.0, dtype=torch.float16)}, {0: 1e6})
    _, sums = held.with_losses({0: torch.tensor(1.0, dtype=torch.float16)}, {0: 1e6})
    assert sums[0].item() == 3e6


def test_a_step_of_one_micro_batch_equals_a_step_without() -> None:
    """The collected way, beside the direct one."""
    for name in ("joint", "mgda"):
        net, plain = ThreeHeads(), ThreeHeads()
        engine = engine_of(net, name)
        engine.accumulate(net.losses(samples(4)))
        engine.backward({})
        engine_of(plain, name).backward(plain.losses(samples(4)))
        torch.testing.assert_close(gradients(net), gradients(plain))


def test_counts_of_some_micro_batches_alone_are_refused() -> None:
    net = ThreeHeads()
    engine = recon.Engine(net.backbone, TASKS, "mgda")
    losses = net.losses(samples(4))
    engine.accumulate(losses, counts=dict.fromkeys(losses, 4))
    with pytest.raises(ValueError, match="counts are given for some micro-batches and not for others"):
        engine.backward(net.losses(samples(4)))


def test_freezing_the_whole_shared_part_between_micro_batches_is_refused() -> None:
    net = ThreeHeads()
    engine = recon.Engine(net.backbone, TASKS, "joint")
    engine.accumulate(net.losses(samples(4)))
    net.backbone.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen, thawed, cast or moved since"):
        engine.backward(net.losses(samples(4)))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (32, "must be a mapping"),
        ({"a": "3", "b": 1, "c": 1}, "the count of task 'a' is '3'"),
        ({"a": torch.ones(4), "b": 1, "c": 1}, "the count of task 'a' is tensor"),
    ],
)
def test_counts_that_are_no_numbers_are_named(counts: object, message: str) -> None:
    net = ThreeHeads()
    with pytest.raises(TypeError, match=message):
        recon.Engine(net.backbone, TASKS, "mgda").backward(net.losses(samples(4)), counts=counts)  # type: ignore[arg-type]
