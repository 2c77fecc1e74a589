"""MMoE: experts that all tasks share, and for each task a gate that mixes them.

Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts",
KDD 2018. For task k and input x the features are ``sum_i g_k(x)_i f_i(x)``, where
``g_k(x) = softmax(W_k x)`` and the ``f_i`` are the experts.

Here it is the path of one task. The network of K tasks is that one with a gate for each task, which
training makes itself: each gate starts from a draw of its own. In a loop of your own it comes from
``recon.branch(make(), ["gate"], tasks, init=make)``, with a function ``make`` of the path.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Self

from torch import Tensor, nn

from recon.models.architectures.parts import HeadsAsOf, SoftmaxGate, Source, copies, mixture, values_at_gate


class GatedExperts(nn.Module, HeadsAsOf):
    """The path of one task through experts and a gate, whatever the gate.

    Args:
        expert: A function that makes an expert; see :class:`MMoE`.
        experts: Number of experts.
        gate: Number of values of a sample and number of experts -> the gate.
        input_layer: A module before experts and gate, or ``None``.
        gate_inputs: Number of values of a sample at the gate, or ``None`` for the input layer's.
    """

    def __init__(
        self,
        expert: Source,
        experts: int,
        gate: Callable[[int, int], nn.Module],
        input_layer: nn.Module | None,
        gate_inputs: int | None,
    ) -> None:
        super().__init__()
        self.input_layer = input_layer
        self.experts = nn.ModuleList(copies(expert, experts, "experts"))
        self.gate = gate(values_at_gate(input_layer, gate_inputs), experts)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to the features of one task, of the shape that experts give."""
        x = x if self.input_layer is None else self.input_layer(x)
        return mixture(self.gate(x), [expert(x) for expert in self.experts])

    def task_specific_layers(self) -> list[str]:
        """The gate; each task has its own."""
        return ["gate"]

    def drawn_anew(self) -> Self:
        """A copy whose gate has new start values."""
        network = deepcopy(self)
        network.gate.reset_parameters()  # type: ignore[operator]
        return network

    def _pattern(self) -> nn.Module:
        return self.experts[0]


class MMoE(GatedExperts):
    """Experts that all tasks share, mixed by a gate for each task.

    Experts and input layer are shared: a conflict map scores their layers, ``experts.0.conv1``, and
    Recon may branch them. Such a layer has one copy per task then, inside an expert that all gates
    still mix. The gate has no bias, as published. Heads are those of the expert's kind.

    >>> import recon, torch
    >>> from recon.models import MLP
    >>> network = MMoE(lambda: MLP(16, [4]), experts=3, input_layer=MLP(10, [16]))
    >>> mmoe = recon.branch(network, network.task_specific_layers(), ["income", "married"])
    >>> {task: tuple(own.shape) for task, own in mmoe(torch.zeros(5, 10)).items()}
    {'income': (5, 4), 'married': (5, 4)}

    Args:
        expert: A function that makes an expert, each with weights of its own; in YAML the
            ``class_path`` and ``init_args`` of a backbone. A module, such as a pretrained backbone,
            is copied with its weights; experts that start alike stay alike for long.
        experts: Number of experts.
        input_layer: A module before experts and gates, such as embeddings; none by default.
        gate_inputs: Number of values of a sample at the gate, which flattens it; by default the
            ``num_features`` of the input layer.

    Raises:
        ValueError: The number of experts is not positive, or that of values at the gate unknown.
    """

    def __init__(
        self, expert: Source, experts: int = 8, input_layer: nn.Module | None = None, gate_inputs: int | None = None
    ) -> None:
        super().__init__(expert, experts, SoftmaxGate, input_layer, gate_inputs)
