"""Weights of groups of layers against a method of its own for each group."""

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.methods import Constant, GramianMethod, StatefulMethod, create_method, list_methods
from recon.methods.base.randomness import RandomMethod
from recon.methods.solvers.resolution import gradients_in

STEPS = 3

CASES: dict[str, dict[str, Any]] = {name: {} for name in list_methods(GramianMethod)}
CASES |= {
    "mgda l2": {"normalization": "l2"},
    "mgda loss+": {"normalization": "loss+"},
    "cagrad 1.5": {"c": 1.5, "rescale": 2},
    "cagrad 0": {"c": 0.0},
    "cagrad 0.9": {"c": 0.9},
    "cagrad 1": {"c": 1.0, "rescale": 0},
    "nash_mtl no limit": {"max_norm": None},
    "fairgrad 2": {"alpha": 2.0},
    "aligned_mtl median": {"scale_mode": "median"},
    "aligned_mtl rmse": {"scale_mode": "rmse"},
    "sdmgrad settled": {"lr": 0.5},
    "cr_mogm of gradvac": {"method": "gradvac"},
    "psmgd of gradvac": {"method": "gradvac", "every": 2},
    "psmgd of imtl": {"method": "imtl", "every": 2},
}
PREFERRED = ("aligned_mtl", "config", "upgrad", "dualproj", "sdmgrad")
CASES |= {f"{name} with a preference": {"preference": [0.3, 0.9]} for name in PREFERRED}
CASES |= {"constant with factors": {"factors": [2.0, -1.0]}}
FOR_TWO = {case for case in CASES if " with " in case}


def make(case: str) -> GramianMethod:
    method = create_method(case.split(" ")[0], **CASES[case])
    assert isinstance(method, GramianMethod)
    return method


def jacobians(tasks: int, seed: int) -> Tensor:
    """(G, K, 8): usual gradients, and such with a formula's traps."""
    generator = torch.Generator().manual_seed(seed)
    usual = torch.randn(12, tasks, 8, generator=generator, dtype=torch.float64)
    usual += 0.7 * torch.randn(12, 1, 8, generator=generator, dtype=torch.float64)
    first, second = usual[0], usual[1]
    norms = torch.logspace(-4, 4, tasks, dtype=torch.float64)[:, None]
    traps = [
        norms * first,
        norms.flip(0) * second,
        1e-9 * first,
        1e9 * second,
        first[:1] + 1e-5 * second,
        first[:1] + 0.05 * second,
        torch.cat([first[:-1], 1e-5 * second[:1] - first[:1]]),
        torch.cat([first[:-1], -2 * first[:1]]),
        torch.cat([first[:-1], torch.zeros_like(first[:1])]),
        torch.cat([torch.zeros_like(first[:1]), first[1:]]),
        torch.zeros_like(first),
    ]
    return torch.cat([usual, torch.stack(traps)])


class OneForEach:
    """A method of its own for each group; all draw from one generator, one group after the other."""

    def __init__(self, method: GramianMethod, groups: int) -> None:
        self.methods = [copy.deepcopy(method) for _ in range(groups)]
        for modules in zip(*(own.modules() for own in self.methods), strict=True):
            if isinstance(modules[0], RandomMethod):
                for module in modules:
                    module.generator = modules[0].generator

    def weights(self, gramians: Sequence[Tensor], losses: Tensor, present: Sequence[int] | None = None) -> Tensor:
        weights = []
        for own, gramian in zip(self.methods, gramians, strict=True):
            with nullcontext() if present is None else own.among(present):
                weights.append(own.weights(gramian, losses))
        return torch.stack(weights)


def close(ours: Tensor, expected: Tensor) -> bool:
    size = expected.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
    return bool(((ours - expected).abs() / size).max() <= 1e-12)


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
def test_groups_are_weighed_as_by_a_method_of_their_own(case: str, tasks: int, precision: torch.dtype) -> None:
    if (case == "krum" and tasks < 3) or (case in FOR_TWO and tasks > 2):
        pytest.skip("for another number of tasks")
    method = make(case)
    reference = OneForEach(method, len(jacobians(tasks, 0)))
    for step in range(STEPS):
        jacobian = jacobians(tasks, step)
        gramians, losses = jacobian @ jacobian.mT, torch.linspace(1.5, 0.5, tasks, dtype=torch.float64) + 0.1 * step
        with gradients_in(precision):
            expected = reference.weights(gramians.unbind(), losses)
            ours = method.weights_of_groups(gramians, losses)
        assert close(ours, expected)


@pytest.mark.parametrize("case", [case for case in CASES if case not in FOR_TWO | {"krum"}])
def test_groups_among_some_tasks_are_weighed_as_by_a_method_of_their_own(case: str) -> None:
    method = make(case)
    method.bind(4)
    reference = OneForEach(method, 12)
    method.bind_groups(12)
    for step, present in enumerate([[0, 1, 2, 3], [1, 3], [0, 1, 2], [0, 2], [0, 1, 2, 3]]):
        jacobian = jacobians(4, step)[:12, present]
        gramians, losses = jacobian @ jacobian.mT, torch.linspace(1.5, 0.5, len(present), dtype=torch.float64)
        with method.among(present):
            ours = method.weights_of_groups(gramians, losses)
        assert close(ours, reference.weights(gramians.unbind(), losses, present))
    for own in (method, *reference.methods):
        for name, buffer in own.named_buffers():
            assert buffer.isfinite().all(), name


class Counter(StatefulMethod, GramianMethod):
    """Weights that grow from step to step."""

    def make_state(self, tasks: int) -> None:
        self.register_buffer("sums", torch.zeros(tasks, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.sums = self.sums + gramian.diagonal()
        self.steps += 1
        return self.sums / self.steps


def pairs(*squares: float) -> Tensor:
    """(G, 2, 2): diagonal Gramians."""
    return torch.stack([torch.diag(torch.tensor([square, 1.0], dtype=torch.float64)) for square in squares])


def test_a_method_of_the_users_own_keeps_a_state_for_each_group() -> None:
    method = Counter()
    method.weights_of_groups(pairs(2.0, 4.0, 6.0))
    assert method.weights_of_groups(pairs(4.0, 4.0, 0.0)).tolist() == [[3, 1], [4, 1], [3, 1]]
    assert (method.sums.shape, method.steps.tolist()) == ((3, 2), [2, 2, 2])


def test_state_of_groups_that_take_no_part_stands_still() -> None:
    method = create_method("cr_mogm", method="gradvac")
    assert isinstance(method, GramianMethod)
    jacobian = jacobians(2, 0)[:3]
    method.weights_of_groups(jacobian @ jacobian.mT)
    before = copy.deepcopy(method.state_dict())
    with method.among_groups([2, 0]):
        weights = method.weights_of_groups((jacobian @ jacobian.mT)[[2, 0]])
    assert weights.shape == (2, 2)
    after = method.state_dict()
    for name in ("smoothed", "wrapped.targets"):
        assert torch.equal(after[name][1], before[name][1])
        assert not torch.equal(after[name][[0, 2]], before[name][[0, 2]])
    assert after["groups"] == 3


def test_an_error_leaves_the_number_of_groups() -> None:
    method = Counter()
    method.weights_of_groups(pairs(1.0, 1.0))
    with pytest.raises(ValueError, match="group index 0: Gramian holds NaN"), method.among_groups([1]):
        method.weights_of_groups(pairs(float("nan")))
    assert method.weights_of_groups(pairs(1.0, 1.0)).shape == (2, 2)


def test_groups_draw_different_numbers_that_follow_from_the_seed() -> None:
    gramian = torch.tensor([[1.0, -0.9, -0.5], [-0.9, 1.0, -0.4], [-0.5, -0.4, 1.0]], dtype=torch.float64)
    gramians = (gramian + torch.eye(3, dtype=torch.float64)).expand(20, 3, 3)
    weights = make("pcgrad").weights_of_groups(gramians)
    assert len(torch.unique(weights, dim=0)) > 1
    assert torch.equal(weights, make("pcgrad").weights_of_groups(gramians))


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("case", ["gradvac", "modo", "gradnorm", "cr_mogm of gradvac", "psmgd of gradvac", "imtl"])
def test_state_of_groups_resumes(case: str, bound: bool) -> None:
    method, losses = make(case), torch.tensor([1.0, 2.0])
    first, second = ((jacobian @ jacobian.mT)[:5] for jacobian in (jacobians(2, 0), jacobians(2, 1)))
    method.weights_of_groups(first, losses)
    resumed = make(case)
    if bound:
        resumed.bind(2)
        resumed.bind_groups(5)
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    assert torch.equal(resumed.weights_of_groups(second, losses), method.weights_of_groups(second, losses))


def test_what_is_learned_from_losses_is_learned_once() -> None:
    method, plain, losses = make("imtl"), make("imtl"), torch.tensor([1.0, 2.0])
    method.weights_of_groups(pairs(1.0, 2.0, 3.0), losses)
    plain.weights(pairs(1.0)[0], losses)
    assert [p.shape for p in method.parameters()] == [p.shape for p in plain.parameters()]
    for ours, theirs in zip(method.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    method = make("gradnorm")
    method.weights_of_groups(pairs(1.0, 2.0, 3.0), losses)
    assert method.state_dict()["first_losses"].tolist() == [1, 2]
    assert method.state_dict()["simplex.logits"].shape == (3, 2)


def test_another_number_of_groups_is_refused() -> None:
    method = Counter()
    method.weights_of_groups(pairs(1.0, 2.0))
    with pytest.raises(ValueError, match=r"has the state of 2 groups of layers, got 3; create a new method"):
        method.weights_of_groups(pairs(1.0, 2.0, 3.0))
    plain = make("mgda")
    plain.weights_of_groups(pairs(1.0, 2.0))
    assert plain.weights_of_groups(pairs(1.0)).shape == (1, 2)


@pytest.mark.parametrize(
    ("gramians", "message"),
    [
        (torch.eye(2), r"Gramians of groups must be \(G, K, K\) .*, got shape \(2, 2\)"),
        (torch.ones(3, 2, 1), r"Gramian must be a \(K, K\) matrix"),
        (torch.ones(0, 2, 2), r"got shape \(0, 2, 2\)"),
        (-pairs(1.0), "group index 0: Gramian has a negative squared norm"),
        (torch.stack([torch.eye(2), torch.full((2, 2), float("inf"))]), "group index 1: Gramian holds NaN or infinity"),
    ],
)
def test_what_is_no_gramian_is_refused_by_its_group(gramians: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("mgda").weights_of_groups(gramians)


def test_what_a_method_returns_is_checked() -> None:
    class Wrong(GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.ones(3)

        def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.full((len(gramians), 3), float("nan"))

    with pytest.raises(ValueError, match=r"weights of shape \(2, 3\) for 2 groups of layers and 2 tasks"):
        Wrong().weights_of_groups(pairs(1.0, 2.0))
    with pytest.raises(ValueError, match=r"group index 0: Wrong.* returned NaN or infinity as weight of task index 0"):
        Wrong().weights_of_groups(torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize("case", sorted(set(CASES) - {"krum", "torchjd", "fairgrad 2"}))
def test_usual_gradients_of_two_tasks_are_weighed_all_at_once(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, jacobian = make(case), jacobians(2, 0)[:12]

    def one_by_one(*args: object) -> Tensor:
        raise AssertionError

    for module in method.modules():
        if isinstance(module, GramianMethod) and not isinstance(module, Constant):
            monkeypatch.setattr(type(module), "weights", one_by_one)
    assert method.weights_of_groups(jacobian @ jacobian.mT, torch.ones(2)).shape == (12, 2)
