"""The buffer of task gradients: complex parameters and sparse gradients, through the engine."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import recon
from recon.gradients.buffer import TaskGradients, gramians_of_slices
from recon.gradients.layers import shared_layers

METHODS = ["joint", "pcgrad", "mgda", "cagrad", "trimmed_mean", "moco"]


class Spectral(nn.Module):
    """A real layer of an odd number of parameters, then complex ones, of which one has no contiguous memory."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.real = nn.Linear(2, 3, bias=False)
        self.real.bias = nn.Parameter(torch.randn(1, dtype=torch.float64))
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128).T)
        self.shift = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.double()
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1).double() for task in ("a", "b", "c")})

    def double(self) -> "Spectral":
        self.real.double()
        return self

    def features(self, x: Tensor) -> Tensor:
        return (self.real(x).to(torch.complex128) @ self.weight + self.shift.conj()) * 1j

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        features = self.features(x).abs()
        return {task: (head(features) - i).square().mean() for i, (task, head) in enumerate(self.heads.items())}

    @property
    def shared(self) -> list[nn.Parameter]:
        return [self.weight, self.shift, *self.real.parameters()]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def shared_part(net: Spectral) -> nn.Module:
    shared = nn.Module()
    shared.weight, shared.shift, shared.real = net.weight, net.shift, net.real
    return shared


def as_numbers(gradients: list[Tensor]) -> Tensor:
    return torch.cat([(torch.view_as_real(g.resolve_conj()) if g.is_complex() else g).flatten() for g in gradients])


def task_rows(net: Spectral, losses: Callable[[], dict[str, Tensor]]) -> Tensor:
    return torch.stack([as_numbers(list(torch.autograd.grad(losses()[task], net.shared))) for task in net.heads])


@pytest.mark.parametrize("name", METHODS)
def test_complex_parameters_get_the_update_of_their_real_and_imaginary_parts(name: str, x: Tensor) -> None:
    net = Spectral()

    rows = task_rows(net, lambda: net.losses(x))
    method = recon.create_method(name)
    expected = method.combine(rows, torch.stack(list(net.losses(x).values())).detach())
    analyzer = recon.ConflictAnalyzer(shared_part(net), net.heads)
    engine = recon.Engine(shared_part(net), list(net.heads), recon.create_method(name), analyzer)
    info = engine.backward(net.losses(x))
    gradients = [p.grad for p in net.shared if p.grad is not None]
    assert [g.dtype for g in gradients] == [p.dtype for p in net.shared]
    torch.testing.assert_close(as_numbers(gradients), expected)
    assert info.layer_gramians is not None
    assert not info.layer_gramians.is_complex()
    torch.testing.assert_close(info.layer_gramians.sum(0), rows @ rows.T)
    # torch's own complex product, of which the real one is the real part
    flat = [torch.autograd.grad(net.losses(x)[task], [net.weight])[0].flatten() for task in ("a", "b")]
    own = [torch.autograd.grad(net.losses(x)[task], [net.shift])[0].flatten() for task in ("a", "b")]
    together = (torch.vdot(*flat) + torch.vdot(*own)).real
    lengths = [(f.norm() ** 2 + o.norm() ** 2).sqrt() for f, o in zip(flat, own, strict=True)]
    assert info.layer_cosines is not None
    torch.testing.assert_close(info.layer_cosines[0, 0, 1], together / (lengths[0] * lengths[1]))


def test_a_step_moves_complex_parameters_as_joint_training_in_plain_torch_does(x: Tensor) -> None:
    nets = Spectral(), Spectral()
    sum(nets[0].losses(x).values()).backward()  # type: ignore[union-attr]
    torch.optim.SGD(nets[0].parameters(), lr=0.1).step()
    method = recon.create_method("constant")
    engine = recon.Engine(shared_part(nets[1]), list(nets[1].heads), method, update_scale="sum")
    engine.step(lambda batch=None: nets[1].losses(x), torch.optim.SGD(nets[1].parameters(), lr=0.1))
    torch.testing.assert_close(nets[1].state_dict(), nets[0].state_dict())


@pytest.mark.parametrize("name", ["mgda", "cagrad"])
def test_complex_features_are_weighted_by_their_real_inner_products(name: str, x: Tensor) -> None:
    net = Spectral()

    def losses_of(features: Tensor) -> dict[str, Tensor]:
        return {t: (head(features.abs()) - i).square().mean() for i, (t, head) in enumerate(net.heads.items())}

    features = net.features(x)
    losses = losses_of(features)
    rows = torch.stack(
        [as_numbers(list(torch.autograd.grad(loss, features, retain_graph=True))) for loss in losses.values()]
    )
    values = torch.stack(list(losses.values())).detach()
    weights = recon.create_method(name).weights(rows @ rows.T, values)
    expected = weights @ task_rows(net, lambda: losses_of(net.features(x)))
    engine = recon.Engine(shared_part(net), list(net.heads), name, at="representation")
    info = engine.backward(losses, features)
    assert info.weights is not None
    torch.testing.assert_close(info.weights, weights)
    torch.testing.assert_close(as_numbers([p.grad for p in net.shared if p.grad is not None]), expected)


def test_flat_regions_perturb_complex_parameters_along_their_gradient(x: Tensor) -> None:
    net = Spectral()
    method = recon.create_method("fmtl", method="constant", rho=1e-3)
    engine = recon.Engine(shared_part(net), list(net.heads), method, update_scale="method")
    before = [p.detach().clone() for p in net.shared]
    expected = torch.zeros(())
    for task in net.heads:
        everything = [*net.shared, *net.heads[task].parameters()]
        g = torch.autograd.grad(net.losses(x)[task], everything)
        norms = [as_numbers(list(part)).norm() for part in (g[: len(net.shared)], g[len(net.shared) :])]
        moved = Spectral()
        moved.load_state_dict(net.state_dict())
        with torch.no_grad():
            targets = [*moved.shared, *moved.heads[task].parameters()]
            for i, (p, slope) in enumerate(zip(targets, g, strict=True)):
                p.add_(1e-3 * slope / norms[i >= len(net.shared)])
        at_the_top = torch.autograd.grad(moved.losses(x)[task], moved.shared)
        expected = expected + as_numbers(list(at_the_top))
    engine.step(lambda batch=None: net.losses(x), torch.optim.SGD(net.parameters(), lr=1.0))
    moved_by = [b - p.detach() for b, p in zip(before, net.shared, strict=True)]
    torch.testing.assert_close(as_numbers(moved_by), expected)


def test_complex_losses_and_gramians_are_refused(x: Tensor) -> None:
    net = Spectral()
    engine = recon.Engine(shared_part(net), ["a", "b"], "mgda")
    with pytest.raises(ValueError, match=r"loss of task 'b' is complex; make it real, as by loss.abs\(\)"):
        engine.backward({"a": net.losses(x)["a"], "b": net.features(x).sum()})
    gramian = torch.eye(2, dtype=torch.complex64)
    with pytest.raises(ValueError, match="Gramian is complex"):
        recon.create_method("mgda").weights(gramian)
    with pytest.raises(ValueError, match="floating-point"):
        recon.create_method("mgda").combine(gramian)
    with pytest.raises(ValueError, match="layer Gramians are complex"):
        recon.ConflictAnalyzer(nn.Linear(2, 2), ["a", "b"]).observe(gramian[None])


# Sparse gradients -----------------------------------------------------------------------------------------------------


class Towers(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.items = nn.Embedding(20, 6, sparse=sparse)
        self.mix = nn.Linear(6, 6)
        self.heads = nn.ModuleDict({task: nn.Linear(6, 1) for task in ("click", "buy")})
        self.users = nn.ModuleDict({task: nn.Embedding(9, 6, sparse=sparse) for task in ("click", "buy")})
        self.double()

    def losses(self) -> dict[str, Tensor]:
        picks = torch.tensor([[3, 4, 4], [7, 3, 0]])
        shared = self.mix(self.items(picks)).mean(1)
        return {
            "click": (self.heads["click"](shared) + self.users["click"](picks[:, 0])).square().mean(),
            "buy": (self.heads["buy"](shared + self.users["buy"](picks[:, 2])) - 1).abs().mean(),
        }

    @property
    def parts(self) -> list[nn.Module]:
        return [self.items, self.mix]


def dense(net: Towers) -> dict[str, Tensor]:
    return {name: p.grad.to_dense() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", [*METHODS, "uw", "psmgd", "fmtl"])
def test_sparse_embeddings_get_the_update_of_dense_ones(name: str, observed: bool) -> None:
    grads = []
    for sparse in (False, True):
        net = Towers(sparse)
        method = recon.create_method(name)
        analyzer = recon.ConflictAnalyzer(net.parts, net.heads) if observed else None
        engine = recon.Engine(net.parts, list(net.heads), method, analyzer)
        optimizer = torch.optim.SGD([*net.parameters(), *method.parameters()], lr=0.1)
        for _ in range(2):
            engine.step(lambda batch=None, net=net: net.losses(), optimizer)
        grads.append(dense(net))
        if sparse and name != "fmtl":
            assert net.items.weight.grad is not None
            assert net.items.weight.grad.is_sparse
            assert net.items.weight.grad.coalesce().indices().flatten().tolist() == [0, 3, 4, 7]
    torch.testing.assert_close(grads[1], grads[0])


def test_sparse_heads_keep_their_gradients_at_the_representation() -> None:
    grads = []
    for sparse in (False, True):
        net = Towers(sparse)
        picks = torch.tensor([[3, 4, 4], [7, 3, 0]])
        features = net.mix(net.items(picks)).mean(1)
        losses = {t: (net.heads[t](features + net.users[t](picks[:, 1]))).square().mean() for t in net.heads}
        recon.backward(losses, net.parts, recon.create_method("mgda"), at="representation", representation=features)
        grads.append(dense(net))
    torch.testing.assert_close(grads[1], grads[0])


def test_sparse_updates_are_added_to_grad_and_a_dense_gradient_makes_them_dense() -> None:
    net = Towers(sparse=True)
    engine = recon.Engine(net.parts, list(net.heads), "mgda")
    engine.backward(net.losses())
    once = dense(net)["items.weight"]
    engine.backward(net.losses())
    torch.testing.assert_close(dense(net)["items.weight"], 2 * once)
    losses = net.losses()
    losses["buy"] = losses["buy"] + net.items.weight.sum()  # tied to something dense
    engine.backward(losses)
    assert net.items.weight.grad is not None
    assert not net.items.weight.grad.is_sparse
    torch.testing.assert_close(net.items.weight.grad[3].isfinite(), torch.ones(6).bool())


def test_an_optimizer_of_sparse_gradients_alone_works() -> None:
    net = Towers(sparse=True)
    engine = recon.Engine(net.parts, list(net.heads), "pcgrad")
    engine.backward(net.losses())
    torch.optim.SparseAdam(net.items.parameters(), lr=0.1).step()


def test_a_buffer_may_be_empty_and_is_one_of_real_numbers() -> None:
    empty = TaskGradients({}, 3)
    assert empty.jacobian.shape == (3, 0)
    assert empty.layer_gramians().shape == (0, 3, 3)
    assert empty.is_for({})
    net = Spectral()
    gradients = TaskGradients(shared_layers(shared_part(net)), 2)
    assert gradients.jacobian.dtype == torch.float64
    assert gradients.jacobian.shape == (2, 2 * 12 + 2 * 4 + 6 + 1)
    shapes = [piece.shape for piece in gradients.like_parameters(gradients.jacobian[0])]
    assert shapes == [p.shape for p in gradients.parameters]


def test_the_precision_of_the_gradients_is_that_of_a_network_that_was_cast_later() -> None:
    torch.manual_seed(0)
    shared, heads = nn.Linear(3, 2), nn.ModuleDict({task: nn.Linear(2, 1) for task in ("a", "b")})
    engine = recon.Engine(shared, list(heads), "upgrad")
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        shared.to(dtype)  # keeps the parameters, and the buffer in float32 where it can
        heads.to(dtype)
        features = shared(torch.ones(2, 3, dtype=dtype))
        engine.backward({task: head(features).square().mean() for task, head in heads.items()})
        assert engine.gradients.precision == dtype
        shared.zero_grad()


def test_observed_loss_methods_look_for_the_shared_layers_as_often_for_many_tasks_as_for_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walks: list[nn.Module] = []

    def counted(module: nn.Module) -> dict[str, list[nn.Parameter]]:
        walks.append(module)
        return shared_layers(module)

    monkeypatch.setattr("recon.engine.shared_part.shared_layers", counted)

    def number(tasks: int) -> int:
        shared, heads = nn.Linear(3, 2), {f"t{i}": nn.Linear(2, 1) for i in range(tasks)}
        engine = recon.Engine(shared, list(heads), "joint", recon.ConflictAnalyzer(shared, list(heads)))
        features = shared(torch.ones(2, 3))
        losses = {task: head(features).square().mean() for task, head in heads.items()}
        walks.clear()
        engine.backward(losses)
        return len(walks)

    assert number(9) == number(2)


@pytest.mark.parametrize("columns", [64 * 4096 - 1, 64 * 4096, 64 * 4096 + 5])
def test_gramians_of_long_rows_do_not_add_up_rounding(columns: int) -> None:
    rows = torch.randn(3, columns + 2, generator=torch.Generator().manual_seed(0))
    rows[1, 2:] += rows[0, 2:]
    short, long = gramians_of_slices(rows, [slice(0, 2), slice(2, None)])
    exact = rows.double()[:, 2:] @ rows.double()[:, 2:].T
    torch.testing.assert_close(short, rows[:, :2] @ rows[:, :2].T)
    most = 1e-6 if columns >= 64 * 4096 else 1e-4
    assert (long - exact).abs().max() <= most * exact.diagonal().min()
    torch.testing.assert_close(long, long.T, rtol=0, atol=most * float(exact.diagonal().max()))


def test_an_update_in_parts_is_the_whole_one() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1500, 2000), nn.Linear(2000, 3), nn.Linear(3, 2), nn.Linear(2, 2100000))
    gradients = TaskGradients(shared_layers(net), tasks=2)
    assert [columns.stop for columns in gradients.columns_at_once] == [3008011, 7208011, 9308011]
    gradients.jacobian.normal_()
    for row in range(2):
        for parameter, view in zip(
            gradients.parameters, gradients.like_parameters(gradients.jacobian[row]), strict=True
        ):
            parameter.grad = view.clone()
        gradients.fill_row(row)
    weights = torch.tensor([0.5, -2.0])
    parts, whole = gradients.combination(weights), weights @ gradients.jacobian
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(gradients.norm(*parts), whole.double().norm().float(), rtol=1e-3, atol=0)
    gradients.add_to_grad(*parts)
    gradients.add_to_grad(whole)
    for parameter, piece in zip(gradients.parameters, gradients.like_parameters(whole), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * piece)


class Large(nn.Module):
    """Layers on both sides of the size from which gradients are moved as they are made."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(40, 1024, sparse=True)
        self.wide = nn.Linear(1024, 64)
        self.a, self.b = nn.Linear(64, 512), nn.Linear(64, 512)

    def losses(self, nested: bool) -> dict[str, Tensor]:
        hidden = self.table(torch.tensor([1, 3, 3])).tanh()
        wide = [checkpoint(self.wide, hidden * i, use_reentrant=True) if nested else self.wide(hidden) for i in (1, 2)]
        return {"a": self.a(wide[0] + wide[1]).square().mean(), "b": self.b(wide[1]).square().mean()}


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "checkpoints within a backward"])
def test_gradients_moved_as_they_are_made_are_those_moved_at_the_end(nested: bool) -> None:
    def fill(context: Callable[[TaskGradients, int], AbstractContextManager[None]]) -> list[tuple[Any, ...]]:
        net, found = Large(), []
        gradients = TaskGradients(shared_layers(net), tasks=2)
        later = net.wide(torch.ones(1, 1024)).sum()  # it reaches less than the row held
        for row, loss in ((0, net.losses(nested)["a"]), (1, net.losses(nested)["b"]), (0, later)):
            with context(gradients, row):
                loss.backward()
            held = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
            gradients.fill_row(row)
            reached = gradients.reached_by(row).copy()
            found.append((held, gradients.rows.clone(), reached.some, reached.sparse))
        return found

    at_the_end, as_made = fill(lambda gradients, row: nullcontext()), fill(TaskGradients.moving_to)
    for plain, moved in zip(at_the_end, as_made, strict=True):
        assert torch.equal(plain[1], moved[1])
        assert plain[2:] == moved[2:]
    assert {"table.weight", "wide.weight"} < at_the_end[0][0]
    assert as_made[0][0] == {"wide.bias", "a.bias"}


def test_a_backward_that_fails_leaves_nothing_in_a_later_row() -> None:
    net = Large()
    gradients = TaskGradients(shared_layers(net), tasks=1)

    def fail(gradient: Tensor) -> None:
        raise RuntimeError("half way")

    loss = net.losses(nested=False)["a"]
    net.table.weight.register_hook(fail)
    with pytest.raises(RuntimeError, match="half way"), gradients.moving_to(0):
        loss.backward()
    net.zero_grad()
    net.b(torch.ones(1, 64)).sum().backward()
    gradients.fill_row(0)
    assert gradients.rows.count_nonzero() == 512 * 65
