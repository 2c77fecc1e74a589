"""Steps without the Jacobian against the same steps with it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from two_heads import TwoHeads, flat_grad

import recon
from recon.engine.memory import Memory
from recon.methods import GramianMethod, JacobianMethod, LossMethod, list_methods

TASKS = ("a", "b", "c", "d")
METHODS = [*list_methods(GramianMethod), *list_methods(LossMethod)]


def trained(
    memory: Memory,
    make_engine: Callable[[TwoHeads, Memory], recon.Engine],
    dtype: torch.dtype = torch.float64,
    present: Callable[[int], tuple[str, ...]] = lambda step: TASKS,
    steps: int = 5,
) -> tuple[Tensor, list[recon.engine.StepInfo]]:
    """All parameters after some steps, and the records of the steps."""
    net = TwoHeads(TASKS, dtype)
    engine = make_engine(net, memory)
    optimizer = torch.optim.SGD([*net.parameters(), *engine.method.parameters()], lr=0.02, momentum=0.9)
    generator, infos = torch.Generator().manual_seed(5), []
    for step in range(steps):
        x = torch.randn(6, 1, 6, 6, generator=generator, dtype=torch.float64).to(dtype)

        def losses(batch: Tensor = x, step: int = step) -> dict[str, Tensor]:
            every = net.losses(batch)
            return {task: every[task] for task in present(step)}

        infos.append(engine.step(losses, optimizer, validation=losses))
    return torch.cat([p.detach().flatten() for p in net.parameters()]), infos


def same(make_engine: Callable[[TwoHeads, Memory], recon.Engine], rtol: float = 1e-10, **options: object) -> None:
    """Hold both kinds of memory to the same parameters, weights and layer Gramians."""
    (with_it, known), (without, found) = (trained(m, make_engine, **options) for m in ("jacobian", "gramian"))  # type: ignore[arg-type]
    scale = float(with_it.abs().max())
    torch.testing.assert_close(without, with_it, rtol=0, atol=rtol * scale)
    for one, other in zip(known, found, strict=True):
        assert (one.weights is None) == (other.weights is None)
        if one.layer_gramians is not None:
            assert other.layer_gramians is not None
            bound = float(one.layer_gramians.abs().max())
            torch.testing.assert_close(
                other.layer_gramians.double(), one.layer_gramians.double(), rtol=0, atol=rtol * bound
            )


@pytest.mark.parametrize("name", METHODS)
def test_steps_are_those_with_the_jacobian(name: str) -> None:
    same(lambda net, memory: recon.Engine(net.backbone, TASKS, name, memory=memory))


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "cagrad", "upgrad", "joint", "uw"])
def test_float32_steps_are_those_with_the_jacobian(name: str) -> None:
    def make(net: TwoHeads, memory: Memory) -> recon.Engine:
        return recon.Engine(net.backbone, TASKS, name, memory=memory)

    same(make, rtol=1e-6, dtype=torch.float32, steps=1)


@pytest.mark.parametrize("name", ["mgda", "joint", "uw", "gls"])
def test_observed_steps_are_those_with_the_jacobian(name: str) -> None:
    maps = []

    def make(net: TwoHeads, memory: Memory) -> recon.Engine:
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS, every=2)
        maps.append(analyzer)
        return recon.Engine(net.backbone, TASKS, name, analyzer, update_scale="sum", memory=memory)

    same(make)
    jacobian, gramian = (analyzer.conflict_map().layers for analyzer in maps)
    assert [str(layer) for layer in gramian] == [str(layer) for layer in jacobian]


@pytest.mark.parametrize("name", ["mgda", "pcgrad", "nash_mtl", "uw"])
def test_steps_without_some_tasks_are_those_with_the_jacobian(name: str) -> None:
    same(
        lambda net, memory: recon.Engine(net.backbone, TASKS, name, memory=memory),
        present=lambda step: (TASKS[step % 4],) if step == 3 else TASKS[step % 2 : 2 + step % 3],
    )


@pytest.mark.parametrize("layers", [["0"], ["4"], ["1", "4"]])
def test_branched_networks_are_trained_as_with_the_jacobian(layers: list[str]) -> None:
    def make(net: TwoHeads, memory: Memory) -> recon.Engine:
        branched = recon.branch(net.backbone, layers, TASKS)
        net.backbone = branched
        net.losses = lambda x: {  # type: ignore[method-assign]
            task: (net.heads[task](features) - i).square().mean()
            for i, (task, features) in enumerate(branched(x).items())
        }
        analyzer = recon.ConflictAnalyzer(branched, TASKS)
        return recon.Engine(branched, TASKS, "mgda", analyzer, memory=memory)

    same(make)


def test_layers_freeze_and_thaw_as_with_the_jacobian() -> None:
    results = []
    for memory in ("jacobian", "gramian"):
        net = TwoHeads(TASKS)
        analyzer = recon.ConflictAnalyzer(net.backbone, TASKS)
        engine = recon.Engine(net.backbone, TASKS, "mgda", analyzer, memory=memory)  # type: ignore[arg-type]
        for frozen in (True, False, True):
            net.backbone[0].requires_grad_(not frozen)
            engine.backward(net.losses(torch.ones(2, 1, 6, 6, dtype=torch.float64)))
        net.backbone.requires_grad_(False)
        engine.backward(net.losses(torch.ones(2, 1, 6, 6, dtype=torch.float64)))
        results.append((flat_grad(net), analyzer.layers))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-10, atol=1e-12)
    assert results[1][1] == results[0][1]


class Doubled(torch.autograd.Function):
    """A custom function without a rule for batches of gradients."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        assert gradient.is_contiguous()
        assert gradient.data_ptr()  # no wrapper of a batch has an address
        return 2 * x * gradient


def test_functions_without_rules_for_batches_work() -> None:
    grads = []
    for memory in ("jacobian", "gramian"):
        torch.manual_seed(0)
        shared = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).double()
        engine = recon.Engine(shared, ["a", "b", "c"], "upgrad", memory=memory)  # type: ignore[arg-type]
        features = shared[1](Doubled.apply(shared[0](torch.ones(2, 4, dtype=torch.float64))))
        engine.backward({task: features[:, i].sum() for i, task in enumerate(engine.tasks)})
        grads.append(flat_grad(shared))
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_updates_under_autocast_point_as_with_the_jacobian(dtype: torch.dtype) -> None:
    grads, heads = [], []
    for memory in ("jacobian", "gramian"):
        net = TwoHeads(TASKS, torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if dtype == torch.float16 else None
        engine = recon.Engine(net.backbone, TASKS, "mgda", memory=memory, scaler=scaler)  # type: ignore[arg-type]
        with torch.autocast("cpu", dtype):
            losses = net.losses(torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)))
        engine.backward(losses)
        grads.append(flat_grad(net.backbone))
        heads.append(flat_grad(net.heads))
    assert nn.functional.cosine_similarity(*grads, dim=0) > 0.999
    torch.testing.assert_close(grads[1].norm(), grads[0].norm(), rtol=0.02, atol=0)
    torch.testing.assert_close(heads[1], heads[0])


def test_an_overflow_skips_the_step_and_leaves_the_method_as_it_was() -> None:
    net = TwoHeads(TASKS, torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    analyzer = recon.ConflictAnalyzer(net.backbone, TASKS)
    engine = recon.Engine(net.backbone, TASKS, "nash_mtl", analyzer, memory="gramian", scaler=scaler)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = [p.clone() for p in net.parameters()]
    state = {name: value.clone() for name, value in engine.method.state_dict().items()}

    def losses(batch: object = None) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.float16):
            return net.losses(torch.ones(4, 1, 6, 6))

    info = engine.step(losses, optimizer)
    assert info.overflow
    torch.testing.assert_close([*net.parameters()], before, rtol=0, atol=0)
    torch.testing.assert_close(engine.method.state_dict(), state, rtol=0, atol=0)


def test_gradients_that_nearly_depend_on_each_other_are_told_apart_in_float32() -> None:
    jacobian = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0))
    for distance in (1e-2, 1e-3, 1e-4):
        jacobian[1] = distance * jacobian[2] - jacobian[0]
        updates = []
        for memory in ("jacobian", "gramian"):
            shared = nn.Module()
            shared.point = nn.Parameter(torch.zeros(20_000))
            engine = recon.Engine(shared, ["a", "b", "c"], "upgrad", memory=memory)  # type: ignore[arg-type]
            engine.backward({task: row @ shared.point for task, row in zip(engine.tasks, jacobian, strict=True)})
            updates.append(shared.point.grad)
        torch.testing.assert_close(updates[1], updates[0], rtol=0, atol=1e-5 * float(jacobian[0].norm()))


def test_a_gradient_that_is_not_finite_is_named_with_task_and_step() -> None:
    net = TwoHeads(TASKS)
    engine = recon.Engine(net.backbone, TASKS, "mgda", memory="gramian")
    engine.backward(net.losses(torch.ones(2, 1, 6, 6, dtype=torch.float64)))
    losses = net.losses(torch.ones(2, 1, 6, 6, dtype=torch.float64))
    losses["c"] = losses["c"] + (net.backbone[0].weight.sum() * 0).sqrt()
    with pytest.raises(ValueError, match="the gradient of task 'c' is not finite in step 1"):
        engine.backward(losses)


@pytest.mark.parametrize("name", list_methods(JacobianMethod))
def test_methods_of_the_jacobian_are_refused_by_name(name: str) -> None:
    method = recon.create_method(name)
    with pytest.raises(ValueError, match=f"{type(method).__name__} combines the task gradients themselves"):
        recon.Engine(nn.Linear(2, 1), ["a", "b"], method, memory="gramian")
    recon.Engine(nn.Linear(2, 1), ["a"], recon.create_method(name), memory="gramian")


def test_steps_that_need_held_gradients_are_refused() -> None:
    shared = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="at='representation' holds no gradients"):
        recon.Engine(shared, ["a", "b"], "mgda", at="representation", memory="gramian")
    with pytest.raises(ValueError, match=r"unknown memory 'gram' in recon.Engine; nearest: 'gramian'"):
        recon.Engine(shared, ["a", "b"], "mgda", memory="gram")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the same weights in all layers"):
        recon.Engine(shared, ["a", "b"], "mgda", granularity="layer", memory="gramian")
    engine = recon.Engine(shared, ["a", "b"], "mgda", memory="gramian")
    with pytest.raises(ValueError, match="takes whole batches"):
        engine.accumulate({"a": shared(torch.ones(1, 2)).sum()})
    assert "memory: gramian" in repr(engine)
    assert engine.memory == "gramian"


def peak_of_step(memory: Memory, tasks: int) -> float:
    """Largest memory allocated in a step, in gradients of the shared part."""
    torch.manual_seed(0)
    shared = nn.Sequential(*[nn.Linear(400, 400) for _ in range(6)])
    names = [f"t{index}" for index in range(tasks)]
    engine = recon.Engine(shared, names, "mgda", memory=memory)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        features = shared(torch.randn(2, 400))
        engine.backward({name: features[:, index].square().mean() for index, name in enumerate(names)})
    allocated, peak = 0, 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak / sum(p.nbytes for p in shared.parameters())


def test_memory_of_a_step_does_not_grow_with_the_number_of_tasks() -> None:
    assert peak_of_step("jacobian", 16) > 16
    few, many = peak_of_step("gramian", 3), peak_of_step("gramian", 16)
    assert many < 1.4
    assert many < few + 0.3
