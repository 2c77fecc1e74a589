import pytest
import torch
from torch import Tensor, nn

import recon
from recon.methods import NTKMTL, create_method


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


def losses_of_parts(heads: list[nn.Module], features: Tensor, parts: int) -> Tensor:
    """The published losses (n, K): the mean of each chunk of the samples."""
    by_sample = torch.cat([head(features).square() for head in heads], dim=1)
    return torch.stack([chunk.mean(0) for chunk in by_sample.chunk(parts)])


@pytest.mark.parametrize("samples", [8, 10, 3])
def test_parts_of_the_batch_give_the_kernels_of_the_published_representation_form(samples: int) -> None:
    torch.manual_seed(0)
    backbone = nn.Linear(3, 4)
    heads: list[nn.Module] = [nn.Linear(4, 1), nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))]
    x = torch.randn(samples, 3)
    features = backbone(x)
    eigenvalues = []
    for column in losses_of_parts(heads, features, 4).T:
        rows = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in column])
        eigenvalues.append(torch.linalg.eigvalsh(rows @ rows.T)[-1])
    kernels = torch.stack(eigenvalues)
    weights = (kernels.sum() / kernels).sqrt()

    losses = {name: head(features).square().mean() for name, head in zip("ab", heads, strict=True)}
    engine = recon.Engine(backbone, ["a", "b"], NTKMTL(parts=4), at="representation")
    info = engine.backward(losses, representation=features)
    assert info.weights is not None
    torch.testing.assert_close(info.weights, weights)
    plain = (weights * torch.stack([head(backbone(x)).square().mean() for head in heads])).sum()
    torch.testing.assert_close(backbone.weight.grad, torch.autograd.grad(plain, backbone.weight)[0])


def test_parts_among_some_of_the_tasks_weigh_these_alone() -> None:
    torch.manual_seed(0)
    backbone, heads, x = nn.Linear(3, 4), nn.ModuleDict({task: nn.Linear(4, 1) for task in "ac"}), torch.randn(8, 3)
    weights = []
    for tasks in (["a", "b", "c"], ["a", "c"]):
        features = backbone(x)
        losses = {task: head(features).square().mean() for task, head in heads.items()}
        engine = recon.Engine(backbone, tasks, NTKMTL(parts=4), at="representation")
        weights.append(engine.backward(losses, representation=features).weights)
    assert weights[0] is not None
    assert weights[0][1] == 0
    torch.testing.assert_close(weights[0][[0, 2]], weights[1])


def test_parts_are_refused_where_samples_are_not_told_apart() -> None:
    backbone = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"in 4 parts of the batch, and gradients in parameters are sums over all"):
        recon.Engine(backbone, ["a", "b"], NTKMTL(parts=4))
    assert NTKMTL(parts=4).needs_one_process
    assert not NTKMTL().needs_one_process
    with pytest.raises(ValueError, match="ntkmtl: parts must be a whole number >= 1, got 0"):
        NTKMTL(parts=0)


@pytest.mark.parametrize("around", ["psmgd", "cr_mogm"])
def test_parts_inside_of_another_method_are_refused_and_not_ignored(around: str) -> None:
    backbone = nn.Linear(3, 4)
    method = create_method(around, method="ntkmtl", method_options={"parts": 4})
    engine = recon.Engine(backbone, ["a", "b"], method, at="representation")
    features = backbone(torch.ones(8, 3))
    losses = {"a": features[:, 0].mean(), "b": features[:, 1].mean()}
    with pytest.raises(ValueError, match=r"ntkmtl: parts=4 needs the gradients of parts of the batch, .* take parts=1"):
        engine.backward(losses, representation=features)


def test_an_exponent_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ntkmtl: exponent must be a number in \[0, 1\], got -1"):
        NTKMTL(-1)
