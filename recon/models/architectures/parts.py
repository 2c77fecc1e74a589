"""Parts that architectures share: copies of a backbone, heads like a backbone's, mixtures."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

Source = Callable[[], nn.Module]
"""A function that makes a backbone; or a backbone, whose copies keep its weights."""


class HeadsAsOf:
    """Base of networks whose features, and so heads, are those of a module in it."""

    def _pattern(self) -> nn.Module:
        """The module with features of the same kind."""
        raise NotImplementedError

    @property
    def num_features(self) -> Any:
        """Length of the feature vector of a sample, or channels of a map of features."""
        return self._pattern().num_features

    @property
    def task_head(self) -> Any:
        """The function that makes a head; there is none if the pattern has none."""
        return self._pattern().task_head


class PlanOfTasks(nn.Module):
    """Base of plans of networks that depend on the tasks.

    ``for_tasks`` makes a network of tasks. The plan itself has no forward, and a call says so.
    """

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        raise TypeError(
            f"{type(self).__name__} is the plan of a network that depends on the tasks; make the network by its "
            "for_tasks(['a', 'b'])"
        )


class KeptSource:
    """A source beside what it has made: copies of a network share it, and files leave it out.

    Functions such as lambdas cannot be pickled.

    Attributes:
        make: The source; ``None`` in a network that was unpickled.
    """

    def __init__(self, make: Source | None) -> None:
        self.make = make

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeptSource":
        return self

    def __reduce__(self) -> tuple[type["KeptSource"], tuple[None]]:
        return KeptSource, (None,)


def copies(source: Source, count: int, name: str) -> list[nn.Module]:
    """Several backbones of one kind.

    >>> first, second = copies(lambda: nn.Linear(2, 1), 2, "experts")
    >>> torch.equal(first.weight, second.weight)
    False

    Args:
        source: A function that makes a backbone with weights of its own; or a backbone, such as a
            pretrained one, of which every copy has the weights.
        count: Number of backbones.
        name: Name of that number in errors.

    Raises:
        ValueError: The number is not a positive whole one.
    """
    check_number_of(name, count)
    return [deepcopy(source) if isinstance(source, nn.Module) else source() for _ in range(count)]


def check_number_of(name: str, count: int) -> None:
    """Refuse a number of modules that is not a positive whole one.

    Raises:
        ValueError: It is not; the error names it.
    """
    check_whole(name, count)
    if count < 1:
        raise ValueError(f"{name} is {count}; it must be at least 1")


def check_whole(name: str, number: int) -> None:
    """Refuse a number that is not whole, such as 2.5.

    Raises:
        ValueError: It is not; the error names it.
    """
    if type(number) is not int:
        raise ValueError(f"{name} is {number!r}; it must be a whole number, at least 1")


def mixture(weights: Tensor, outputs: Sequence[Tensor]) -> Tensor:
    """The sum of the experts' outputs, weighted sample by sample.

    Args:
        weights: Of each sample and expert, ``(B, E)``.
        outputs: Of each of the E experts, all of one shape ``(B, ...)``.

    Returns:
        Of shape ``(B, ...)``.
    """
    return torch.einsum("be,be...->b...", weights, torch.stack([*outputs], dim=1))


def apart(stacked: Tensor) -> tuple[Tensor, ...]:
    """The entries of a stack ``(K, B, ...)``, each of which a backbone may write into.

    Autograd lets no one write into what ``unbind`` gives, as ``ReLU(inplace=True)`` would.
    """
    return tuple(part.squeeze(0) for part in stacked.unsafe_split(1))


class SoftmaxGate(nn.Linear):
    """Weights of experts, positive and of sum 1: the softmax of a linear map without bias.

    Args:
        inputs: Number of values of a sample.
        experts: Number of experts.
    """

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__(inputs, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``(B, ...)`` of ``inputs`` values each to weights ``(B, experts)``."""
        return torch.softmax(super().forward(flat(x, self.in_features)), dim=-1)


def flat(x: Tensor, inputs: int) -> Tensor:
    """The samples as vectors.

    Raises:
        ValueError: They have another number of values.
    """
    values = x.flatten(1)
    if values.shape[1] != inputs:
        raise ValueError(
            f"the gate is made for samples of {inputs} values, and got {tuple(x.shape[1:])}, which are "
            f"{values.shape[1]}; set gate_inputs to {values.shape[1]}"
        )
    return values


def values_at_gate(input_layer: nn.Module | None, gate_inputs: int | None) -> int:
    """Number of values of a sample at the first gate, as given or as the input layer says.

    Raises:
        ValueError: Neither says it.
    """
    found = getattr(input_layer, "num_features", None) if gate_inputs is None else gate_inputs
    if type(found) is not int or found < 1:
        raise ValueError(
            f"gate_inputs is {gate_inputs!r}; give the number of values of an input that is flattened (1296 of an "
            "image of 1 x 36 x 36), or an input_layer that says its num_features"
        )
    return found
