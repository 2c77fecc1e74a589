"""The groups of layers that train in a step, as parts of the Jacobian."""

import torch
from torch import Tensor

from recon.engine.groups import LayerGroups
from recon.gradients.sharded import Gradients
from recon.methods.solvers.gramian import gramian_of


class TrainedGroups:
    """The G' groups with a layer that is not frozen, and the columns of each.

    Args:
        groups: All groups.
        gradients: The gradients of the K' tasks of a step.

    Attributes:
        indices: Indices of these groups among all.
        are_all: Whether every group trains.

    Example:
        >>> from torch import nn
        >>> from recon.gradients import TaskGradients
        >>> layers = {"conv": [nn.Parameter(torch.zeros(2))], "fc": [nn.Parameter(torch.zeros(1))]}
        >>> gradients = TaskGradients(layers, tasks=2)
        >>> gradients.jacobian[:] = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, 3.0]])
        >>> groups = LayerGroups({"frozen": ["bn"], "last": ["fc"], "others": ["conv"]})
        >>> trained = TrainedGroups(groups, gradients)
        >>> trained.indices, trained.combine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        ([1, 2], tensor([1., 3., 4.]))
    """

    def __init__(self, groups: LayerGroups, gradients: Gradients) -> None:
        self._gradients = gradients
        of_layers = groups.of(gradients.layers)
        self.indices = sorted(set(of_layers))
        self._number_of_all = len(groups.names)
        self.are_all = len(self.indices) == self._number_of_all
        self._of_layers = [self.indices.index(group) for group in of_layers]
        self._stretches = self._held_columns()

    def _held_columns(self) -> list[tuple[slice, int]]:
        """The columns held here, counted from the first, as long stretches of one group each."""
        held = self._gradients.columns
        stretches: list[tuple[slice, int]] = []
        for group, columns in zip(self._of_layers, self._gradients.slices.values(), strict=True):
            first, last = (min(max(end, held.start), held.stop) - held.start for end in (columns.start, columns.stop))
            if stretches and stretches[-1][1] == group:
                stretches[-1] = (slice(stretches[-1][0].start, last), group)
            elif first < last:
                stretches.append((slice(first, last), group))
        return stretches

    def sum(self, layer_gramians: Tensor) -> Tensor:
        """Gramians (G', K', K') of the groups from those of the layers, (L, K', K')."""
        sums = layer_gramians.new_zeros(len(self.indices), *layer_gramians.shape[1:])
        return sums.index_add_(0, torch.tensor(self._of_layers), layer_gramians)

    def recompute(self, groups: list[int]) -> Tensor:
        """Gramians of some of these groups from the gradients, (N, K', K') in float64."""
        jacobian = self._gradients.jacobian
        parts = [[jacobian[:, columns] for columns, own in self._stretches if own == group] for group in groups]
        none = jacobian[:, :0]
        gramians = [torch.stack([gramian_of(part) for part in own or [none]]).sum(0) for own in parts]
        return self._gradients.sum_over_columns(torch.stack(gramians)).cpu()

    def combine(self, weights: Tensor) -> Tensor:
        """The update of the columns held here, (S,), by weights (G', K')."""
        jacobian = self._gradients.jacobian
        update = jacobian.new_empty(jacobian.shape[1])
        for columns, group in self._stretches:
            torch.mv(jacobian[:, columns].T, weights[group], out=update[columns])
        return update

    def among_all(self, weights: Tensor) -> Tensor:
        """Weights (G', K') among those of all groups, which are zero: (G, K')."""
        if self.are_all:
            return weights
        whole = weights.new_zeros(self._number_of_all, weights.shape[1])
        whole[self.indices] = weights
        return whole
