"""A backbone that runs step by step gives what it gives in one piece, and stops after its stages."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.models import DilatedResNet50, LeNet, ResNet18, SegNet
from recon.models.architectures.stages import record


class Dropping(nn.Module):
    """Reads its mode, an attribute and a default argument in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.full((6,), 2.0))

    def forward(self, x: Tensor, power: int = 2) -> Tensor:
        h = self.first(x) * self.scale
        return self.second(F.dropout(h, 1.0, self.training)) ** power


class Odd(nn.Module):
    """Calls a module twice, one never, and branches on values."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(x))


class Branching(Odd):
    def forward(self, x: Tensor) -> Tensor:
        return self.twice(x) if x.sum() > 0 else x


def run(network: nn.Module, stages: Sequence[str], x: Tensor) -> tuple[Any, list[str]]:
    stopped = []

    def stop(stage: str, outputs: Sequence[Any]) -> Sequence[Any]:
        stopped.append(stage)
        return outputs

    [output] = record(network, stages)[network.training].run([network], x, stop)
    return output, stopped


@pytest.mark.parametrize(
    ("network", "stages", "x"),
    [
        (LeNet(), ["conv1"], torch.rand(2, 1, 36, 36)),
        (ResNet18(width=2), ["layer1", "layer2.0", "layer4.1.conv2"], torch.rand(2, 1, 36, 36)),
        (DilatedResNet50(width=2), ["maxpool", "layer2", "layer4"], torch.rand(2, 3, 32, 32)),
        (SegNet(width=2), ["conv_block_enc.0", "conv_block_dec.3.1"], torch.rand(2, 3, 32, 32)),
        (Dropping(), ["first"], torch.rand(3, 4)),
    ],
    ids=["lenet", "resnet", "dilated", "segnet", "dropping"],
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_it_gives_what_the_backbone_gives(network: nn.Module, stages: list[str], x: Tensor, training: bool) -> None:
    network = network.double().train(training)
    x = x.double()
    output, stopped = run(network, stages, x)
    torch.testing.assert_close(output, network(x))
    assert stopped == stages


def test_what_stages_give_can_be_replaced() -> None:
    network = Dropping().eval()
    [output] = record(network, ["first"])[False].run([network], torch.rand(3, 4), lambda _, outputs: [torch.ones(3, 6)])
    torch.testing.assert_close(output, network.second(2 * torch.ones(3, 6)) ** 2)


def test_results_are_kept_no_longer_than_needed() -> None:
    steps = record(LeNet(), ["conv1"])[True]
    spent = [name for step in steps.steps for name in step.spent]
    assert sorted(spent) == sorted(step.name for step in steps.steps if step.name != "output")


@pytest.mark.parametrize(
    ("network", "stages", "message"),
    [
        (ResNet18(width=2), ["layer1", "layr2"], "unknown stage 'layr2' in ResNet18; nearest: 'layer2'"),
        (ResNet18(width=2), ["layer1", "layer1.0"], "stage 'layer1.0' is inside of stage 'layer1'"),
        (Odd(), ["twice"], "stage 'twice' of Odd is called 2 times"),
        (Odd(), ["never"], "stage 'never' of Odd is called 0 times"),
        (Branching(), ["twice"], "the forward of Branching cannot be stopped after its stages .*control flow"),
    ],
    ids=["unknown", "inside", "twice", "never", "untraceable"],
)
def test_stages_that_do_not_fit_are_refused(network: nn.Module, stages: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record(network, stages)


class Counting(nn.Module):
    """Writes to a buffer in its own forward, in one of several ways."""

    count: Tensor
    mean: Tensor

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.stage = nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stage(x)
        match self.way:
            case "set":
                self.count = self.count + 1
            case "in place":
                self.count += 1
            case "set to a mean":
                self.mean = 0.9 * self.mean + 0.1 * h.mean(0)
            case "partly in place":
                self.mean.mul_(0.9).add_(h.detach().mean(0))
        return h + self.mean


class Outer(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.inner = Counting(way)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize(
    ("way", "name"), [("set", "count"), ("in place", "count"), ("set to a mean", "mean"), ("partly in place", "mean")]
)
def test_a_forward_that_writes_to_a_buffer_between_the_stages_is_refused_by_name(way: str, name: str) -> None:
    network = Outer(way)
    told = rf"Outer cannot be stopped after its stages: Counting writes to its buffer 'inner\.{name}'; write to it in a"
    with pytest.raises(ValueError, match=told):
        record(network, ["inner.stage"])
    assert not network.inner.count.any()
    assert not network.inner.mean.any()


def test_a_buffer_is_read_and_written_by_a_module_that_is_called_whole() -> None:
    network = nn.Sequential(nn.Linear(4, 4), Outer("set"), Counting("none"))
    for calls in (1, 2):
        output, _ = run(network, ["0"], torch.ones(3, 4))
        assert network[1].inner.count == calls  # type: ignore[union-attr]
    torch.testing.assert_close(output, network[2](network[1](network[0](torch.ones(3, 4)))))


class Constant(Dropping):
    """Makes a tensor in its forward."""

    def forward(self, x: Tensor, power: int = 2) -> Tensor:
        return self.second(self.first(x) + torch.arange(6.0)) * power


def test_a_tensor_that_the_forward_makes_is_kept() -> None:
    network = Constant()
    output, _ = run(network, ["first"], torch.ones(3, 4))
    torch.testing.assert_close(output, network(torch.ones(3, 4)))
