"""The controls of + Recon: which layers they branch instead, or how wide their network is.

======================= ==========================================================================
``random``              as many layers as + Recon, drawn at random
``random_parameters``   random layers whose copies add about as many parameters
``random_flops``        random layers that add about as many FLOPs
``first``, ``last``     as many layers, from the input or the output on
``least``               as many layers, those of least conflict: the map upside down
``norms``               all norm layers: task-specific BatchNorm
``norms_random``        as many layers as there are norms, drawn at random from all layers
``wide_parameters``     no branches, but a wider network with about as many parameters
``wide_flops``          no branches, but a wider network with about as many FLOPs
======================= ==========================================================================

``norms_random`` asks whether the norms do it, or that number of layers. So each set of that many
layers is equally likely, except the norms themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from recon.branching import Groups, Prices, layer_prices
from recon.branching.norms import norm_layers
from recon.conflict import random_layers
from recon.conflict.matched_controls import random_layers_of_price, random_layers_of_size
from recon.data.contract import tasks_of
from recon.experiments.cost import count_parameters, flops_of_sample, network_on_meta, sample_of
from recon.experiments.fit import Fit
from recon.experiments.width import Width
from recon.gradients.layers import network_name, number_of_layers
from recon.training import BranchOptions, MultiTaskModule
from recon.training.branch_options import branchable_layers, parted_layers, task_specific_layers, tree_groups


@dataclass(frozen=True)
class EqualPrice:
    """The controls at the price of a +Recon run.

    Attributes:
        fit: The fit of the network before any branching.
        recon: The layers that the +Recon run branches, by name.
        tree: File of the task tree of the network, if it has one.
    """

    fit: Fit
    recon: BranchOptions
    tree: str | None = None

    def random_parameters(self, seed: int) -> list[str]:
        """Draw layers whose copies add about as many parameters."""
        prices, chosen = self._prices(), self.recon.layers or ()
        if self.recon.groups is None:
            added = prices.parameters_of(chosen)
        else:
            added = _parameters(self._branched()) - _parameters(self._plain(self.fit))
        return random_layers_of_size(prices.parameters, added, seed, other_than=chosen)

    def random_flops(self, seed: int) -> list[str]:
        """Draw layers that add about as many FLOPs.

        Raises:
            ValueError: The backbone cannot be traced.
        """
        data, chosen = self.fit.data(), self.recon.layers or ()
        prices = self._prices(sample_of(data, self._backbone()))
        if self.recon.groups is None:
            added = prices.flops_of(chosen)
        else:
            added = flops_of_sample(self._branched(), data) - flops_of_sample(self._plain(self.fit), data)
        return random_layers_of_price(list(prices.parameters), prices.flops_of, added, seed, other_than=chosen)

    def wide_parameters(self, argument: str) -> Fit:
        """The fit of a wider network with about as many parameters.

        Args:
            argument: The argument of the backbone that sets its width.
        """
        wanted = _parameters(self._branched())
        return Width(self.fit, argument).nearest(lambda fit: _parameters(self._plain(fit)), wanted)

    def wide_flops(self, argument: str) -> Fit:
        """The fit of a wider network with about as many FLOPs."""
        data = self.fit.data()
        wanted = flops_of_sample(self._branched(), data)
        return Width(self.fit, argument).nearest(lambda fit: flops_of_sample(self._plain(fit), data), wanted)

    def _prices(self, *inputs: Tensor) -> Prices:
        """The prices of the layers that tasks share; those in operations need a sample."""
        backbone, tasks = self._backbone(), [task.name for task in tasks_of(self.fit.data())]
        own: dict[str, Groups] = {layer: [[task] for task in tasks] for layer in task_specific_layers(backbone)}
        layers = branchable_layers(backbone, parted_layers(self.tree))
        return layer_prices(backbone, layers, tasks, *inputs, groups={**own, **tree_groups(self.tree, tasks)})

    def _backbone(self) -> nn.Module:
        return self.fit.without_files().backbone()

    def _branched(self) -> MultiTaskModule:
        """The network of the +Recon run."""
        return network_on_meta(self._backbone(), self.fit.data(), self.recon)

    def _plain(self, fit: Fit) -> MultiTaskModule:
        """A network without branches beside its own and those of its tree."""
        branch = None if self.tree is None else BranchOptions(tree=self.tree)
        return network_on_meta(fit.without_files().backbone(), fit.data(), branch)


def _parameters(network: MultiTaskModule) -> int:
    return count_parameters(network.backbone, network.heads)


def norms_of(backbone: nn.Module, layers: Sequence[str]) -> list[str]:
    """The norms among the layers that tasks share.

    Raises:
        ValueError: There are none, or no other layers.
    """
    norms = [layer for layer in norm_layers(backbone) if layer in set(layers)]
    if not norms:
        raise ValueError(
            f"{network_name(backbone)} shares no norm layer, so there is no variant norms or norms_random of it; leave "
            "these out"
        )
    if len(norms) == len(layers):
        raise ValueError(
            f"all {number_of_layers(norms)} that {network_name(backbone)} shares are norms, so there is no "
            "control by norms; leave out the variants norms and norms_random"
        )
    return norms


def random_as_many_as_norms(backbone: nn.Module, layers: Sequence[str], seed: int) -> list[str]:
    """Draw as many layers as there are norms: any layers but just the norms."""
    norms = norms_of(backbone, layers)
    return random_layers(layers, len(norms), seed, other_than=norms)
