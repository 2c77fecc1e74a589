"""A method among some of its tasks shows their rows alone, and puts them back."""

import pytest
import torch
from torch import Tensor, nn

from recon.engine.refusal import kept_if_refused
from recon.methods import GramianMethod, JacobianMethod, StatefulMethod, create_method
from recon.methods.base.per_task import PerTaskMethod
from recon.methods.base.task_scalars import TaskScalars


class Ledger(PerTaskMethod, StatefulMethod, JacobianMethod):
    """A method with state of every shape."""

    per_task = ("bounds",)
    pairwise = ("pairs", "inner.pairs")
    pairs: Tensor
    means: Tensor
    steps: Tensor
    tracks: Tensor
    grid: Tensor
    factors: nn.Parameter

    def __init__(self, bounds: list[float] | None = None) -> None:
        super().__init__()
        self.bounds = bounds
        self.register_buffer("grid", torch.arange(3.0))  # of no task

    def make_state(self, tasks: int) -> None:
        self.register_buffer("means", torch.arange(1.0, tasks + 1))
        self.register_buffer("pairs", torch.arange(float(tasks * tasks)).view(tasks, tasks))
        self.register_buffer("tracks", torch.zeros(tasks, 0))
        self.register_buffer("steps", torch.tensor(0))
        self.factors = nn.Parameter(torch.arange(float(tasks)))
        self.scalars = TaskScalars(tasks)
        self.inner = nn.Module()
        self.inner.register_buffer("logits", torch.zeros(tasks))
        self.inner.register_buffer("pairs", torch.zeros(tasks, tasks))

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.steps += 1
        self.means = self.means * 10  # replaced, not changed in place
        self.pairs += 100
        self.tracked("tracks", jacobian).add_(jacobian)
        return self.means.to(jacobian) @ jacobian


def ledger() -> Ledger:
    method = Ledger([0.5, 1.5, 2.5])
    method.bind(3)
    return method


def test_rows_of_present_tasks_are_shown_and_put_back() -> None:
    method = ledger()
    with method.among([0, 2]):
        assert (method.tasks, method.bounds) == (2, [0.5, 2.5])
        assert method.pairs.tolist() == [[0, 2], [6, 8]]
        assert method.grid.tolist() == [0, 1, 2]
        assert method.inner.get_buffer("logits").shape == (2,)
        assert method.inner.get_buffer("pairs").shape == (2, 2)
        assert method.combine(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [10, 30]
    assert (method.tasks, method.bounds) == (3, [0.5, 1.5, 2.5])
    assert method.means.tolist() == [10, 2, 30]
    assert method.pairs.tolist() == [[100, 1, 102], [3, 4, 5], [106, 7, 108]]
    assert method.tracks.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert method.steps == 1
    assert method.combine(torch.zeros(3, 2)).shape == (2,)


def test_all_tasks_change_nothing() -> None:
    method = ledger()
    means = method.means
    with method.among([0, 1, 2]):
        assert method.means is means
        method.bind(3)


def test_learned_numbers_of_absent_tasks_get_no_gradient() -> None:
    method = ledger()
    with method.among([0, 2]):
        assert method.factors.tolist() == [0, 2]
        (method.factors * 3 + method.scalars.stacked()).sum().backward()
    assert isinstance(method.factors, nn.Parameter)
    assert method.factors.grad is not None
    assert method.factors.grad.tolist() == [3, 0, 3]
    assert [None if p.grad is None else p.grad.item() for p in method.scalars.parameters()] == [1, None, 1]


def test_after_an_error_the_state_is_as_before() -> None:
    method = ledger()
    method.combine(torch.ones(3, 2))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(ZeroDivisionError), method.among([1, 2]):
        method.combine(torch.ones(2, 2))
        raise ZeroDivisionError
    assert (method.tasks, method.bounds) == (3, [0.5, 1.5, 2.5])
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_refused_step_of_the_engine_leaves_the_state_as_before() -> None:
    method = ledger()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(ValueError, match="refused"), kept_if_refused(method), method.among([1]):
        method.combine(torch.ones(1, 2))
        raise ValueError("refused")
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert method.combine(torch.ones(3, 2)).tolist() == [60, 60]


def test_a_step_refused_after_its_block_leaves_the_state_as_before() -> None:
    method = ledger()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(ValueError, match="refused"), kept_if_refused(method):
        with method.among([1, 2]):
            method.combine(torch.ones(2, 2))
        raise ValueError("refused")
    assert {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])} == set()


def test_another_number_of_tasks_than_present_is_refused() -> None:
    for method in (ledger(), create_method("trimmed_mean")):
        with method.among([0, 1]), pytest.raises(ValueError, match=r"is among 2 present tasks, got 3"):
            method.combine(torch.ones(3, 2))


@pytest.mark.parametrize("present", [[], [2, 0], [0, 0], [-1, 0], [0, 3]])
def test_indices_that_are_no_ascending_ones_of_the_tasks_are_refused(present: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be ascending indices of 3 tasks, one at least, got"):
        ledger().among(present)


def test_a_method_without_its_state_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Ledger.* has no state of its tasks yet; call bind"), Ledger().among([0, 2]):
        pass


def test_a_block_inside_a_block_takes_rows_of_the_rows() -> None:
    method = ledger()
    with method.among([0, 2]), method.among([1]):
        assert method.means.tolist() == [3]
        method.means += 1
    assert method.means.tolist() == [1, 2, 4]


class Kept(StatefulMethod, GramianMethod):
    """A user's method: state made in ``make_state``, and nothing else."""

    means: Tensor

    def make_state(self, tasks: int) -> None:
        self.register_buffer("means", torch.zeros(tasks, dtype=torch.float64))

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.means = 0.5 * self.means + gramian.diagonal()
        return self.means.clone()


def test_state_of_a_users_method_and_of_one_inside_another_follows() -> None:
    class Doubled(StatefulMethod, GramianMethod):
        def make_state(self, tasks: int) -> None:
            self.kept = Kept()
            self.kept.bind(tasks)

        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return 2 * self.kept.weights(gramian)

    method = Doubled()
    method.bind(3)
    with method.among([1, 2]):
        assert method.weights(torch.eye(2)).tolist() == [2, 2]
    assert method.weights(torch.eye(3)).tolist() == [2, 3, 3]


def test_no_host_waits_for_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("read on the host")

    method = create_method("moco")
    method.bind(4)
    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "__bool__"):
            patched.setattr(Tensor, name, refuse)
        patched.setattr(torch, "tensor", refuse)  # made from a list it would wait
        with method.among([1, 3]):
            pass


def test_state_of_k_by_k_numbers_has_to_say_what_they_are() -> None:
    class Pairs(StatefulMethod, GramianMethod):
        def make_state(self, tasks: int) -> None:
            self.register_buffer("seen", torch.zeros(tasks, tasks))

        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            return torch.ones(len(gramian))

    class Said(Pairs):
        pairwise = ()

    method = Pairs()
    assert method.weights(torch.eye(3)).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"Pairs keeps 'seen' of 3 x 3 numbers: .* pairwise = \('seen',\)"):
        method.among([0, 1]).__enter__()
    said = Said()
    said.bind(3)
    with said.among([0, 1]):
        assert said.get_buffer("seen").shape == (2, 3)
