"""The route that each kind of step takes."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from two_heads import Known, TwoHeads, losses_and_features

import recon
from recon.engine.routes import ROUTES, Route, Step


@dataclass
class Recorded:
    """A route that notes its name when it takes a step."""

    route: Route
    taken: list[str]

    def backward(self, step: Step) -> bool:
        took = self.route.backward(step)
        if took:
            self.taken.append(type(self.route).__name__)
        return took


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr("recon.engine.dispatch.ROUTES", [Recorded(route, names) for route in ROUTES])
    return names


@pytest.mark.parametrize(
    ("name", "observed", "route"),
    [
        ("joint", False, "LossObjective"),
        ("joint", True, "ObservedLosses"),
        ("mgda", False, "TaskBackwards"),
        ("mgda", True, "TaskBackwards"),
        ("graddrop", False, "TaskBackwards"),
    ],
)
def test_methods_take_the_route_of_their_kind(
    name: str, observed: bool, route: str, taken: list[str], x: Tensor
) -> None:
    net = TwoHeads()
    analyzer = recon.ConflictAnalyzer(net.backbone, ["a", "b"]) if observed else None
    recon.backward(net.losses(x), net.backbone, recon.create_method(name), analyzer)
    assert taken == [route]


def test_a_single_task_and_a_frozen_shared_part_take_routes_of_their_own(taken: list[str], x: Tensor) -> None:
    net = TwoHeads()
    recon.backward({"a": net.losses(x)["a"]}, net.backbone, recon.create_method("mgda"))
    engine = recon.Engine(net.backbone, ["a", "b"], "mgda")
    net.backbone.requires_grad_(False)
    engine.backward(net.losses(x))
    assert taken == ["SingleTask", "FrozenSharedPart"]


def test_known_weights_and_features_take_routes_of_their_own(taken: list[str], x: Tensor) -> None:
    net = TwoHeads()
    engine = recon.Engine(net.backbone, ["a", "b"], Known([0.3, 2.0]))  # unknown in the first step
    for _ in range(2):
        engine.backward(net.losses(x))
    recon.Engine(net.backbone, ["a", "b"], "mgda", at="representation").backward(*losses_and_features(net, x))
    assert taken == ["TaskBackwards", "KnownWeights", "HeadBackwards"]


def test_every_evaluation_of_an_optimizer_takes_a_route(taken: list[str], x: Tensor) -> None:
    net = TwoHeads()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.01, max_iter=3)
    info = recon.Engine(net.backbone, ["a", "b"], "mgda").step(lambda batch=None: net.losses(x), optimizer)
    assert info.step == 0
    assert taken == ["TaskBackwards"] * 3
