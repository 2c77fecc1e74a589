"""The shared layers of a network and their names."""

from torch import nn

from recon.gradients.buffer import TaskGradients
from recon.gradients.layers import shared_layers


def test_a_module_that_happens_to_be_called_shared_layers_is_a_module_like_any_other() -> None:
    net = nn.Module()
    net.shared_layers = nn.Sequential(nn.Linear(2, 2))
    assert list(shared_layers(net)) == ["shared_layers.0"]


def test_layers_own_their_parameters_and_a_tied_one_belongs_to_the_first() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.LayerNorm(2))
    net[2].weight = net[0].weight
    net[3].requires_grad_(False)
    layers = shared_layers(net)
    assert list(layers) == ["0", "2"]
    assert layers["2"] == [net[2].bias]
    assert TaskGradients(layers, 2).jacobian.shape == (2, 8)
