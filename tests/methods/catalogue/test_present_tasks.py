"""Steps with some of the tasks, for every method: only these are weighed, and the others stand still."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from recon.methods import (
    DBMTL,
    DWA,
    FAMO,
    GLS,
    IMTL,
    MGDA,
    PSMGD,
    ExcessMTL,
    GradNorm,
    GramianMethod,
    JacobianMethod,
    Krum,
    LogSTCH,
    LogSum,
    LossMethod,
    Method,
    create_method,
    list_methods,
)
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.catalogue.properties import ENTRIES, Entry

TASKS, PARAMETERS = 5, 7
PAIRWISE = {"targets"}

VARIANTS = [
    *ENTRIES,
    *(
        Entry(name, frozenset(), {each: [0.5, 2.0, 1.0, 3.0, 0.25] for each in type(create_method(name)).per_task})
        for name in list_methods(PerTaskMethod)
        if name != "famo"
    ),
    Entry("famo", frozenset(), {"lower_bounds": [-1.0, 0.0, 0.01, -0.5, -2.0]}),
    Entry("psmgd", frozenset(), {"method": "gradvac", "every": 3}),
    Entry("cr_mogm", frozenset(), {"method": "psmgd", "method_options": {"method": "modo"}}),
    Entry("fmtl", frozenset(), {"method": "moco"}),
    Entry("excess_mtl", frozenset(), {"warmup_steps": 3}),
    Entry("db_mtl", frozenset(), {"decay": 0.5}),
]
by_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Task gradients (K, P), losses (K,), and losses after the step."""
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(TASKS, PARAMETERS, generator=generator, dtype=torch.float64)
    losses = 0.1 + torch.rand(2, TASKS, generator=generator, dtype=torch.float64)
    return jacobian, losses[0], losses[1]


def made(variant: Entry, present: list[int]) -> Method:
    """A new method of the present tasks alone."""
    options = {name: _chosen(value, present) for name, value in variant.options.items()}
    return create_method(variant.method, **options)


def _chosen(value: Any, present: list[int]) -> Any:
    return [value[task] for task in present] if isinstance(value, list) else value


def is_of_tasks(name: str, value: Tensor) -> bool:
    return value.ndim > 0 and not name.endswith("_extra_state")


def state_of(state: dict[str, Tensor], present: list[int]) -> dict[str, Tensor]:
    """The rows of the present tasks in a method's state, by indexing alone."""
    chosen = {}
    for name, value in state.items():
        if is_of_tasks(name, value):
            value = value[present]
            value = value[:, present] if name.split(".")[-1] in PAIRWISE else value
        chosen[name] = value.clone()
    return chosen


def with_rows(state: dict[str, Tensor], rows: dict[str, Tensor], present: list[int]) -> dict[str, Tensor]:
    """The whole state, with these rows of the present tasks."""
    whole = {}
    for name, value in state.items():
        new = rows[name].clone()
        if is_of_tasks(name, value):
            value = new.new_zeros(TASKS, *new.shape[1:]) if value.numel() == 0 else value.clone()
            if name.split(".")[-1] in PAIRWISE:
                value[torch.tensor(present)[:, None], torch.tensor(present)] = new
            else:
                value[present] = new
            new = value
        whole[name] = new
    return whole


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def step(method: Method, present: list[int], seed: int) -> Tensor:
    """The update of a step, the optimizer's part in learned numbers, and FAMO's look at the losses after it."""
    jacobian, losses, after = (each[present] for each in batch(seed))
    update = method.combine(jacobian, losses)
    if isinstance(method, FAMO):
        method.update(losses, after)
    with torch.no_grad():
        for number, loss in zip(method.parameters(), losses, strict=False):
            number += 0.1 * loss
    return update


@by_variant
def test_any_sequence_of_subsets_is_that_of_methods_made_for_them(variant: Entry) -> None:
    """The reference makes a method for each step, of the present tasks alone, with their rows of the state."""
    method = made(variant, list(range(TASKS)))
    method.bind(TASKS)
    draws = random.Random(variant.label)
    for seed in range(25):
        state = {name: value.clone() for name, value in method.state_dict().items()}
        present = sorted(draws.sample(range(TASKS), draws.randint(max(2, variant.least_tasks), TASKS)))
        alone = made(variant, present)
        alone.bind(len(present))
        alone.load_state_dict(state_of(state, present))
        with method.among(present):
            update = step(method, present, seed)
        # ExcessMTL keeps the sum of the present weights besides, at a rounding of the last bit.
        exactly = {"rtol": 1e-14, "atol": 1e-14} if variant.method == "excess_mtl" else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(update, step(alone, present, seed), **exactly)
        expected = with_rows(state, alone.state_dict(), present)
        assert method.state_dict().keys() == expected.keys()
        for name, value in method.state_dict().items():
            if name == "log_weights" and len(present) < TASKS:
                torch.testing.assert_close(value[present].softmax(0), expected[name][present].softmax(0))
                torch.testing.assert_close(value[present].logsumexp(0), state[name][present].logsumexp(0))
                value, expected[name] = (_without(each, present) for each in (value, expected[name]))
            assert_same(value, expected[name])
        if seed % 4 == 3:
            method.end_epoch()


def _without(value: Tensor, present: list[int]) -> Tensor:
    return value[[task for task in range(TASKS) if task not in present]]


@by_variant
def test_a_step_of_all_tasks_is_a_plain_one(variant: Entry) -> None:
    plain, among = (made(variant, list(range(TASKS))) for _ in range(2))
    among.bind(TASKS)
    for seed in range(4):
        with among.among(range(TASKS)):
            update = step(among, list(range(TASKS)), seed)
        assert torch.equal(update, step(plain, list(range(TASKS)), seed))
    for name, value in plain.state_dict().items():
        assert_same(value, among.state_dict()[name])


@by_variant
def test_a_refused_step_of_some_tasks_leaves_everything_as_before(variant: Entry) -> None:
    method = made(variant, list(range(TASKS)))
    method.bind(TASKS)
    step(method, list(range(TASKS)), 0)
    before, text = {name: value.clone() for name, value in method.state_dict().items()}, repr(method)
    jacobian, losses, _ = (each[[0, 2, 4]] for each in batch(1))
    jacobian[1, 2] = torch.nan
    with method.among([0, 2, 4]), pytest.raises(ValueError, match=r"NaN or infinity.* task index 1$"):
        method.combine(jacobian, losses)
    assert repr(method) == text
    for name, value in method.state_dict().items():
        assert_same(value, before[name])


# What single methods do beyond that.


def test_dwa_counts_the_steps_of_each_task() -> None:
    method, draws = DWA(), random.Random(0)
    method.bind(3)
    sums, counts, means = [0.0] * 3, [0] * 3, [[1.0, 1.0] for _ in range(3)]
    seen = [0] * 3
    for seed in range(60):
        present = sorted(draws.sample(range(3), draws.choice([1, 2, 2, 3])))
        losses = batch(seed)[1][present].float()
        rates = torch.tensor([means[task][1] / means[task][0] for task in present])
        with method.among(present):
            torch.testing.assert_close(method.loss_weights(losses), len(present) * (rates / 2).softmax(0))
        for task, loss in zip(present, losses.tolist(), strict=True):
            sums[task], counts[task] = sums[task] + loss, counts[task] + 1
        if seed % 3 == 2:
            method.end_epoch()
            for task in range(3):
                if counts[task]:
                    mean = sums[task] / counts[task]
                    means[task] = [means[task][1] if seen[task] else mean, mean]
                    seen[task], sums[task], counts[task] = seen[task] + 1, 0.0, 0
    assert min(seen) < 20


@pytest.mark.parametrize(
    ("name", "options", "old"),
    [
        ("dwa", {}, {"loss_sum": [3.0, 4.0], "steps": 2, "epochs": 3, "last_mean": [2.0, 3.0],
                     "earlier_mean": [4.0, 3.0]}),
        ("log_stch", {}, {"loss_sum": [3.0, 4.0], "steps": 2, "epochs": 3, "nadir": [2.0, 3.0]}),
        ("gradnorm", {}, {"first_losses": [2.0, 3.0], "simplex.logits": [0.1, -0.1], "simplex.momentum": [0.1, 0.2],
                          "simplex.square": [0.1, 0.2], "simplex.steps": 7}),
        ("famo", {}, {"simplex.logits": [0.1, -0.1], "simplex.momentum": [0.1, 0.2], "simplex.square": [0.1, 0.2],
                      "simplex.steps": 7}),
        ("cr_mogm", {}, {"smoothed": [0.25, 0.75], "started": True}),
        ("moco", {}, {"gradients": [[1.0, 2.0], [3.0, 4.0]], "weights": [0.25, 0.75], "steps": 9}),
        ("db_mtl", {"decay": 0.5}, {"averages": [[1.0, 2.0], [3.0, 4.0]], "steps": 9}),
        ("excess_mtl", {}, {"sizes": [[1.0, 2.0], [3.0, 4.0]], "log_weights": [-0.5, -1.0], "first_risk": [2.0, 1.0],
                            "steps": 9}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("bound", [True, False])
def test_a_count_of_all_tasks_together_loads_from_older_checkpoints(
    name: str, options: dict[str, float], old: dict[str, Any], bound: bool
) -> None:
    method = create_method(name, **options)
    if bound:
        method.bind(2)
    saved = {key: torch.tensor(value) for key, value in old.items()}
    method.load_state_dict(saved)
    for key, value in method.state_dict().items():
        assert torch.equal(value.double(), saved[key].double().expand(value.shape)), key
        assert value.ndim == max(saved[key].ndim, 1) or key == "epochs"


def test_psmgd_computes_weights_out_of_turn_for_a_task_that_has_none() -> None:
    method = PSMGD("mgda", every=4)
    method.bind(3)
    grams = [jacobian @ jacobian.T for jacobian, _, _ in (batch(seed) for seed in range(4))]
    with method.among([0, 1]):
        assert method.known_weights() is None
        first = method.weights(grams[0][:2, :2])
    with method.among([0, 1]):
        assert torch.equal(method.known_weights(), first)
    with method.among([1, 2]):  # the second task is new
        assert method.known_weights() is None
        second = method.weights(grams[1][1:3, 1:3])
    torch.testing.assert_close(second, MGDA().weights(grams[1][1:3, 1:3]))
    torch.testing.assert_close(method.known_weights(), torch.cat([first[:1], second]))
    assert method.known_weights() is None  # in turn: the fifth step


def test_krum_among_too_few_tasks_to_judge_by_takes_their_mean() -> None:
    method = Krum(n_byzantine=1, n_selected=4)
    method.bind(5)
    gramian = batch(0)[0] @ batch(0)[0].T
    with method.among([0, 3, 4]):
        assert method.weights(gramian[:3, :3]).tolist() == [1 / 3] * 3
    with method.among([0, 1, 3, 4]):
        assert method.weights(gramian[:4, :4]).tolist() == [0.25] * 4
    with pytest.raises(ValueError, match="need at least 4 tasks, got 3"):
        Krum(n_byzantine=1, n_selected=4).bind(3)


@pytest.mark.parametrize("name", [name for name in list_methods(PerTaskMethod) if name != "famo"])
def test_present_tasks_of_no_preference_get_no_update(name: str) -> None:
    per_task = type(create_method(name)).per_task
    method = create_method(name, **{per_task[0]: [0.0, 1.0, 0.0]})
    method.bind(3)
    with method.among([0, 2]):
        update = method.combine(torch.eye(2), torch.tensor([1.0, 2.0]))
    assert update.isfinite().all()
    if name not in ("sdmgrad", "cosmos"):  # a preference is only a part of these
        assert not update.any()


# Losses of 0, which some advise for an absent task.

DIVIDING: list[tuple[type[Method], dict[str, Any]]] = [
    (FAMO, {}),
    (FAMO, {"lower_bounds": [0.5, -1.0, 0.0, 0.25]}),
    (GLS, {}),
    (LogSum, {}),
    (LogSTCH, {"warmup_epochs": 1}),
    (GradNorm, {}),
    (IMTL, {}),
    (DBMTL, {}),
    (MGDA, {"normalization": "loss"}),
    (MGDA, {"normalization": "loss+"}),
]
by_dividing = pytest.mark.parametrize(("kind", "options"), DIVIDING, ids=lambda each: getattr(each, "__name__", ""))


def _bounds(method: Method) -> Tensor:
    bounds = getattr(method, "lower_bounds", None)
    return torch.zeros(4, dtype=torch.float64) if bounds is None else torch.tensor(bounds, dtype=torch.float64)


@by_dividing
def test_a_task_whose_loss_is_at_its_bound_is_as_if_absent(kind: type[Method], options: dict[str, Any]) -> None:
    zero, absent = kind(**options), kind(**options)
    for method in (zero, absent):
        method.bind(4)
    present = [0, 1, 3]
    for seed in range(6):
        jacobian, losses, after = (each[:4] for each in batch(seed))
        losses, after = losses + _bounds(zero), after + _bounds(zero)
        if seed % 2:
            losses = losses.index_fill(0, torch.tensor([2]), _bounds(zero)[2].item())
        before = {name: value.clone() for name, value in zero.state_dict().items()}
        updates = [zero.combine(jacobian, losses)]
        if isinstance(zero, FAMO):
            zero.update(losses, after)
        rows = present if seed % 2 else [0, 1, 2, 3]
        with absent.among(rows):
            updates.append(absent.combine(jacobian[rows], losses[rows]))
            if isinstance(absent, FAMO):
                absent.update(losses[rows], after[rows])
        torch.testing.assert_close(*updates)
        assert updates[0].any()
        for name, value in zero.state_dict().items():
            if seed % 2 and value.ndim and before[name].numel():
                assert torch.equal(value[2], before[name][2]), name
            torch.testing.assert_close(value, absent.state_dict()[name])
        if seed == 3:
            zero.end_epoch()
            absent.end_epoch()


@by_dividing
def test_losses_that_are_all_at_their_bound_give_no_update(kind: type[Method], options: dict[str, Any]) -> None:
    method = kind(**options)
    assert not method.combine(batch(0)[0][:4], _bounds(method)).any()
    assert [None if number.grad is None else number.grad for number in method.parameters()] in ([], [None] * 4)


@pytest.mark.parametrize("tasks", [2, 4])
@pytest.mark.parametrize(("kind", "options"), DIVIDING[-5:-3] + DIVIDING[-2:])
def test_groups_of_layers_leave_the_task_out_too(kind: type[Method], options: dict[str, Any], tasks: int) -> None:
    zero, absent = kind(**options), kind(**options)
    assert isinstance(zero, GramianMethod)
    assert isinstance(absent, GramianMethod)
    for method in (zero, absent):
        method.bind(tasks)
        method.bind_groups(3)
    rows = [task for task in range(tasks) if task != 1]
    for seed in range(4):
        jacobian = torch.stack([batch(10 * seed + group)[0][:tasks] for group in range(3)])
        gramians, losses = jacobian @ jacobian.mT, batch(seed)[1][:tasks]
        losses[1] = 0
        with absent.among(rows):
            expected = absent.weights_of_groups(gramians[:, rows][:, :, rows], losses[rows])
        weights = zero.weights_of_groups(gramians, losses)
        torch.testing.assert_close(weights[:, rows], expected)
        assert not weights[:, 1].any()
    for name, value in zero.state_dict().items():
        torch.testing.assert_close(value, absent.state_dict()[name])


@pytest.mark.parametrize("kind", [FAMO, GLS, LogSum, LogSTCH])
def test_losses_on_an_accelerator_are_not_read(kind: type[LossMethod]) -> None:
    """``meta`` stands for an accelerator: no host can read its tensors."""
    method = kind()
    method.bind(3)
    method.to("meta")
    losses = torch.rand(3, device="meta")
    assert method.loss_weights(losses).shape == (3,)
    if isinstance(method, FAMO):
        method.update(losses, losses)
    method.end_epoch()


def test_first_losses_of_gradnorm_wait_for_the_task() -> None:
    method = GradNorm()
    method.bind(3)
    with method.among([0, 2]):
        method.combine(torch.eye(2), torch.tensor([2.0, 3.0]))
    method.combine(torch.eye(3), torch.tensor([5.0, 7.0, 9.0]))
    assert method.first_losses.tolist() == [2, 7, 3]


def test_excess_weights_keep_their_sum_among_present_tasks() -> None:
    method = ExcessMTL()
    method.bind(3)
    for seed in range(3):
        method.combine(batch(seed)[0][:3])
    before = method.log_weights.exp()
    with method.among([0, 2]):
        method.combine(batch(3)[0][:2])
    torch.testing.assert_close(method.log_weights.exp().sum(), before.sum())
    assert method.log_weights[1] == before.log()[1]


# Slices of the Jacobian.


def test_docs_and_tests_know_the_methods_of_slices() -> None:
    elementwise = {name for name in list_methods(JacobianMethod) if create_method(name).elementwise}
    assert elementwise == {"graddrop", "trimmed_mean"}


@pytest.mark.parametrize("name", ["graddrop", "trimmed_mean"])
@pytest.mark.parametrize("tasks", [2, 3, 5, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_updates_of_slices_are_slices_of_the_update_to_the_last_bit(name: str, tasks: int, dtype: torch.dtype) -> None:
    jacobian = torch.randn(tasks, 1003, generator=torch.Generator().manual_seed(tasks)).to(dtype)
    whole, sliced = create_method(name), [create_method(name) for _ in range(4)]
    assert isinstance(whole, JacobianMethod)
    borders = [0, 1, 334, 701, 1003]
    for _ in range(2):
        parts = [
            method.combine_columns(jacobian[:, start:stop], slice(start, stop), 1003)
            for method, start, stop in zip(sliced, borders, borders[1:], strict=False)
            if isinstance(method, JacobianMethod)
        ]
        assert torch.equal(torch.cat(parts), whole.combine(jacobian))


def test_columns_are_checked_as_the_whole_is() -> None:
    method = create_method("graddrop")
    assert isinstance(method, JacobianMethod)
    with pytest.raises(ValueError, match=r"NaN or infinity.* task index 0, 1$"):
        method.combine_columns(torch.full((2, 3), torch.nan), slice(0, 3), 9)


# Properties that the engine asks for.


AHEAD = {"moml", "auto_lambda", "forum"}
SHARPNESS = {"fmtl", "samo"}


def test_only_methods_of_several_evaluations_refuse_accumulation() -> None:
    assert {name for name in list_methods() if not create_method(name).accumulates} == {"famo"} | SHARPNESS | AHEAD


def test_only_methods_that_look_ahead_need_validation_batches() -> None:
    assert {name for name in list_methods() if create_method(name).needs_validation} == AHEAD


def test_methods_of_perturbed_parameters_need_one_process_and_no_method_all_tasks() -> None:
    assert {name for name in list_methods() if create_method(name).needs_one_process} == SHARPNESS | AHEAD
    assert not [name for name in list_methods() if create_method(name).needs_all_tasks]
