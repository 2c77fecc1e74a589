"""CGC, customized gate control: shared experts, and experts of each task's own.

Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for
Personalized Recommendations", RecSys 2020. A task's gate ``softmax(W_k x)`` mixes the task's own
experts and the shared ones, in this order. PLE puts several such levels on each other.
"""

from copy import deepcopy
from typing import Self

from torch import Tensor, nn

from recon.gradients.layers import all_layers
from recon.models.architectures.parts import (
    HeadsAsOf,
    KeptSource,
    SoftmaxGate,
    Source,
    copies,
    mixture,
    values_at_gate,
)


class CGC(nn.Module, HeadsAsOf):
    """Shared experts and experts of each task's own, mixed by a gate for each task.

    Shared experts, ``experts``, and input layer are shared: a conflict map scores their layers, and
    Recon may branch them. The task's own experts, ``own``, and the gate are one task's: this module
    is its path. Training gives every task such parts, each from a draw of its own. In a loop of
    your own pass a function that makes the path as ``init`` of :func:`recon.branch`.

    >>> import recon, torch
    >>> from recon.models import MLP
    >>> network = CGC(lambda: MLP(10, [4]), experts=2, own=1, gate_inputs=10)
    >>> cgc = recon.branch(network, network.task_specific_layers(), ["income", "married"])
    >>> cgc.layers, list(cgc.shared_layers())
    (('own.0.0', 'gate'), ['experts.0.0', 'experts.1.0'])

    Args:
        expert: A function that makes an expert; see :class:`recon.models.MMoE`.
        experts: Number of shared experts.
        own: Number of experts of each task.
        input_layer: A module before experts and gates; none by default.
        gate_inputs: Number of values of a sample at the gate; by default the ``num_features`` of
            the input layer.

    Raises:
        ValueError: A number of experts is not positive, or that of values at the gate unknown.
    """

    def __init__(
        self,
        expert: Source,
        experts: int = 1,
        own: int = 1,
        input_layer: nn.Module | None = None,
        gate_inputs: int | None = None,
    ) -> None:
        super().__init__()
        self.input_layer = input_layer
        self._source = KeptSource(expert)
        self.own = nn.ModuleList(copies(expert, own, "own"))
        self.experts = nn.ModuleList(copies(expert, experts, "experts"))
        self.gate = SoftmaxGate(values_at_gate(input_layer, gate_inputs), own + experts)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to the features of one task, of the shape that experts give."""
        x = x if self.input_layer is None else self.input_layer(x)
        return mixture(self.gate(x), [expert(x) for expert in (*self.own, *self.experts)])

    def task_specific_layers(self) -> list[str]:
        """The layers of the task's own experts, and the gate."""
        return [*(name for name in all_layers(self) if name.startswith("own.")), "gate"]

    def drawn_anew(self) -> Self:
        """A copy whose own experts and gate have new start values.

        Experts of which a file was read stay as they are in it.
        """
        network = deepcopy(self)
        if self._source.make is not None:
            network.own = nn.ModuleList(copies(self._source.make, len(self.own), "own"))
        network.gate.reset_parameters()
        return network

    def _pattern(self) -> nn.Module:
        return self.experts[0]
