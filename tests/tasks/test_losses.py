import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from recon.tasks.losses import labelled_cross_entropy, masked_cosine, masked_cross_entropy, masked_l1, valid_items

Case = tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]


def case(kind: str, holes: float, seed: int = 0) -> Case:
    """A loss, a prediction and a target in which that part of the pixels has no truth."""
    generator = torch.Generator().manual_seed(seed)
    hole = torch.rand(2, 4, 5, generator=generator) < holes
    if kind == "segmentation":
        labels = torch.randint(6, (2, 4, 5), generator=generator).masked_fill(hole, -1)
        return masked_cross_entropy, torch.randn(2, 6, 4, 5, generator=generator), labels
    loss, channels = {"depth": (masked_l1, 1), "normals": (masked_cosine, 3)}[kind]
    prediction, target = torch.randn(2, 2, channels, 4, 5, generator=generator)
    return loss, prediction, target.masked_fill(hole[:, None], math.nan)


def naive(kind: str, prediction: Tensor, target: Tensor) -> float:
    """The mean over pixels with truth, one pixel after the other."""
    errors = []
    for sample, row, column in np.ndindex(2, 4, 5):
        p = prediction[sample, :, row, column].double().numpy()
        if kind == "segmentation":
            t = int(target[sample, row, column])
            if t != -1:
                errors.append(math.log(np.exp(p).sum()) - p[t])
            continue
        t = target[sample, :, row, column].double().numpy()
        if not np.isnan(t).any():
            angular = 1 - p @ t / math.sqrt(p @ p * (t @ t))
            errors.append(abs(p - t)[0] if kind == "depth" else angular)
    return float(np.mean(errors))


kinds = pytest.mark.parametrize("kind", ["segmentation", "depth", "normals"])


@kinds
@pytest.mark.parametrize("holes", [0, 0.4, 0.9])
def test_the_loss_is_the_mean_over_the_pixels_with_truth(kind: str, holes: float) -> None:
    loss, prediction, target = case(kind, holes)
    assert valid_items(target).any()
    assert loss(prediction, target).item() == pytest.approx(naive(kind, prediction, target), abs=1e-6)


@kinds
def test_the_gradient_is_the_derivative_where_there_is_truth_and_zero_elsewhere(kind: str) -> None:
    loss, prediction, target = case(kind, 0.5)
    prediction = prediction.double().requires_grad_()
    target = target.double() if target.is_floating_point() else target
    loss(prediction, target).backward()
    valid = valid_items(target)[:, None].expand_as(prediction)
    assert prediction.grad is not None
    assert (prediction.grad[~valid] == 0).all()
    assert (prediction.grad[valid] != 0).all()
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction)


@kinds
def test_without_any_truth_loss_and_gradient_are_zero(kind: str) -> None:
    loss, prediction, target = case(kind, holes=1.1)
    value = loss(prediction.requires_grad_(), target)
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert (prediction.grad == 0).all()


@kinds
def test_what_is_predicted_where_there_is_no_truth_does_not_matter(kind: str) -> None:
    loss, prediction, target = case(kind, 0.5)
    elsewhere = torch.where(valid_items(target)[:, None], prediction, 1e6)
    torch.testing.assert_close(loss(elsewhere, target), loss(prediction, target))


@kinds
def test_a_prediction_that_is_not_a_number_where_there_is_truth_is_not_hidden(kind: str) -> None:
    loss, prediction, target = case(kind, 0.5)
    assert loss(torch.where(valid_items(target)[:, None], math.nan, prediction), target).isnan()


def test_the_cosine_loss_does_not_depend_on_lengths_and_reaches_from_zero_to_two() -> None:
    _, prediction, target = case("normals", 0.3)
    torch.testing.assert_close(masked_cosine(prediction * 7, target / 3), masked_cosine(prediction, target))
    complete = target.nan_to_num(1)
    assert masked_cosine(4 * complete, complete).item() == pytest.approx(0, abs=1e-6)
    assert masked_cosine(-complete, complete).item() == pytest.approx(2, abs=1e-6)


def test_a_prediction_of_length_zero_has_cosine_zero_and_a_finite_gradient() -> None:
    _, prediction, target = case("normals", 0.3)
    prediction = torch.zeros_like(prediction).requires_grad_()
    loss = masked_cosine(prediction, target)
    loss.backward()
    assert loss.item() == 1
    assert prediction.grad is not None
    pixels = int(target.isfinite().all(1).sum())
    assert prediction.grad.abs().max() <= 1e3 / pixels


@kinds
def test_losses_of_bfloat16_predictions_are_finite_and_near(kind: str) -> None:
    loss, prediction, target = case(kind, 0.3)
    assert loss(prediction.bfloat16(), target).item() == pytest.approx(loss(prediction, target).item(), rel=0.02)


@pytest.mark.parametrize(
    ("loss", "prediction", "target"),
    [
        (labelled_cross_entropy, torch.tensor([[0.0, 3.0]]), torch.tensor([0])),
        (labelled_cross_entropy, torch.tensor([[0.0, 3.0]]), torch.tensor([[1.0, 0.0]])),
        (masked_cross_entropy, torch.tensor([[[[0.0]], [[3.0]]]]), torch.tensor([[[0]]])),
        (masked_l1, torch.full((1, 1, 1, 1), 3.0), torch.zeros(1, 1, 1, 1)),
        (masked_cosine, torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 1.0, 0]).view(1, 3, 1, 1)),
    ],
)
def test_the_loss_of_many_halves_is_that_of_few(
    loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor
) -> None:
    few = prediction.half().requires_grad_()
    target = target.half() if target.is_floating_point() else target
    many = loss(few.repeat(70_000, *[1] * (few.dim() - 1)), target.repeat(70_000, *[1] * (target.dim() - 1)))
    assert many.dtype == torch.float16
    torch.testing.assert_close(many, loss(few, target))
    many.backward()
    assert few.grad is not None
    assert few.grad.isfinite().all()


@pytest.mark.parametrize("logits, labels", [((2, 3, 4, 5), (2, 5, 4)), ((2, 3, 4, 5), (2, 1, 4, 5)), ((6, 3), (6,))])
def test_labels_of_another_shape_than_the_logits_are_refused(logits: tuple[int], labels: tuple[int]) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(.*should be \(B, C, H, W\) and \(B, H, W\)"):
        masked_cross_entropy(torch.zeros(logits), torch.zeros(labels, dtype=torch.long))


def test_labels_that_are_not_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels are torch.float32; convert them to torch.int64"):
        masked_cross_entropy(torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5))


@pytest.mark.parametrize("loss, channels", [(masked_l1, 1), (masked_cosine, 3)])
def test_a_target_that_would_broadcast_is_refused(loss: Callable[[Tensor, Tensor], Tensor], channels: int) -> None:
    for target in [(2, 4, 5), (1, channels, 4, 5), (2, channels, 5, 4)]:
        with pytest.raises(ValueError, match=rf"both should be \(B, {channels}, H, W\)"):
            loss(torch.zeros(2, channels, 4, 5), torch.zeros(target))
    with pytest.raises(ValueError, match=rf"both should be \(B, {channels}, H, W\)"):
        loss(torch.zeros(2, 2, 4, 5), torch.zeros(2, 2, 4, 5))
