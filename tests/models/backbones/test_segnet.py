import pytest
import torch
from torch import Tensor, nn

from recon.gradients.layers import shared_layers
from recon.models import SegNet

BLOCKS = {
    *(f"{part}.{stage}" for part in ("encoder_block", "decoder_block") for stage in range(5)),
    *(f"{part}.{stage}" for part in ("conv_block_enc", "conv_block_dec") for stage in (0, 1)),
    *(f"{part}.{stage}.{i}" for part in ("conv_block_enc", "conv_block_dec") for stage in (2, 3, 4) for i in (0, 1)),
}
LAYERS = {f"{block}.{layer}" for block in BLOCKS for layer in ("conv1", "bn1")}
"""The layers of the conflict map published for CityScapes."""


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_it_has_the_52_layers_of_the_published_map() -> None:
    assert len(LAYERS) == 52
    assert set(shared_layers(SegNet(2))) == LAYERS


def test_it_has_as_many_parameters_as_published() -> None:
    # 24,981,069 is what Liu, Johns & Davison's code divides by: their single-task network for 13
    # classes.
    with torch.device("meta"):
        network = SegNet()
        assert parameters(network, network.task_head(13)) == 24_981_069


def test_the_width_scales_every_stage() -> None:
    network = SegNet(width=3, in_channels=2)
    shapes = {part: [_channels(block) for block in getattr(network, part)] for part in PARTS}
    assert shapes == {
        "encoder_block": [(2, 3), (3, 6), (6, 12), (12, 24), (24, 24)],
        "conv_block_enc": [(3, 3), (6, 6), (12, 12, 12), (24, 24, 24), (24, 24, 24)],
        "decoder_block": [(3, 3), (6, 3), (12, 6), (24, 12), (24, 24)],
        "conv_block_dec": [(3, 3), (3, 3), (6, 6, 6), (12, 12, 12), (24, 24, 24)],
    }
    assert network.num_features == 3


PARTS = ("encoder_block", "conv_block_enc", "decoder_block", "conv_block_dec")


def _channels(block: nn.Module) -> tuple[int, ...]:
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    return (convolutions[0].in_channels, *(convolution.out_channels for convolution in convolutions))


def published_forward(network: SegNet, x: Tensor) -> Tensor:
    """The published wiring with torch's pooling modules: down the stages, then up with the places remembered."""
    pool, unpool = nn.MaxPool2d(2, 2, return_indices=True), nn.MaxUnpool2d(2, 2)
    places = []
    for stage in range(5):
        x = _blocks(network.conv_block_enc[stage], _blocks(network.encoder_block[stage], x))
        x, place = pool(x)
        places.append(place)
    for stage in (4, 3, 2, 1, 0):
        x = unpool(x, places[stage])
        x = _blocks(network.conv_block_dec[stage], _blocks(network.decoder_block[stage], x))
    return x


def _blocks(module: nn.Module, x: Tensor) -> Tensor:
    for block in module if isinstance(module, nn.Sequential) else [module]:
        x = block.bn1(block.conv1(x)).clamp(min=0)
    return x


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_it_computes_what_is_published(training: bool) -> None:
    torch.manual_seed(0)
    network = SegNet(4).double().train(training)
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(network(x), published_forward(network, x))


@pytest.mark.parametrize("size", [(50, 71), (33, 64), (32, 45)])
def test_for_any_size_unpooling_puts_values_where_they_came_from(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SegNet(4)
    encoder, decoder = network.stages(torch.rand(2, 3, *size))
    for stage, ((entered, refined), (unpooled, decoded)) in enumerate(zip(encoder, decoder, strict=True)):
        assert entered.shape == refined.shape == unpooled.shape
        assert decoded.shape[2:] == refined.shape[2:] == (size[0] >> stage, size[1] >> stage)
    # What goes into the deepest stage of the decoder comes straight from the deepest one of the
    # encoder.
    kept = unpooled != 0
    assert kept.any()
    torch.testing.assert_close(unpooled[kept], refined[kept], rtol=0, atol=0)


def test_the_head_is_two_convolutions_with_nothing_between() -> None:
    head = SegNet(4).task_head(5)
    assert [(type(part), part.kernel_size, part.out_channels) for part in head] == [
        (nn.Conv2d, (3, 3), 4),
        (nn.Conv2d, (1, 1), 5),
    ]
    x = torch.randn(1, 4, 9, 7)
    torch.testing.assert_close(head(x), head[1](head[0](x)))


def test_it_is_initialised_as_published() -> None:
    torch.manual_seed(0)
    network = SegNet(32)
    for name, module in nn.Sequential(network, network.task_head(64)).named_modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel() + module.weight[:, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1), name
            assert (module.bias == 0).all(), name


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 0"):
        SegNet(width=0)
