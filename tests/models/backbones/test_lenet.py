import torch

from recon.models import LeNet


def test_it_gives_50_non_negative_features_from_36_by_36_pixels() -> None:
    network = LeNet()
    features = network(torch.randn(3, 1, 36, 36))
    assert features.shape == (3, 50) == (3, network.num_features)
    assert (features >= 0).all()


def test_it_has_the_layers_of_the_published_code() -> None:
    shapes = {name: tuple(weight.shape) for name, weight in LeNet().named_parameters() if name.endswith("weight")}
    assert shapes == {"conv1.weight": (10, 1, 9, 9), "conv2.weight": (20, 10, 5, 5), "fc.weight": (50, 500)}


def test_channels_and_features_can_be_chosen() -> None:
    assert LeNet(in_channels=3, features=7)(torch.randn(2, 3, 36, 36)).shape == (2, 7)
