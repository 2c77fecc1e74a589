import copy

import pytest
import torch
from torch import Tensor, nn

from recon.models.architectures.rotation import Rotation, exponential


def slopes(number: int, size: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(size, size, generator=draw, dtype=torch.float64) for _ in range(number)]


def test_a_rotation_starts_at_the_identity_and_stays_in_the_group() -> None:
    rotation, points = Rotation(5, lr=0.3).double(), torch.randn(7, 5, dtype=torch.float64)
    assert torch.equal(rotation(points), points)
    for slope in slopes(50, 5):
        rotation.descend(slope)
    torch.testing.assert_close(rotation.matrix @ rotation.matrix.mT, torch.eye(5).double())
    torch.testing.assert_close(torch.linalg.det(rotation.matrix), torch.tensor(1.0).double())
    assert (rotation.matrix - torch.eye(5)).abs().max() > 0.5


def test_steps_are_those_of_torch_on_its_own_parametrisation() -> None:
    """torch's matrix is the exponential too, times a base that is the identity here."""
    theirs = nn.Linear(4, 4, bias=False).double()
    nn.init.eye_(theirs.weight)
    nn.utils.parametrizations.orthogonal(theirs, orthogonal_map="matrix_exp")
    adam = torch.optim.Adam(theirs.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.9)
    ours = Rotation(4, lr=0.05, decay=0.9).double()
    for slope in slopes(20, 4):
        adam.zero_grad()
        (theirs.weight * slope).sum().backward()
        adam.step()
        schedule.step()
        ours.descend(slope)
        torch.testing.assert_close(ours.matrix, theirs.weight.detach())


@pytest.mark.parametrize("spoiled", [0.0, float("nan"), float("inf")])
def test_a_slope_of_zero_or_without_a_value_moves_nothing(spoiled: float) -> None:
    rotation = Rotation(3, lr=0.1)
    rotation.descend(slopes(1, 3)[0])
    before = copy.deepcopy(rotation.state_dict())
    rotation.descend(torch.full((3, 3), spoiled))
    assert all(torch.equal(value, before[name]) for name, value in rotation.state_dict().items())


def test_maps_are_rotated_at_each_place_and_channels_beyond_the_size_pass() -> None:
    rotation = Rotation(3, lr=0.5).double()
    rotation.descend(slopes(1, 3)[0])
    maps = torch.randn(2, 5, 4, 6, dtype=torch.float64)
    rotated = rotation(maps)
    for row, column in ((0, 0), (3, 5)):
        torch.testing.assert_close(rotated[:, :, row, column], rotation(maps[:, :, row, column]))
        torch.testing.assert_close(rotated[:, :3, row, column], maps[:, :3, row, column] @ rotation.matrix.mT)
    assert torch.equal(rotated[:, 3:], maps[:, 3:])


def test_features_of_fewer_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the rotation is of 4 features, and got a tensor of shape \(2, 3\)"):
        Rotation(4)(torch.zeros(2, 3))


def test_only_a_forward_in_training_leaves_a_gradient_and_the_first_backward_counts() -> None:
    rotation, points = Rotation(2), torch.ones(3, 2, requires_grad=True)
    with torch.no_grad():
        rotation(points)
    rotation.eval()(points).sum().backward()
    assert rotation.take_gradient() is None
    loss = rotation.train()(points).sum()
    loss.backward(retain_graph=True)
    (5 * loss).backward()
    taken = rotation.take_gradient()
    assert taken is not None
    assert torch.equal(taken, torch.ones(3, 2))
    assert rotation.take_gradient() is None


def test_the_state_of_a_rotation_resumes_exactly() -> None:
    whole, resumed, given = Rotation(3, lr=0.1), Rotation(3, lr=0.1), slopes(6, 3)
    for slope in given[:3]:
        whole.descend(slope)
    resumed.load_state_dict(whole.state_dict())
    for slope in given[3:]:
        whole.descend(slope)
        resumed.descend(slope)
    assert torch.equal(whole.matrix, resumed.matrix)
    torch.testing.assert_close(whole.matrix, exponential(whole.coordinates, 3))


@pytest.mark.parametrize("features", [{"low": torch.zeros(3, 2)}, (torch.zeros(3, 2),), [torch.zeros(3, 2)]])
def test_features_of_several_tensors_are_refused_with_the_cure(features: object) -> None:
    kind = type(features).__name__
    with pytest.raises(TypeError, match=rf"got a {kind}; let the backbone return one tensor, or train without rot"):
        Rotation(2)(features)
