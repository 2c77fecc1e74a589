"""Several processes: bad input of one ends the step of all with an error that names it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from in_threads import ThreadProcesses, Threads
from three_heads import TASKS, ThreeHeads, gradients, samples
from torch import Tensor, nn

import recon


def engine_of(net: ThreeHeads, method: str = "mgda", **options: Any) -> recon.Engine:
    return recon.Engine(net.backbone, options.pop("tasks", TASKS), recon.create_method(method), **options)


def errors(results: list[Any], kind: type[Exception] = ValueError) -> list[str]:
    for result in results:
        assert isinstance(result, kind), result
    return [str(result) for result in results]


def test_other_tasks_layers_methods_options_and_steps_are_named_at_the_first_step(threads: Threads) -> None:
    def unlike(change: Callable[[ThreeHeads, dict[str, Any]], None], step: int = 0) -> list[str]:
        def train(own: ThreadProcesses) -> None:
            net, options = ThreeHeads(), {"method": "mgda"}
            if own.rank == 1:
                change(net, options)
            engine = engine_of(net, **options)
            engine.step_count = step * own.rank
            losses = net.losses(samples(4))
            engine.backward({task: loss for task, loss in losses.items() if task in engine.tasks})

        return errors(threads.run(2, train))

    for text in unlike(lambda net, options: options.update(tasks=("a", "b"))):
        assert text.startswith("process 1 has other tasks than process 0: ['a', 'b'], not ['a', 'b', 'c']; make the")
    for text in unlike(lambda net, options: net.backbone[0].requires_grad_(False)):
        assert text.startswith("process 1 has other layers than process 0: '0' is missing, not [(16, 6), (16,)]")
    for text in unlike(lambda net, options: options.update(method="pcgrad")):
        assert text.startswith("process 1 has other method than process 0: PCGrad(seed=0), not MGDA(")
    for text in unlike(lambda net, options: options.update(update_scale="sum")):
        assert text.startswith("process 1 has other options than process 0: 'update_scale' is sum, not method")
    for text in unlike(lambda net, options: None, step=3):
        assert text.startswith("process 1 has other steps before this one than process 0: 3, not 0")


def test_processes_that_start_from_other_parameters_are_refused(threads: Threads) -> None:
    def train(own: ThreadProcesses, part: str, told: bool) -> None:
        net = ThreeHeads()
        if own.rank == 1:
            with torch.no_grad():
                next(net.get_submodule(part).parameters()).mul_(1 + 1e-15)
        engine_of(net, heads=net.heads if told else None).backward(net.losses(samples(4)))

    for part, told, name in (
        ("backbone.2", True, "layer '2'"),
        ("heads.b", True, "the heads or branches"),
        ("heads.b", False, "the head of task 'b'"),
    ):
        for text in errors(threads.run(2, lambda own, part=part, told=told: train(own, part, told))):
            assert text.startswith(f"process 1 has other parameters than process 0 in {name}; start all processes")


@pytest.mark.parametrize(
    ("spoil", "own", "others"),
    [
        (lambda losses: losses | {"d": losses["a"]}, r"unknown \['d'\]", r"process 1 refused its batch in step 0: "),
        (
            lambda losses: losses | {"b": losses["b"].detach()},
            r"^the loss of task 'b' has no graph",
            "process 1 refused",
        ),
        (
            lambda losses: losses | {"b": losses["b"] * float("nan")},
            "loss of task 'b' is not finite in step 0",
            "'b' is not",
        ),
        (
            lambda losses: losses | {"b": losses["b"] + (losses["b"] - losses["b"]).sqrt()},
            "is not finite in step 0",
            "is not finite in step 0",
        ),
    ],
)
@pytest.mark.parametrize("method", ["joint", "mgda", "graddrop", "moco"])
def test_a_loss_refused_in_one_process_ends_the_step_of_all_and_the_next_goes_on(
    threads: Threads, spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], own: str, others: str, method: str
) -> None:
    def train(process: ThreadProcesses) -> dict[str, Tensor | None]:
        net = ThreeHeads()
        engine = engine_of(net, method)
        losses = net.losses(samples(4, process.rank))
        with pytest.raises(ValueError, match=own if process.rank == 1 else others):
            engine.backward(spoil(losses) if process.rank == 1 else losses)
        net.zero_grad()
        engine.method.zero_grad()
        engine.backward(net.losses(samples(4, process.rank)))
        return gradients(net)

    first, second = threads.run(2, train)
    torch.testing.assert_close(first, second)


def test_a_batch_without_any_label_is_refused_in_all(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        engine_of(ThreeHeads()).backward({})

    for text in errors(threads.run(2, train)):
        assert text == "step 0: no process has a loss of any task; skip such a batch in all processes"


@pytest.mark.parametrize("method", ["joint", "mgda", "graddrop", "krum", "psmgd"])
def test_a_process_without_any_label_takes_part(threads: Threads, method: str) -> None:
    def train(own: ThreadProcesses) -> dict[str, Tensor | None]:
        net = ThreeHeads()
        engine = engine_of(net, method, heads=net.heads)
        for _ in range(3):
            engine.backward(net.losses(samples(4)) if own.rank == 1 else {})
        return gradients(net)

    alone = ThreeHeads()
    engine = engine_of(alone, method)
    for _ in range(3):
        engine.backward(alone.losses(samples(4)))
    for found in threads.run(3, train):
        torch.testing.assert_close(found, gradients(alone))


def test_a_head_that_a_process_cannot_know_is_named_with_the_cure(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        losses = net.losses(samples(4))
        engine_of(net).backward({"a": losses["a"]} if own.rank == 1 else losses)

    for text in errors(threads.run(2, train)):
        assert text.startswith("process 1 has no label of task 'b' in this step and has met none before")
        assert "recon.Engine(..., heads=heads)" in text


def test_a_process_that_leaves_out_a_batch_is_named(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        engine = engine_of(net)
        engine.backward(net.losses(samples(4)))
        engine.step_count += own.rank  # as if it had passed over a step
        engine.backward(net.losses(samples(4)))

    for text in errors(threads.run(2, train)):
        assert text.startswith("process 1 is at step 2, process 0 at step 1: one of them has left out a batch")


def test_losses_that_are_no_mapping_in_one_process_end_the_step_of_all(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        losses: Any = net.losses(samples(4))
        engine_of(net).backward(list(losses.values()) if own.rank == 1 else losses)

    other, own = threads.run(2, train)
    assert isinstance(own, TypeError)
    assert str(own) == "losses must be a mapping of tasks to scalar losses, got list"
    assert isinstance(other, ValueError)
    assert str(other).startswith("process 1 refused its batch in step 0: losses must be a mapping of tasks")


def test_layers_frozen_in_one_process_are_named(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        engine = engine_of(net)
        engine.backward(net.losses(samples(4)))
        net.backbone[0].requires_grad_(own.rank == 0)
        engine.backward(net.losses(samples(4)))

    for text in errors(threads.run(2, train)):
        assert text.startswith("process 1 trains other layers than process 0 in step 1; freeze and thaw layers")


def test_a_norm_over_all_processes_needs_labels_in_each(threads: Threads) -> None:
    class Synchronised(ThreeHeads):
        def __init__(self) -> None:
            super().__init__()
            self.backbone.append(nn.SyncBatchNorm(8).requires_grad_(False).double().eval())  # known by its class

    def train(own: ThreadProcesses) -> None:
        net = Synchronised()
        engine_of(net, heads=net.heads).backward(net.losses(samples(4)) if own.rank == 0 else {})

    for text in errors(threads.run(2, train)):
        assert text.startswith("process 1 has no label of any task in step 0, and SyncBatchNorm needs all processes")


def test_methods_of_one_process_are_refused_in_all_even_if_one_has_a_single_label(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        engine, optimizer = engine_of(net, "fmtl"), torch.optim.SGD(net.parameters())
        losses = net.losses(samples(4))
        engine.step(lambda batch=None: {"a": losses["a"]} if own.rank == 1 else losses, optimizer)

    for text in errors(threads.run(2, train), TypeError):
        assert text.startswith("FMTL works in one process only, and this run has 2; take another method")


def test_losses_of_another_dtype_leave_the_processes_alike(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> tuple[Any, Any]:
        net = ThreeHeads(torch.float32)
        engine = engine_of(net, "dwa", heads=net.heads)
        for step in range(3):
            losses = net.losses(samples(4, dtype=torch.float32))
            engine.backward({t: loss.bfloat16() for t, loss in losses.items()} if own.rank == step % 2 else {})
            engine.method.end_epoch()
        return engine.method.state_dict(), gradients(net)

    first, second = threads.run(2, train)
    assert str(first) == str(second)


def test_leaves_that_are_no_parameters_stay_with_their_process(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> Tensor | None:
        net = ThreeHeads()
        x = samples(4 + own.rank).requires_grad_()
        engine = engine_of(net)
        engine.backward({task: loss * (own.rank + 1) for task, loss in net.losses(x).items()})
        return x.grad

    first, second = threads.run(2, train)
    assert (first.shape, second.shape) == ((4, 6), (5, 6))


def test_running_statistics_are_those_of_the_first_process(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> dict[str, Tensor]:
        net = ThreeHeads()
        net.backbone.append(nn.BatchNorm1d(8).double())
        net.heads["b"] = nn.Sequential(nn.BatchNorm1d(8).double(), net.heads["b"])
        engine = engine_of(net, heads=net.heads)
        for _ in range(2):
            engine.backward(net.losses(samples(6, own.rank)))
        return {name: buffer.clone() for name, buffer in net.named_buffers()}

    first, second = threads.run(2, train)
    assert first.keys() == second.keys() and len(first) == 6
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["joint", "uw", "mgda", "trimmed_mean"])
@pytest.mark.parametrize("first", [("a", "b", "c"), ("a",)])
def test_micro_batches_of_one_process_alone_are_part_of_the_step_of_all(
    threads: Threads, method: str, first: tuple[str, ...]
) -> None:
    def some(losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {task: loss for task, loss in losses.items() if task in first}

    def train(own: ThreadProcesses) -> dict[str, Tensor | None]:
        net = ThreeHeads()
        engine = engine_of(net, method, heads=net.heads)
        if own.rank == 0:
            engine.accumulate(some(net.losses(samples(4, seed=0))))
        engine.backward(some(net.losses(samples(4, seed=1 + own.rank))))
        return gradients(net)

    alone = ThreeHeads()
    engine = engine_of(alone, method)
    for seed in (0, 1):
        engine.accumulate(some(alone.losses(samples(4, seed=seed))))
    engine.backward(some(alone.losses(samples(4, seed=2))))
    for found in threads.run(2, train):
        assert not isinstance(found, Exception), found
        torch.testing.assert_close(found, gradients(alone))


def test_counts_of_one_process_alone_are_refused(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        losses = net.losses(samples(4))
        engine_of(net, heads=net.heads).backward(losses, counts=dict.fromkeys(losses, 4) if own.rank else None)

    for text in errors(threads.run(2, train)):
        assert text.startswith("step 0: counts are given for some processes and not for others")


def test_an_analyzer_in_one_process_alone_is_refused(threads: Threads) -> None:
    def train(own: ThreadProcesses) -> None:
        net = ThreeHeads()
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS) if own.rank else None
        engine_of(net, "joint", heads=net.heads, analyzer=analyzer).backward(net.losses(samples(4)))

    for text in errors(threads.run(2, train)):
        assert text.startswith("process 1 has other analyzer than process 0")
