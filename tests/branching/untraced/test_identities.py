import torch

from recon.branching.untraced.identities import Identities


def test_an_equal_argument_of_a_later_task_counts_as_that_of_the_first() -> None:
    identities, mask = Identities(compare_floats=True), torch.ones(3)
    first = identities.of_recorded_argument("attention", mask)
    again = torch.ones(3)
    assert identities.of_argument("attention", again) == first
    assert identities.of(again) == first


def test_arguments_of_other_modules_values_or_shapes_stay_apart() -> None:
    identities, mask = Identities(compare_floats=True), torch.ones(3)
    first = identities.of_recorded_argument("attention", mask)
    for path, tensor in (("norm", torch.ones(3)), ("attention", torch.zeros(3)), ("attention", torch.ones(4))):
        assert identities.of_argument(path, tensor) not in (first, identities.of(mask))


def test_a_write_ends_the_equality() -> None:
    identities, mask, again = Identities(compare_floats=True), torch.ones(3), torch.ones(3)
    first = identities.of_recorded_argument("attention", mask)
    assert identities.of_argument("attention", again) == first
    again.add_(1)
    assert identities.of(again) != first
    mask.add_(1)
    assert identities.of_argument("attention", torch.ones(3)) != first


def test_tensors_with_gradients_are_never_compared() -> None:
    identities, features = Identities(compare_floats=True), torch.ones(3, requires_grad=True)
    first = identities.of_recorded_argument("attention", features)
    assert identities.of_argument("attention", torch.ones(3, requires_grad=True)) != first


def test_without_gradients_only_integers_are_compared() -> None:
    identities = Identities(compare_floats=False)
    for dtype, same in ((torch.int64, True), (torch.float32, False)):
        kept = torch.ones(3, dtype=dtype)
        first = identities.of_recorded_argument("embedding", kept)
        assert (identities.of_argument("embedding", torch.ones(3, dtype=dtype)) == first) is same
