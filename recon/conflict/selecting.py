"""The part of a conflict map that selects layers by a rule."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from recon.branching.prices import Prices, layer_prices
from recon.conflict.rules import Rule, select_layers


class Selecting(ABC):
    """The part of a conflict map that selects layers for ``recon.branch``, by score and price.

    Attributes:
        layers: The layer names.
        tasks: The task names; empty when imported.
        parameters: The number of parameters of each layer; empty when imported.
    """

    layers: tuple[str, ...]
    tasks: tuple[str, ...]
    parameters: dict[str, int]

    @abstractmethod
    def scores(self, severity: float) -> dict[str, int]:
        """Return the S-conflict score of each layer."""

    @abstractmethod
    def rates(self, severity: float) -> dict[str, float]:
        """Return the fraction of each layer's observed (step, pair) with cosine < ``severity``."""

    def select(
        self,
        severity: float,
        *,
        top: int | None = None,
        threshold: int | None = None,
        rate: float | None = None,
        parameters: float | None = None,
        flops: float | None = None,
        blocks: int | None = None,
        backbone: nn.Module | None = None,
        inputs: Tensor | tuple[Any, ...] | None = None,
        tasks: Sequence[str] = (),
    ) -> list[str]:
        """Return the layers of highest total score that meet all conditions, highest score first.

        An operation runs once per task as soon as one layer before it is branched. So a budget of
        ``flops`` chooses where the trunk ends together with the layers behind its end, which then
        cost parameters only; ``parameters`` or ``top`` beside it bounds these too. Budgets are met
        by an exact integer program. Of selections with equal score it takes the one with the fewest
        operations, then the fewest parameters, then the earliest layers.

        Args:
            severity: The severity S of the scores.
            top: Number of layers, at most; alone it gives :meth:`recon.ConflictMap.top`.
            threshold: Only layers with this score or more.
            rate: Only layers with this rate or more; needs a measured map.
            parameters: Growth of the parameters in all layers of the map, at most; 0.05 is +5 %.
            flops: Growth of the operations of a forward for all tasks, at most; 0.25 is +25 %.
                Needs ``backbone`` and ``inputs``. Heads are not part of it.
            blocks: Number of whole blocks, such as ``layer4.1``, those of highest mean score; it
                stands alone.
            backbone: The network to branch, for a budget of ``flops``; and for one of
                ``parameters`` if the map is imported or of another width.
            inputs: An example of its inputs, on its device: a tensor, or a tuple of arguments.
            tasks: The tasks; by default those of the map. Only their number counts.

        Raises:
            ValueError: No layer meets the conditions, and the error gives the nearest ones that a
                layer meets; a condition is not possible; or the network, its inputs or the tasks
                are missing.

        Example:
            >>> import torch
            >>> import recon
            >>> cmap = recon.ConflictMap.load("multi-fashion-mnist-resnet18")
            >>> network, image = recon.models.ResNet18(width=4), torch.zeros(1, 1, 36, 36)
            >>> given = {"backbone": network, "inputs": image, "tasks": ["digit", "fashion"]}
            >>> cmap.select(severity=-0.1, top=2, flops=0.5, **given)
            ['layer3.1.bn1', 'layer4.1.bn1']
        """
        rule = Rule(top, threshold, rate, parameters, flops, blocks)
        prices = None
        if rule.needs_prices:
            inputs = None if inputs is None else inputs if isinstance(inputs, tuple) else (inputs,)
            prices = self._prices(rule, backbone, inputs, tuple(tasks) or self.tasks)
        return self.select_by(rule, severity, prices)

    def select_by(self, rule: Rule, severity: float, prices: Prices | None = None) -> list[str]:
        """Return the layers that a rule selects, highest score first.

        Args:
            rule: The rule.
            severity: The severity S of the scores.
            prices: The prices of the layers of the map, for a rule with a budget.

        Raises:
            ValueError: As in :meth:`select`.

        Example:
            >>> import recon
            >>> cmap = recon.ConflictMap.load("nyuv2-mtan")
            >>> cmap.select_by(Rule(threshold=25000), severity=-0.02)
            ['decoder_block_att.1.bn1', 'conv_block_dec.0.bn1']
        """
        scores = self.scores(severity)
        ranked = {layer: scores[layer] for layer in self.layers}
        return select_layers(ranked, rule, prices, self.rates_for(rule, severity))

    def rates_for(self, rule: Rule, severity: float) -> dict[str, float] | None:
        """The rates that a rule asks for; ``None`` if it asks for none.

        Raises:
            ValueError: It does, and the map is imported.
        """
        if rule.rate is None:
            return None
        if not self.parameters:
            raise ValueError(
                f"rate={rule.rate} of an imported map, which has scores without the number of observations; give "
                "threshold, a score, or search with a ConflictAnalyzer"
            )
        return self.rates(severity)

    def _prices(
        self, rule: Rule, backbone: nn.Module | None, inputs: tuple[Any, ...] | None, tasks: tuple[str, ...]
    ) -> Prices:
        if len(tasks) < 2:
            raise ValueError(f"tasks is {list(tasks)}, and a budget needs two or more; give the tasks to branch for")
        if rule.flops is None and backbone is None and self.parameters:
            added = {layer: (len(tasks) - 1) * count for layer, count in self.parameters.items()}
            return Prices(added, sum(self.parameters.values()), {}, 0)
        if backbone is None or (rule.flops is not None and inputs is None):
            missing = "backbone and inputs" if rule.flops is not None else "backbone"
            raise ValueError(f"a budget ({rule}) needs the network: give {missing}")
        return layer_prices(backbone, self.layers, tasks, *(inputs or ()))
