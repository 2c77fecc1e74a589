import pytest
import torch
from torch import nn

import recon
from recon.methods import NTKMTL


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.75])
def test_weights_are_powers_of_the_kernels_largest_eigenvalues(exponent: float) -> None:
    jacobian = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eigenvalues = torch.stack([torch.linalg.eigvalsh(row[None] @ row[None].T)[-1] for row in jacobian])
    weights = (eigenvalues.sum() / eigenvalues) ** exponent
    torch.testing.assert_close(NTKMTL(exponent).combine(jacobian), weights @ jacobian)


def test_all_tasks_contribute_vectors_of_one_length() -> None:
    jacobian = torch.diag(torch.tensor([2.0, 5.0, 0.1]))
    torch.testing.assert_close(NTKMTL().combine(jacobian), torch.full((3,), float(jacobian.norm())))


def test_a_zero_gradient_takes_no_part() -> None:
    assert NTKMTL().weights(torch.diag(torch.tensor([4.0, 0.0]))).tolist() == [1.0, 0.0]


def test_its_form_at_the_representation_takes_the_gradients_of_the_features() -> None:
    torch.manual_seed(0)
    backbone, heads, x = nn.Linear(3, 4), [nn.Linear(4, 1), nn.Linear(4, 1)], torch.randn(5, 3)
    features = backbone(x)
    losses = {name: head(features).square().mean() for name, head in zip("ab", heads, strict=True)}
    gradients = [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses.values()]
    squares = torch.stack([gradient.square().sum() for gradient in gradients])
    weights = (squares.sum() / squares).sqrt()
    expected = torch.autograd.grad(sum(w * loss for w, loss in zip(weights, losses.values(), strict=True)),
                                   backbone.weight, retain_graph=True)[0]  # fmt: skip
    recon.Engine(backbone, ["a", "b"], "ntkmtl", at="representation").backward(losses, representation=features)
    torch.testing.assert_close(backbone.weight.grad, expected)


def test_an_exponent_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ntkmtl: exponent must be a number in \[0, 1\], got -1"):
        NTKMTL(-1)
