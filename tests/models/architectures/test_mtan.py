"""A single attention path, branched at its masks, against the network of several tasks written out."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import recon
from recon.gradients.layers import shared_layers
from recon.models import SegNet, SegNetMTAN

TASKS = ("segmentation", "depth", "normals")
LAYERS = {
    *shared_layers(SegNet(1)),
    *(
        f"{part}_block_att.{stage}.{layer}"
        for part in ("encoder", "decoder")
        for stage in range(5)
        for layer in ("conv1", "bn1")
    ),
}
"""The layers of the conflict map published for NYUv2."""
MASKS = {
    f"{part}_att.{stage}.{layer}"
    for part in ("encoder", "decoder")
    for stage in range(5)
    for layer in ("conv1", "bn1", "conv2", "bn2")
}


class WrittenOut(nn.Module):
    """Liu, Johns & Davison's network of several tasks: shared SegNet, shared blocks, a set of masks for each task."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        c = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoder_block = nn.ModuleList([block(3, c[0]), *(block(c[i], c[i + 1]) for i in range(4))])
        self.decoder_block = nn.ModuleList([block(c[0], c[0]), *(block(c[i + 1], c[i]) for i in range(4))])
        self.conv_block_enc = nn.ModuleList([block(c[0], c[0]), block(c[1], c[1]), *map(pair, c[2:])])
        self.conv_block_dec = nn.ModuleList([block(c[0], c[0]), block(c[0], c[0]), *map(pair, c[1:4])])
        self.encoder_att = nn.ModuleList(
            nn.ModuleList([mask(c[0], c[0]), *(mask(2 * c[i + 1], c[i + 1]) for i in range(4))]) for _ in range(tasks)
        )
        self.decoder_att = nn.ModuleList(
            nn.ModuleList([mask(2 * c[0], c[0]), *(mask(c[i + 1] + c[i], c[i]) for i in range(4))])
            for _ in range(tasks)
        )
        self.encoder_block_att = nn.ModuleList([*(block(c[i], c[i + 1]) for i in range(4)), block(c[4], c[4])])
        self.decoder_block_att = nn.ModuleList([block(c[0], c[0]), *(block(c[i + 1], c[i]) for i in range(4))])

    def forward(self, x: Tensor) -> list[Tensor]:
        first, last, places, unpooled, decoded = {}, {}, {}, {}, {}
        for i in range(5):
            first[i] = self.encoder_block[i](x)
            last[i] = self.conv_block_enc[i](first[i])
            x, places[i] = F.max_pool2d_with_indices(last[i], 2, 2)
        for i in (4, 3, 2, 1, 0):
            unpooled[i] = F.max_unpool2d(x, places[i], 2, 2)
            x = decoded[i] = self.conv_block_dec[i](self.decoder_block[i](unpooled[i]))
        outputs = []
        for encoder_att, decoder_att in zip(self.encoder_att, self.decoder_att, strict=True):
            for i in range(5):
                chosen = encoder_att[i](first[i] if i == 0 else torch.cat((first[i], x), dim=1)) * last[i]
                x = F.max_pool2d(self.encoder_block_att[i](chosen), 2, 2)
            for i in (4, 3, 2, 1, 0):
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
                x = self.decoder_block_att[i](x)
                x = decoder_att[i](torch.cat((unpooled[i], x), dim=1)) * decoded[i]
            outputs.append(x)
        return outputs


def block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(OrderedDict(conv1=conv, bn1=nn.BatchNorm2d(outputs), relu=nn.ReLU()))


def pair(channels: int) -> nn.Sequential:
    return nn.Sequential(block(channels, channels), block(channels, channels))


def mask(inputs: int, outputs: int) -> nn.Sequential:
    first = OrderedDict(conv1=nn.Conv2d(inputs, outputs, 1), bn1=nn.BatchNorm2d(outputs), relu=nn.ReLU())
    second = OrderedDict(conv2=nn.Conv2d(outputs, outputs, 1), bn2=nn.BatchNorm2d(outputs), sigmoid=nn.Sigmoid())
    return nn.Sequential(first | second)


def counterpart(name: str) -> str:
    """Where a tensor of the network written out stands in the branched one."""
    part, _, rest = name.partition(".")
    if part not in ("encoder_att", "decoder_att"):
        return f"shared.{name}"
    task, _, rest = rest.partition(".")
    return f"branches.{TASKS[int(task)]}.{part}.{rest}"


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_branched_at_its_masks_it_is_the_published_network(training: bool) -> None:
    torch.manual_seed(0)
    expected = WrittenOut(len(TASKS), width=3).double().train(training)
    network = SegNetMTAN(3).double().train(training)
    net = recon.branch(network, network.task_specific_layers(), TASKS)
    state = expected.state_dict()
    net.load_state_dict({counterpart(name): tensor.clone() for name, tensor in state.items()}, strict=True)
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    outputs = list(net(x).values())
    weights = [torch.randn_like(output) for output in outputs]
    for results in (outputs, references := expected(x)):
        torch.stack([(result * weight).sum() for result, weight in zip(results, weights, strict=True)]).sum().backward()
    torch.testing.assert_close(outputs, references)
    mine = dict(net.named_parameters())
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(mine[counterpart(name)].grad, parameter.grad, msg=lambda m, at=name: f"{at}: {m}")
    statistics = net.state_dict()
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(statistics[counterpart(name)], tensor, msg=lambda m, at=name: f"{at}: {m}")


def test_its_masks_are_task_specific_and_the_other_72_layers_those_of_the_published_map() -> None:
    network = SegNetMTAN(2)
    net = recon.branch(network, network.task_specific_layers(), TASKS)
    assert set(network.task_specific_layers()) == MASKS
    assert len(LAYERS) == 72
    assert set(net.shared_layers()) == LAYERS
    assert set(shared_layers(network)) == LAYERS | MASKS


def test_it_has_1_77_times_the_parameters_of_a_single_task_segnet() -> None:
    # As published for three tasks, of 13, 1 and 3 outputs.
    with torch.device("meta"):
        network, plain = SegNetMTAN(), SegNet()
        net = recon.branch(network, network.task_specific_layers(), TASKS)
        heads = [network.task_head(outputs) for outputs in (13, 1, 3)]
        single = parameters(plain, plain.task_head(13))
        assert parameters(net, *heads) / single == pytest.approx(1.77, abs=0.005)


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_more_layers_can_be_branched_than_the_masks() -> None:
    torch.manual_seed(0)
    network = SegNetMTAN(2)
    extra = ["conv_block_dec.0.bn1", "decoder_block_att.1.conv1"]
    net = recon.branch(network, [*network.task_specific_layers(), *extra], TASKS)
    assert set(net.shared_layers()) == LAYERS - set(extra)
    assert net(torch.rand(2, 3, 32, 32))["normals"].shape == (2, 2, 32, 32)


def test_images_may_have_any_size() -> None:
    network = SegNetMTAN(2, in_channels=1)
    assert network(torch.rand(2, 1, 50, 71)).shape == (2, 2, 50, 71)


def test_the_masks_are_between_zero_and_one_and_initialised_as_published() -> None:
    torch.manual_seed(0)
    network = SegNetMTAN(16)
    attention = network.encoder_att[1](5 * torch.randn(2, 64, 8, 8))
    assert attention.shape == (2, 32, 8, 8) and 0 < attention.min() < 0.3 and 0.7 < attention.max() < 1
    for name in MASKS:
        module = network.get_submodule(name)
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel() + module.weight[:, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.15), name
            assert (module.bias == 0).all(), name
