"""The joined loader: which batches each mode gives, and their order as a function of (seed, epoch)."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from recon.data.batches import EpochBatches, ShuffledBatches
from recon.data.per_task.loader import Mode, TaskLoader


class Numbers(torch.utils.data.Dataset[Any]):
    """Sample i is ``(i, {task: 10 i})``; a batch may be of one index, of several, or of an epoch."""

    def __init__(self, task: str, size: int) -> None:
        self.task, self.size = task, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        value = torch.as_tensor(index[1] if isinstance(index, tuple) else index)
        return value, {self.task: 10 * value, "other": -value}


def fixed(task: str, size: int, batch_size: int = 2) -> DataLoader[Any]:
    return DataLoader(Numbers(task, size), batch_size=batch_size)


def batches(loader: TaskLoader) -> list[dict[str, Any]]:
    return [
        {task: None if part is None else part[0].tolist() for task, part in batch.items()} for batch, _, _ in loader
    ]


LONG, SHORT = [[0, 1], [2, 3], [4, 5]], [[0, 1]]
BY_MODE: dict[Mode, list[dict[str, Any]]] = {
    "max_size_cycle": [{"a": a, "b": SHORT[0]} for a in LONG],
    "max_size": [{"a": LONG[0], "b": SHORT[0]}, {"a": LONG[1], "b": None}, {"a": LONG[2], "b": None}],
    "min_size": [{"a": LONG[0], "b": SHORT[0]}],
    "sequential": [*({"a": a} for a in LONG), {"b": SHORT[0]}],
}


@pytest.mark.parametrize("mode", BY_MODE)
def test_each_mode_joins_the_loaders_in_its_way(mode: Mode) -> None:
    loader = TaskLoader({"a": fixed("a", 6), "b": fixed("b", 2)}, mode)
    for _ in range(2):
        assert batches(loader) == BY_MODE[mode]
        assert len(loader) == len(BY_MODE[mode])
    assert [number for _, number, _ in loader] == list(range(len(BY_MODE[mode])))


def test_a_part_is_inputs_and_the_target_of_its_task() -> None:
    pairs = DataLoader([(torch.zeros(2), torch.tensor([7, 8]))], batch_size=None)  # type: ignore[arg-type]
    loaders = {"a": fixed("a", 2), "b": fixed("digit", 2), "c": pairs}
    (batch, _, _) = next(iter(TaskLoader(loaders, targets={"b": "digit"})))
    assert {task: part and part[1].tolist() for task, part in batch.items()} == {
        "a": [0, 10],
        "b": [0, 10],
        "c": [7, 8],
    }
    (batch, _, _) = next(iter(TaskLoader({"missing": fixed("a", 2)})))
    assert batch["missing"] is not None
    assert batch["missing"][1] is None


def test_a_batch_of_another_form_names_the_task() -> None:
    loader = TaskLoader({"a": DataLoader(range(3))})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the data of task 'a' give a batch of type Tensor; it should be \(inputs"):
        next(iter(loader))


def test_an_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown mode 'max_sise'; nearest: 'max_size'"):
        TaskLoader({"a": fixed("a", 2)}, "max_sise")  # type: ignore[arg-type]


def test_limits_of_the_trainer_are_kept() -> None:
    loader = TaskLoader({"a": fixed("a", 6), "b": fixed("b", 2)}, "sequential")
    loader.limits = 2
    assert batches(loader) == [{"a": LONG[0]}, {"a": LONG[1]}, {"b": SHORT[0]}]
    assert len(loader) == 3
    loader.reset()
    with pytest.raises(RuntimeError, match="call `iter"):
        len(loader)


# Order --------------------------------------------------------------------------------------------


def shuffled(kind: str, task: str, size: int) -> DataLoader[Any]:
    data = Numbers(task, size)
    if kind == "ours":
        return DataLoader(data, batch_size=None, sampler=ShuffledBatches(size, 2, seed=4))
    if kind == "epochs":
        return DataLoader(data, batch_size=None, sampler=EpochBatches(ShuffledBatches(size, 2, seed=4)))
    if kind == "distributed":
        return DataLoader(data, batch_size=2, sampler=DistributedSampler(data, num_replicas=1, rank=0, seed=4))
    return DataLoader(data, batch_size=2, shuffle=True)


def rounds(kind: str, epoch: int, disturbed: bool = False) -> list[list[int]]:
    """The three rounds of a short set of eight samples beside a long one of 24, in one epoch."""
    loader = TaskLoader({"long": fixed("long", 24), "short": shuffled(kind, "short", 8)})
    loader.set_epoch(epoch)
    torch.manual_seed(100 + epoch)  # as training seeds torch in each epoch
    order: list[int] = []
    for batch, _, _ in loader:
        assert batch["short"] is not None
        order += batch["short"][0].tolist()
        if disturbed:
            torch.rand(3)  # as dropout draws
    return [order[start : start + 8] for start in range(0, 24, 8)]


kinds = pytest.mark.parametrize("kind", ["ours", "epochs", "distributed", "plain"])


@kinds
def test_a_set_that_begins_again_is_whole_and_in_another_order(kind: str) -> None:
    found = [order for epoch in range(3) for order in rounds(kind, epoch)]
    assert all(sorted(order) == list(range(8)) for order in found)
    assert len(set(map(tuple, found))) == 9


@kinds
def test_orders_are_a_function_of_the_epoch_whatever_training_draws(kind: str) -> None:
    for epoch in (0, 3):
        assert rounds(kind, epoch, disturbed=True) == rounds(kind, epoch)


@kinds
def test_the_first_round_has_the_order_of_the_set_alone(kind: str) -> None:
    alone = shuffled(kind, "short", 8)
    if kind != "plain":
        alone.sampler.set_epoch(2)  # type: ignore[attr-defined]
        assert rounds(kind, 2)[0] == [i for x, _ in alone for i in x.tolist()]


def test_beginning_again_leaves_the_random_state_of_training_alone() -> None:
    states = []
    for size in (8, 24):
        loader = TaskLoader({"long": fixed("long", 24), "short": shuffled("plain", "short", size)})
        torch.manual_seed(0)
        parts = iter(loader)
        next(parts)
        torch.manual_seed(1)
        list(parts)
        states.append(torch.rand(1))
    assert torch.equal(*states)


class Once(IterableDataset[Any]):
    """A stream that cannot be begun again."""

    def __init__(self) -> None:
        self.left: Iterator[tuple[Tensor, dict[str, Tensor]]] = iter([(torch.zeros(1), {"once": torch.zeros(1)})])

    def __iter__(self) -> Iterator[Any]:
        return self.left


def test_a_stream_that_cannot_begin_again_is_named() -> None:
    loader = TaskLoader({"long": fixed("long", 24), "once": DataLoader(Once(), batch_size=None)})
    with pytest.raises(ValueError, match="the data of task 'once' gave no batch when they began again"):
        list(loader)
