"""Copies that a group of tasks shares: the sum of the group's gradients, in every way through a step."""

import copy
import warnings

import pytest
import torch
from in_threads import ThreadProcesses, Threads
from three_heads import TASKS, ThreeHeads, gradients, samples
from torch import Tensor, nn

import recon
from recon.engine import Evaluation

GROUPS = {"0": [["a", "c"], ["b"]]}
METHODS = ("joint", "uw", "pcgrad", "graddrop", "mgda")


class Grouped(nn.Module):
    """Three heads on a backbone whose first layer has a copy for a and c, and one for b."""

    def __init__(self, groups: dict[str, list[list[str]]] = GROUPS) -> None:
        super().__init__()
        net = ThreeHeads()
        self.backbone, self.heads = recon.branch(net.backbone, ["0"], TASKS, groups=groups), net.heads
        with torch.no_grad():
            for number, branch in enumerate(self.backbone.branches.values()):
                for parameter in branch.parameters():
                    parameter.mul_(1 + 0.2 * number)

    def evaluate(self, x: Tensor, tasks: tuple[str, ...] = TASKS) -> Evaluation:
        features = self.backbone(x)
        losses = {task: (self.heads[task](features[task]) - TASKS.index(task)).square().mean() for task in tasks}
        return Evaluation(losses, counts=dict.fromkeys(tasks, len(x)))


def engine_of(net: Grouped, method: str = "joint", **options: object) -> recon.Engine:
    return recon.Engine(net.backbone, TASKS, recon.create_method(method), heads=net.heads, **options)  # type: ignore[arg-type]


def branch_gradients(net: Grouped) -> dict[str, Tensor | None]:
    return {name: gradient for name, gradient in gradients(net).items() if "branches" in name}


@pytest.mark.parametrize("memory", ["jacobian", "gramian"])
@pytest.mark.parametrize("method", ["joint", "pcgrad", "mgda"])
def test_a_copy_gets_the_sum_and_shared_layers_the_update_of_the_method(method: str, memory: str) -> None:
    net = Grouped()
    plain = copy.deepcopy(net)
    info = engine_of(net, method, memory=memory).backward(net.evaluate(samples(4)))
    losses = plain.evaluate(samples(4))
    rows: dict[str, dict[str, Tensor]] = {}
    for task in TASKS:
        plain.zero_grad()
        losses[task].backward(retain_graph=True)
        rows[task] = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    for name, parameter in net.named_parameters():
        of_tasks = {task: own[name] for task, own in rows.items() if name in own}
        if name.startswith("backbone.shared"):
            weights = torch.ones(3) if info.weights is None else info.weights  # joint
            expected = sum(w * of_tasks[task] for w, task in zip(weights.to(parameter), TASKS, strict=True))
        else:
            expected = sum(of_tasks.values())
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)
    assert set(rows["a"]) & set(rows["c"]) - set(rows["b"]) == {
        "backbone.branches.a.0.weight",
        "backbone.branches.a.0.bias",
    }


def test_a_loss_method_weighs_the_gradients_in_a_copy_as_in_heads() -> None:
    net, observed = Grouped(), Grouped()
    for module, analyzer in ((net, None), (observed, recon.ConflictAnalyzer(observed.backbone, TASKS))):
        engine_of(module, "uw", analyzer=analyzer).backward(module.evaluate(samples(4)))
    torch.testing.assert_close(gradients(observed), gradients(net))
    plain = Grouped()
    method = recon.create_method("uw")
    method.bind(3)
    values = plain.evaluate(samples(4))
    method.objective(torch.stack([values[task] for task in TASKS])).backward()
    torch.testing.assert_close(branch_gradients(net), branch_gradients(plain))


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_give_the_gradients_of_the_whole_batch(method: str) -> None:
    x, whole, parts = samples(6), Grouped(), Grouped()
    engine_of(whole, method).backward(whole.evaluate(x))
    engine = engine_of(parts, method)
    engine.accumulate(parts.evaluate(x[:2]))
    engine.backward(parts.evaluate(x[2:]))
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_several_processes_give_the_gradients_of_one(method: str, threads: Threads) -> None:
    x, whole = samples(6), Grouped()
    engine_of(whole, method).backward(whole.evaluate(x))

    nets = [Grouped(), Grouped()]  # branch traces, which one thread at a time may do

    def train(process: ThreadProcesses) -> dict[str, Tensor | None]:
        net = nets[process.rank]
        engine_of(net, method).backward(net.evaluate(x[:2] if process.rank else x[2:]))
        return gradients(net)

    for found in threads.run(2, train):
        torch.testing.assert_close(found, gradients(whole), rtol=1e-9, atol=1e-12)


def test_a_process_may_lack_a_task_of_the_group(threads: Threads) -> None:
    x, whole = samples(6), Grouped()
    engine_of(whole).backward(
        Evaluation(
            {**whole.evaluate(x[2:], ("b", "c")), **whole.evaluate(x[:2], ("a",))}, counts={"a": 2, "b": 4, "c": 4}
        )
    )

    nets = [Grouped(), Grouped()]

    def train(process: ThreadProcesses) -> dict[str, Tensor | None]:
        net = nets[process.rank]
        engine_of(net).backward(net.evaluate(x[:2], ("a",)) if process.rank else net.evaluate(x[2:], ("b", "c")))
        return gradients(net)

    for found in threads.run(2, train):
        torch.testing.assert_close(found, gradients(whole), rtol=1e-9, atol=1e-12)


def test_a_task_without_labels_takes_nothing_from_the_copy_that_it_shares() -> None:
    net, without = Grouped(), Grouped()
    engine_of(net, "pcgrad").backward(net.evaluate(samples(4), ("a", "b")))
    losses = without.evaluate(samples(4), ("a", "b"))
    losses["a"].backward()
    grad = net.backbone.branches["a"].get_submodule("0").weight.grad
    torch.testing.assert_close(grad, without.backbone.branches["a"].get_submodule("0").weight.grad)
    assert all(p.grad is None for p in net.heads["c"].parameters())


def test_compiled_code_gives_a_copy_the_gradients_of_the_tasks_that_are_there() -> None:
    torch.compiler.reset()  # of functions that other tests have compiled
    net, plain = Grouped(), Grouped()
    module = torch.compile(net.backbone, backend="aot_eager")
    engine = recon.Engine(module, TASKS, "pcgrad")
    features = module(samples(4))
    engine.backward({task: net.heads[task](features[task]).square().mean() for task in ("a", "b")})
    own = plain.backbone(samples(4))
    for task in ("a", "b"):
        plain.heads[task](own[task]).square().mean().backward(retain_graph=True)
    torch.testing.assert_close(branch_gradients(net), branch_gradients(plain))


def test_no_warning_tells_of_copies_that_tasks_share_on_purpose() -> None:
    net = Grouped()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine_of(net, "pcgrad", analyzer=recon.ConflictAnalyzer(net.backbone, TASKS)).backward(
            net.evaluate(samples(4))
        )


@pytest.mark.parametrize(("groups", "branched"), [([["a"], ["b"], ["c"]], True), ([["a", "b", "c"]], False)])
def test_the_ends_are_branching_as_before_and_the_plain_network(groups: list[list[str]], branched: bool) -> None:
    torch.manual_seed(0)
    plain = ThreeHeads()
    ends = recon.branch(plain.backbone, ["0"], TASKS, groups={"0": groups})
    before = recon.branch(plain.backbone, ["0"] if branched else [], TASKS)
    assert list(ends.state_dict()) == list(before.state_dict())
    assert str(ends) == str(before)
    for net in (ends, before):
        heads = copy.deepcopy(plain.heads)
        features = net(samples(4))
        losses = {task: heads[task](features[task]).square().mean() for task in TASKS}
        recon.Engine(net, TASKS, "pcgrad").backward(losses)
    torch.testing.assert_close(gradients(ends), gradients(before), rtol=0, atol=0)
