import pytest
import torch
import torchjd.scalarization
from torch import Tensor

from recon.methods import DWA


def epoch(method: DWA, losses: list[Tensor]) -> list[Tensor]:
    weights = [method.loss_weights(batch) for batch in losses]
    method.end_epoch()
    return weights


def test_weights_follow_the_ratio_of_the_last_two_epochs_means() -> None:
    method = DWA(temperature=2.0)
    epoch(method, [torch.tensor([4.0, 1.0]), torch.tensor([2.0, 3.0])])  # means 3, 2
    epoch(method, [torch.tensor([1.5, 2.0])])
    expected = 2 * (torch.tensor([0.5, 1.0]) / 2).softmax(0)
    for weights in epoch(method, [torch.tensor([9.0, 9.0]), torch.tensor([1.0, 7.0])]):
        torch.testing.assert_close(weights, expected)
    rates = torch.tensor([5.0 / 1.5, 8.0 / 2.0])
    torch.testing.assert_close(method.loss_weights(torch.ones(2)), 2 * (rates / 2).softmax(0))


def test_equals_torchjds_over_epochs_of_any_length() -> None:
    ours, theirs = DWA(temperature=0.7), torchjd.scalarization.DWA(temperature=0.7)
    generator = torch.Generator().manual_seed(0)
    for length in (3, 1, 4, 2, 2):
        for _ in range(length):
            losses = torch.rand(5, generator=generator).requires_grad_()
            theirs(losses).backward()
            torch.testing.assert_close(ours.loss_weights(losses.detach()), losses.grad)
        ours.end_epoch()
        theirs.step()
    assert ours.loss_weights(torch.ones(5)).std() > 0.01


def test_the_first_two_epochs_are_joint_training() -> None:
    method = DWA()
    for losses in (torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])):
        assert epoch(method, [losses])[0].tolist() == [1, 1]


def test_an_end_of_epoch_without_a_step_changes_nothing() -> None:
    method = DWA()
    method.end_epoch()
    for losses in (torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])):
        epoch(method, [losses])
    before = method.state_dict()
    method.end_epoch()
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_a_task_without_loss_has_no_rate() -> None:
    method = DWA()
    for _ in range(2):
        epoch(method, [torch.tensor([0.0, 2.0])])
    assert method.loss_weights(torch.tensor([0.0, 2.0])).tolist() == [1, 1]


def test_the_lowest_temperature_leaves_the_slowest_task() -> None:
    method = DWA(temperature=1e-30)
    for losses in (torch.tensor([1e-4, 2.0]), torch.tensor([1e6, 2.0])):
        assert epoch(method, [losses])[0].tolist() == [1, 1]
    assert method.loss_weights(torch.ones(2)).tolist() == [2, 0]


@pytest.mark.parametrize("temperature", [0, -1, 1e-50, float("nan")])
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="dwa: temperature must be a finite number >= 1e-30, got"):
        DWA(temperature=temperature)
