"""What a backbone says about itself decides which heads and branches it gets."""

import pytest
import torch
from torch import nn

from recon.models import CrossStitch, LeNet, SegNet, SegNetMTAN, heads_for
from recon.models.contract import for_tasks, has_linear_heads, has_own_heads, has_task_specific_layers
from recon.tasks import classification, depth


def test_a_backbone_that_makes_its_heads_is_asked_for_them_though_it_tells_its_features() -> None:
    network = SegNet(width=2)
    assert has_linear_heads(network)
    assert has_own_heads(network)
    assert isinstance(heads_for(network, [depth("depth")])["depth"], nn.Sequential)


def test_a_compiled_backbone_still_says_what_it_is() -> None:
    assert has_task_specific_layers(torch.compile(SegNetMTAN(width=2)))
    assert has_own_heads(torch.compile(SegNetMTAN(width=2)))
    heads = heads_for(torch.compile(LeNet(features=7)), [classification("digit", 10)])
    assert heads["digit"].in_features == 7


@pytest.mark.parametrize("features", [None, "50", 50.0])
def test_features_that_are_no_number_are_no_contract(features: object) -> None:
    network = nn.Flatten()
    network.num_features = features  # type: ignore[assignment]
    with pytest.raises(ValueError, match="Flatten does not say its num_features"):
        heads_for(network, [classification("digit", 10)])


def test_a_network_that_depends_on_the_tasks_is_made_for_them_and_others_stay() -> None:
    plan = CrossStitch(LeNet, ["conv1"])
    assert for_tasks(plan, ["digit", "letter"]).tasks == ("digit", "letter")
    backbone = LeNet()
    assert for_tasks(backbone, ["digit", "letter"]) is backbone
