"""Layer Gramians by tiles against inner products of separate gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.gradients.layers import shared_layers
from recon.gradients.tiles import tiled_gramians

Forward = Callable[[nn.Module, Tensor], Tensor]


class Residual(nn.Module):
    """Blocks with residual paths, small at the end and large at the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(5))
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).relu()
        return self.fc(self.norm(x).mean((2, 3)))


class Tied(nn.Module):
    """One weight used at both ends, and two paths to another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(36, 36), nn.Linear(36, 36)
        self.last = nn.Linear(36, 36)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).tanh()
        return self.last(self.middle(x).tanh() + self.middle(x.cos()))[:, :8]


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(6, 4, dtype=torch.complex128))
        self.fc = nn.Linear(36, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.fft.irfft2(torch.fft.rfft2(x) * self.spectrum).flatten(1))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(20, 5, sparse=True), nn.Linear(180, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.words((x.abs() * 9).long().clamp(max=19)).flatten(1))


class Reversed(Residual):
    """Hooks on the features and between the blocks turn gradients, as adversarial training does."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).relu()
            x.register_hook(lambda gradient: -0.5 * gradient)
        features: Tensor = self.fc(self.norm(x).mean((2, 3)))
        features.register_hook(lambda gradient: -gradient)
        return features


class Checkpointed(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x, use_reentrant=False)  # type: ignore[no-any-return]


def losses_of(network: nn.Module, tasks: int, reach: Callable[[int], bool] = lambda task: True) -> list[Tensor]:
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features = network(x)
    generator = torch.Generator().manual_seed(2)
    mixes = torch.randn(tasks, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    other = torch.ones(1, dtype=torch.float64, requires_grad=True)
    return [(features @ mix).square().mean() if reach(i) else other.sum() for i, mix in enumerate(mixes)]


def separate(network: nn.Module, losses: list[Tensor]) -> Tensor:
    """Layer Gramians from one autograd call for each loss."""
    gramians = []
    for own in shared_layers(network).values():
        rows = []
        for loss in losses:
            gradients = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
            filled = [torch.zeros_like(p) if g is None else g.to_dense() for p, g in zip(own, gradients, strict=True)]
            flat = [torch.view_as_real(g).flatten() if g.is_complex() else g.flatten() for g in filled]
            rows.append(torch.cat(flat))
        gramians.append(torch.stack(rows) @ torch.stack(rows).T)
    return torch.stack(gramians)


@pytest.mark.parametrize("kind", [Residual, Tied, Complex, Words, Reversed, Checkpointed])
@pytest.mark.parametrize("tasks", [2, 3, 7])
def test_gramians_are_the_inner_products_of_separate_gradients(kind: type[nn.Module], tasks: int) -> None:
    torch.manual_seed(0)
    network = kind().double()
    losses = losses_of(network, tasks)
    gramians = tiled_gramians(losses, shared_layers(network))
    assert torch.equal(gramians, gramians.mT)
    torch.testing.assert_close(gramians, separate(network, losses), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("absent", [[0], [3], [0, 1, 2], [0, 1, 2, 3]])
def test_a_task_that_does_not_reach_the_network_has_zero_products(absent: list[int]) -> None:
    network = Residual().double()
    losses = losses_of(network, 4, reach=lambda task: task not in absent)
    gramians = tiled_gramians(losses, shared_layers(network))
    assert not gramians[:, absent].any()
    torch.testing.assert_close(gramians, separate(network, losses), rtol=1e-10, atol=1e-14)


def test_frozen_layers_have_no_gramian() -> None:
    network = Residual().double()
    network.blocks[2].requires_grad_(False)
    network.fc.bias.requires_grad_(False)
    losses = losses_of(network, 3)
    gramians = tiled_gramians(losses, shared_layers(network))
    assert len(gramians) == 7
    torch.testing.assert_close(gramians, separate(network, losses), rtol=1e-10, atol=1e-14)


def test_each_leaf_outside_the_layers_is_handed_over_once_for_each_task() -> None:
    network = Residual().double()
    losses = losses_of(network, 5)
    layers = shared_layers(network)
    inner = {name: layers.pop(name) for name in ("blocks.1", "fc")}
    expected = [torch.autograd.grad(loss, inner["blocks.1"][0], retain_graph=True)[0] for loss in losses]
    found: dict[tuple[int, Tensor], Tensor] = {}

    def take(task: int, leaf: Tensor, gradient: Tensor) -> None:
        assert (task, leaf) not in found
        found[task, leaf] = gradient

    tiled_gramians(losses, layers, take)
    for task, gradient in enumerate(expected):
        torch.testing.assert_close(found[task, inner["blocks.1"][0]], gradient)


def test_the_graph_stays() -> None:
    network = Residual().double()
    losses = losses_of(network, 3)
    tiled_gramians(losses, shared_layers(network))
    torch.stack(losses).sum().backward()
    assert network.stem.weight.grad is not None


def test_backwards_start_again_where_the_tasks_gradients_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    network, counted = nn.Sequential(*[nn.Linear(30, 30) for _ in range(8)]).double(), []
    features = network(torch.randn(2, 30, dtype=torch.float64))
    losses = [(features[:, i] ** 2).mean() for i in range(6)]
    network[0].weight.register_hook(lambda gradient: None)
    network[-1].weight.register_hook(lambda gradient: None)
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: counted.append(a[0]) or grad(*a, **k))
    tiled_gramians(losses, shared_layers(network))
    assert sum(isinstance(outputs[0], Tensor) for outputs in counted) == len(losses)  # one from each loss


@pytest.mark.parametrize("distance", [1e-3, 1e-4])
def test_products_of_float32_gradients_are_summed_in_float64(distance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 200_000, generator=generator)
    rows[1] = rows[0] + distance * rows[1]
    point = nn.Module()
    point.weight = nn.Parameter(torch.zeros(200_000))
    gramian = tiled_gramians([row @ point.weight for row in rows], shared_layers(point))[0]
    exact = rows.double() @ rows.double().T
    torch.testing.assert_close(gramian, exact, rtol=1e-13, atol=0)
