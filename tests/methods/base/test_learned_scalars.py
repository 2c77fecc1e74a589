"""One learned number per task: kept apart for the optimizer, together in the checkpoint."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recon.methods import Method, create_method
from recon.methods.base.learned_scalars import LearnedScalarsMethod
from recon.methods.base.task_scalars import TaskScalars

LEARNED = {"uw": "log_variances", "imtl_l": "log_scales", "imtl": "log_scales"}


def bound(name: str, tasks: int = 3) -> LearnedScalarsMethod:
    method = create_method(name)
    assert isinstance(method, LearnedScalarsMethod)
    method.bind(tasks)
    return method


def learn(method: Method, losses: Tensor) -> None:
    """Leave gradients in the method's parameters, as a step of the engine does."""
    if hasattr(method, "objective"):
        method.objective(losses).backward()
    else:
        method.combine(torch.eye(len(losses)), losses)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("bound_before", [True, False])
def test_a_checkpoint_holds_one_tensor_as_it_always_did(name: str, bound_before: bool) -> None:
    saved = {LEARNED[name]: torch.tensor([0.5, -1.0, 2.0])}
    method = bound(name) if bound_before else create_method(name)
    method.load_state_dict(saved)
    assert getattr(method, LEARNED[name]).tolist() == [0.5, -1, 2]
    assert list(method.state_dict()) == [LEARNED[name]]
    assert torch.equal(method.state_dict()[LEARNED[name]], saved[LEARNED[name]])


@pytest.mark.parametrize("name", LEARNED)
def test_a_checkpoint_of_other_tasks_or_without_the_numbers_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"size mismatch for {LEARNED[name]}.*shape \(2,\)"):
        bound(name).load_state_dict({LEARNED[name]: torch.zeros(2)})
    with pytest.raises(RuntimeError, match=rf"Missing key.*{LEARNED[name]}"):
        bound(name).load_state_dict({})
    create_method(name).load_state_dict({})


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1),
    ],
)
def test_no_optimizer_moves_the_number_of_an_absent_task(name: str, optimizer: Callable) -> None:  # type: ignore[type-arg]
    method = bound(name)
    optimizer = optimizer(method.parameters())
    for step in range(6):
        optimizer.zero_grad()
        before = getattr(method, LEARNED[name]).tolist()
        if step % 2:
            with method.among([0, 2]):
                learn(method, torch.tensor([3.0, 0.2]))
            optimizer.step()
            after = getattr(method, LEARNED[name]).tolist()
            assert after[1] == before[1]
            assert after[0] != before[0]
            assert after[2] != before[2]
        else:
            learn(method, torch.tensor([3.0, 0.5, 0.2]))
            optimizer.step()


@pytest.mark.parametrize("name", LEARNED)
def test_numbers_are_trained_as_one_vector_was(name: str) -> None:
    method, vector = bound(name), torch.nn.Parameter(torch.zeros(3))
    ours, theirs = (torch.optim.Adam(each, lr=0.1) for each in (method.parameters(), [vector]))
    for seed in range(5):
        losses = 0.1 + torch.rand(3, generator=torch.Generator().manual_seed(seed))
        sign, factor = (-1, 0.5) if name == "uw" else (1, 1)
        for optimizer in (ours, theirs):
            optimizer.zero_grad()
        learn(method, losses)
        (factor * ((sign * vector).exp() * losses - sign * vector)).sum().backward()
        for optimizer in (ours, theirs):
            optimizer.step()
        torch.testing.assert_close(getattr(method, LEARNED[name]), vector)


def test_a_users_method_may_hold_such_numbers_itself() -> None:
    scalars = TaskScalars(2)
    scalars.add_gradient(torch.tensor([1.0, 2.0]))
    scalars.add_gradient(torch.tensor([1.0, 2.0]))
    assert [number.grad for number in scalars.parameters()] == [2, 4]
    scalars.set(torch.tensor([3.0, 4.0]))
    again = TaskScalars(2)
    again.load_state_dict(scalars.state_dict())
    assert again.stacked().tolist() == [3, 4]
