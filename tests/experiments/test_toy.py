from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from recon.experiments.toy import EPOCH, LEARNING_RATE, REACHED, STARTS, gap, objectives, pareto_front, path, toy, walk
from recon.methods import create_method
from recon.methods.base import registry
from recon.methods.catalogue.properties import ENTRIES, Entry

OURS = [name for name, cls in registry._registered.values() if cls.__module__.startswith("recon.")]
PROMISING = [entry for entry in ENTRIES if {"non-conflicting", "stops"} <= entry.properties]
"""They serve both tasks in each step, until no step does."""


def published(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """The objectives as the code of CAGrad and Nash-MTL writes them."""
    f1 = np.log(np.maximum(np.abs(0.5 * (-x1 - 7) - np.tanh(-x2)), 0.000005)) + 6
    f2 = np.log(np.maximum(np.abs(0.5 * (-x1 + 3) + np.tanh(-x2) + 2), 0.000005)) + 6
    c1 = np.maximum(np.tanh(x2 * 0.5), 0)
    f1_sq = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    f2_sq = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    c2 = np.maximum(np.tanh(-x2 * 0.5), 0)
    return np.stack([f1 * c1 + f1_sq * c2, f2 * c1 + f2_sq * c2], axis=-1)


def test_the_objectives_are_the_published_ones() -> None:
    points = np.random.default_rng(0).uniform(-10, 10, (1000, 2))
    np.testing.assert_allclose(objectives(torch.from_numpy(points)).numpy(), published(*points.T), atol=1e-12)


def test_gradients_are_opposed_along_the_front() -> None:
    points = torch.from_numpy(pareto_front(41)[1:-1]).requires_grad_()
    first, second = (torch.autograd.grad(f.sum(), points, retain_graph=True)[0] for f in objectives(points).unbind(-1))
    torch.testing.assert_close(torch.cosine_similarity(first, second), -torch.ones(39).double(), rtol=0, atol=1e-12)


def test_gap_is_what_both_objectives_could_still_gain() -> None:
    assert gap(pareto_front()).max() == 0
    grid = np.stack(np.meshgrid(np.linspace(-10, 10, 21), np.linspace(-10, 10, 21)), axis=-1).reshape(-1, 2)
    assert (gap(grid)[np.abs(grid[:, 1] + 8.4) > 1] > 0).all()
    # By symmetry the point of the front that is most better than (0, -2) in both is the one below it.
    level = objectives(torch.tensor([[0.0, -2.0], [0.0, pareto_front(3)[1, 1]]])).numpy()
    span = np.ptp(objectives(torch.from_numpy(pareto_front())).numpy())
    np.testing.assert_allclose(gap(np.array([[0.0, -2.0]])), (level[0, 0] - level[1, 0]) / span, rtol=1e-3)


@pytest.mark.parametrize("name", sorted(set(OURS) - {"krum"}))
def test_every_method_takes_steps(name: str) -> None:
    taken = path(create_method(name), STARTS[0], steps=EPOCH + 5)  # over an epoch's end
    assert taken.shape == (EPOCH + 6, 2)
    assert 0 < np.abs(np.diff(taken, axis=0)).max() <= 12 * LEARNING_RATE


def test_a_method_that_refuses_two_tasks_is_left_out_with_its_reason() -> None:
    paths = walk(["krum", "joint"], steps=1)
    assert list(paths.taken) == ["joint"]
    assert "at least 3 tasks" in paths.left_out["krum"]


@pytest.mark.parametrize("name", ["rlw", "graddrop", "pcgrad", "gradvac"])
def test_random_methods_repeat_their_paths(name: str) -> None:
    first, second = (path(create_method(name), STARTS[3], steps=30) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", ["upgrad", "nash_mtl"])
def test_a_path_ends_on_the_front(name: str) -> None:
    assert gap(path(create_method(name), STARTS[3], steps=1200)[-1:]) <= REACHED


@pytest.mark.slow
@pytest.mark.parametrize("entry", PROMISING, ids=lambda entry: entry.label)
def test_who_harms_no_task_and_stops_only_where_nothing_is_left_reaches_the_front(entry: Entry) -> None:
    ends = [path(create_method(entry.method, **entry.options), start)[-1] for start in STARTS[::2]]
    assert gap(np.array(ends)).max() <= REACHED


@pytest.mark.slow
def test_the_sum_of_losses_sticks_in_the_valley() -> None:
    assert gap(path(create_method("joint"), STARTS[2])[-1:]) > 0.5


def test_figure_and_table_are_written(tmp_path: Path) -> None:
    table, figure = toy(tmp_path / "new", ["joint", "krum"], steps=3)
    text = table.read_text()
    assert "| `joint` | 0 of 5 | -8.44, 7.44 (" in " ".join(text.split())
    assert "* `krum`: krum: n_byzantine=0" in text
    assert imread(figure).shape[2] in (3, 4)


def test_methods_are_named_as_anywhere_else(tmp_path: Path) -> None:
    table, _ = toy(tmp_path, ["CAGrad", " Nash-MTL"], steps=2)
    assert [line.split("`")[1] for line in table.read_text().splitlines() if line.startswith("| `")] == [
        "cagrad",
        "nash_mtl",
    ]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown method 'cagrd'; nearest: 'cagrad'"):
        toy(tmp_path, ["joint", "cagrd"])
    with pytest.raises(TypeError, match="a method is wanted by name"):
        toy(tmp_path, [3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least 3 tasks"):
        toy(tmp_path, ["krum"])
    with pytest.raises(ValueError, match="steps is 0"):
        toy(tmp_path, ["joint"], steps=0)
    assert not list(tmp_path.iterdir())
