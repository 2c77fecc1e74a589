"""Writes in place must not leak between tasks, nor be lost: every network here is held against
separate copies.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from separate_copies import differences
from torch import Tensor, nn


class Layers(nn.Module):
    """Three layers that the networks below put together; ``middle`` is the one that writes into
    what ``early`` made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early, self.middle, self.late = (nn.Linear(4, 4) for _ in range(3))


class AddsToAliasedValue(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        alias = y
        y += self.middle(x)
        return self.late(alias) + y


class AddsToView(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        view = y.view(-1, 2, 2).transpose(1, 2)
        view += self.middle(x).view(-1, 2, 2)
        return self.late(y) + view.flatten(1)


class AddsToBaseOfView(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        view = y.view(-1, 2, 2)
        y.add_(self.middle(x))
        return self.late(view.flatten(1))


class SetsItems(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        y[:, :2] = self.middle(x)[:, :2]
        return self.late(y)


class SetsItemsOfNewTensor(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, :2] = self.early(x)[:, :2]
        y[:, 2:] = self.middle(x)[:, 2:]
        return self.late(y)


class WritesToOut(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x).detach()
        torch.add(x, self.middle(x).detach(), out=y)
        return self.late(y)


class ActivatesInPlace(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        view = y[:, :2]
        y.mul_(self.middle(x).detach())
        F.relu(view, inplace=True)
        return self.late(y)


class ActivatesAfterRead(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = self.middle(torch.tanh(x)) + y.detach()
        F.relu(y, inplace=True)
        return self.late(y) + z


class InPlaceModuleOnView(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = self.middle(torch.tanh(x)) + y.detach()  # a per-task value has read what is then activated for all tasks
        return self.late(self.activation(y)) + z


class WritesThroughIdleDropout(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = F.dropout(self.dropout(y), 0.5, training=False)
        z += self.middle(x)
        return self.late(y) + z


class WritesThroughPermutation(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = torch.einsum("ij->ji", y)
        z += self.middle(x).T
        return self.late(y)


@torch.fx.wrap
def returns_what_it_was_given(x: Tensor) -> Tensor:
    return x


class WritesThroughFunction(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = returns_what_it_was_given(y)
        z += self.middle(x)
        return self.late(y)


class WritesIntoInput(Layers):
    def forward(self, x: Tensor) -> Tensor:
        z = x.view(-1, 2, 2)
        x += self.middle(x).detach()
        return self.late(x) + self.early(z.flatten(1))


class WritesIntoOneOfSeveralResults(Layers):
    def forward(self, x: Tensor) -> Tensor:
        values, indices = self.early(x).sort(1)
        values += self.middle(x)
        return self.late(values) * indices


class ViewDependsOnBranch(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        view = y.view(-1, self.middle(x).shape[1] // 2, 2)
        view.mul_(2)
        return self.late(y) + view.flatten(1)


class WritesTwice(Layers):
    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        y += x
        middle = self.middle(y.clone())
        y += middle
        y *= 2
        return self.late(y)


class ScaleInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inplace = True
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.weight)


class BranchedLayerWritesIntoItsInput(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.middle = ScaleInPlace()  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        y = self.early(x)
        z = y + 0
        return self.late(z + self.middle(z))


class CountsInPlace(Layers):
    """Numbers have no memory: counting on after a per-task value has read one leaves the norm in
    the trunk.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        z = self.middle(x) * rows
        doubled = rows
        doubled += rows
        return self.late(z) * rows + self.norm(self.early(x) * doubled)


NETWORKS: list[Any] = [
    AddsToAliasedValue,
    AddsToView,
    AddsToBaseOfView,
    SetsItems,
    SetsItemsOfNewTensor,
    WritesToOut,
    ActivatesInPlace,
    ActivatesAfterRead,
    InPlaceModuleOnView,
    WritesThroughIdleDropout,
    WritesThroughPermutation,
    WritesThroughFunction,
    WritesIntoInput,
    WritesIntoOneOfSeveralResults,
    ViewDependsOnBranch,
    WritesTwice,
    BranchedLayerWritesIntoItsInput,
    CountsInPlace,
]


@pytest.mark.filterwarnings("error:.*cannot be traced")
@pytest.mark.parametrize("layers", [["middle"], ["early"], ["late"], ["early", "middle"]], ids="-".join)
@pytest.mark.parametrize("network", NETWORKS)
def test_write_in_place_stays_with_its_task(network: type[nn.Module], layers: list[str]) -> None:
    torch.manual_seed(0)
    found = differences(network().double(), layers, [torch.randn(3, 4).double()], True, ("a", "b", "c"))
    assert max(found.values()) < 1e-12, found
