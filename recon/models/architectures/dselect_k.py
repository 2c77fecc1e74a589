"""DSelect-k: MMoE whose gates learn to select k experts at most.

Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to
Multi-Task Learning", NeurIPS 2021, with gates that depend on the sample, as in the authors' code.

A gate has k selectors. Each gives a code of ``ceil(log2 E)`` numbers in [0, 1], the smooth step S
of linear maps of the sample; the weight of expert i is the product of S where bit j of i is 1 and
of ``1 - S`` where it is 0. A softmax mixes the weights of the selectors.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.models.architectures.mmoe import GatedExperts
from recon.models.architectures.parts import Source, check_whole, flat

_EPSILON = 1e-6


class DSelectK(GatedExperts):
    """Experts that all tasks share, and for each task a gate that selects k of them at most.

    Experts and input layer are shared, gates are not, as in :class:`recon.models.MMoE`. In training
    each gate adds its regulariser to the loss of its task: the entropy of the selectors, as a mean
    over the samples, so that its strength does not depend on the size of a batch and micro-batches
    add up to their batch. If the number of experts is no power of two, a second term of weight 1
    keeps selectors from codes without an expert. The authors' code sums both terms over the batch
    beside a mean loss, where a weight acts as that weight times the batch size does here.

    >>> import recon, torch
    >>> from recon.models import MLP
    >>> network = DSelectK(lambda: MLP(10, [4]), experts=4, k=2, gate_inputs=10)
    >>> network = recon.branch(network, network.task_specific_layers(), ["income", "married"])
    >>> {task: tuple(own.shape) for task, own in network(torch.zeros(5, 10)).items()}
    {'income': (5, 4), 'married': (5, 4)}

    Args:
        expert: A function that makes an expert; see :class:`recon.models.MMoE`.
        experts: Number of experts.
        k: Number of selectors, the most experts that a gate uses at the end.
        gamma: Width of the smooth step, outside of which it is 0 or 1.
        entropy: Weight of the mean entropy; the authors' weight, of a sum, times the batch size.
        input_layer: A module before experts and gates; none by default.
        gate_inputs: Number of values of a sample at the gate; by default the ``num_features`` of
            the input layer.

    Raises:
        ValueError: A number does not fit: k is below 1 or above the number of experts, the width is
            not positive, or the weight negative.
    """

    def __init__(
        self,
        expert: Source,
        experts: int = 8,
        k: int = 2,
        gamma: float = 1.0,
        entropy: float = 1e-6,
        input_layer: nn.Module | None = None,
        gate_inputs: int | None = None,
    ) -> None:
        gate = partial(SelectingGate, k=k, gamma=gamma, entropy=entropy)
        super().__init__(expert, experts, gate, input_layer, gate_inputs)


class SelectingGate(nn.Module):
    """Weights of experts, of which k at most are not zero at the end of training.

    The parameters are those of two linear maps, to the codes and to the weights of the selectors.
    """

    codes: Tensor

    def __init__(self, inputs: int, experts: int, k: int, gamma: float, entropy: float) -> None:
        check_whole("k", k)
        if not 1 <= k <= experts:
            raise ValueError(f"k is {k}; it must be from 1 to {experts}, the number of experts")
        if not 0 < gamma < math.inf or not 0 <= entropy < math.inf:
            raise ValueError(f"gamma is {gamma} and entropy is {entropy}; give a positive width, a weight from 0 on")
        super().__init__()
        self.k, self.gamma, self.entropy = k, gamma, entropy
        bits = math.ceil(math.log2(experts))
        self.code_weight = nn.Parameter(torch.empty(k * bits, inputs))
        self.code_bias = nn.Parameter(torch.empty(k * bits))
        self.mix_weight = nn.Parameter(torch.empty(k, inputs))
        self.mix_bias = nn.Parameter(torch.empty(k))
        highest_first = [[number >> bit & 1 for bit in reversed(range(bits))] for number in range(experts)]
        codes = torch.tensor(highest_first, dtype=torch.bool).view(experts, bits)
        self.register_buffer("codes", codes, persistent=False)
        self._selected: Tensor | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from uniform numbers, as the authors' code does."""
        for parameter in (self.code_weight, self.code_bias):
            nn.init.uniform_(parameter, -self.gamma / 100, self.gamma / 100)
        for parameter in (self.mix_weight, self.mix_bias):
            nn.init.uniform_(parameter, -0.05, 0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``(B, ...)`` to weights ``(B, experts)``, of sum 1 at the end of training."""
        x = flat(x, self.mix_weight.shape[1])
        steps = smooth_step(F.linear(x, self.code_weight, self.code_bias), self.gamma)
        steps = steps.view(len(x), self.k, 1, self.codes.shape[1])
        selected = torch.where(self.codes, steps, 1 - steps).prod(dim=-1)
        self._selected = selected if self.training and torch.is_grad_enabled() else None
        mix = torch.softmax(F.linear(x, self.mix_weight, self.mix_bias), dim=-1)
        return torch.einsum("bk,bke->be", mix, selected)

    def regulariser(self) -> Tensor | None:
        """The term of the last forward in training, once; ``None`` if there was none."""
        selected, self._selected = self._selected, None
        if selected is None:
            return None
        term = -self.entropy * (selected * torch.log(selected + _EPSILON)).sum(dim=(1, 2)).mean()
        if len(self.codes) < 2 ** self.codes.shape[1]:
            # A selector may come to a code without an expert, whose sum is 0.
            term = term + (1 / selected.sum(dim=-1).clamp(min=_EPSILON)).sum(dim=1).mean()
        return term

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_selected": None}  # it has a graph, which no copy can have


def smooth_step(t: Tensor, gamma: float) -> Tensor:
    """A cubic step from 0 at ``-gamma / 2`` to 1 at ``gamma / 2``.

    >>> smooth_step(torch.tensor([-2.0, 0.0, 0.25, 2.0]), gamma=1.0)
    tensor([0.0000, 0.5000, 0.8438, 1.0000])
    """
    inside = t.clamp(-gamma / 2, gamma / 2) / gamma
    return 0.5 + 1.5 * inside - 2 * inside**3
