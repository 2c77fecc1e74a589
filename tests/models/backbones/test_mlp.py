"""A multilayer perceptron, layer by layer."""

import pytest
import torch

from recon.models import MLP


def test_it_is_linear_layers_with_relu() -> None:
    network = MLP(3, [5, 2])
    x = torch.randn(4, 3)
    hidden = (x @ network[0].weight.T + network[0].bias).clamp(min=0)
    torch.testing.assert_close(network(x), (hidden @ network[2].weight.T + network[2].bias).clamp(min=0))
    assert network.num_features == 2


@pytest.mark.parametrize(("inputs", "widths"), [(3, []), (0, [2]), (3, [2, 0])])
def test_sizes_below_one_are_refused(inputs: int, widths: list[int]) -> None:
    with pytest.raises(ValueError, match="give a layer or more, of 1 unit or more"):
        MLP(inputs, widths)
