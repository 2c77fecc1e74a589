"""A multilayer perceptron: linear layers with ReLU, for vectors."""

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Linear layers, each followed by ReLU; an expert or a bottom for vectors.

    Layers are named by their positions: ``0``, ``2``, ``4``, ...

    >>> import torch
    >>> MLP(16, [32, 8])(torch.zeros(4, 16)).shape
    torch.Size([4, 8])

    Args:
        inputs: Length of a vector.
        widths: Number of units of each layer.

    Attributes:
        num_features: Units of the last layer.

    Raises:
        ValueError: There is no layer, or a number is not positive.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        if not widths or min(inputs, *widths) < 1:
            raise ValueError(
                f"inputs is {inputs} and widths is {list(widths)}; give a layer or more, of 1 unit or more"
            )
        layers: list[nn.Module] = []
        for before, after in zip([inputs, *widths], widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers)
        self.num_features = widths[-1]
