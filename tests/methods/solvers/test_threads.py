import pytest
import torch
from torch import Tensor

from recon.methods import GramianMethod
from recon.methods.solvers.threads import _libraries


def threads() -> set[int]:
    return {library["num_threads"] for library in _libraries().info()}


class Threads(GramianMethod):
    """Remembers how many threads the linear algebra had."""

    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self.seen = threads()
        if losses is not None:
            raise ValueError("no losses here")
        return torch.ones(len(gramian), dtype=torch.float64)


@pytest.fixture(autouse=True)
def several_threads() -> object:
    with _libraries().limit(limits=3):
        yield


def test_solvers_have_one_thread_and_leave_the_others_alone() -> None:
    before, own = threads(), torch.get_num_threads()
    assert max(before) > 1
    method = Threads()
    method.combine(torch.eye(40))
    assert method.seen == {1}
    assert threads() == before
    assert torch.get_num_threads() == own
    with pytest.raises(ValueError, match="no losses"):
        method.weights(torch.eye(40), torch.ones(40))
    assert threads() == before


def test_few_tasks_do_not_ask() -> None:
    method = Threads()
    method.combine(torch.eye(2))
    assert method.seen == threads()
