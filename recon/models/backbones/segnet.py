"""SegNet, as multi-task work on NYUv2 and CityScapes uses it.

Badrinarayanan, Kendall & Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", PAMI 2017, with the layers of Liu, Johns & Davison, "End-to-End Multi-Task
Learning with Attention", CVPR 2019: five stages, of two convolutions each for the first two and
three for the others.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from recon.models.dense_heads import convolutional_head


class ConvBlock(nn.Module):
    """A 3 x 3 convolution that keeps the size, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        nn.init.xavier_normal_(self.conv1.weight)
        nn.init.zeros_(self.conv1.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        return F.relu(self.bn1(self.conv1(x)), inplace=True)


class SegNet(nn.Module):
    """An encoder that pools with indices, and a decoder that puts values back to their places.

    The 52 layers are named as in the conflict map published for CityScapes,
    ``{encoder_block, conv_block_enc, conv_block_dec, decoder_block}.<stage>``, where the last two
    blocks of a deep stage are ``<stage>.0, <stage>.1``. Images may have any size from 32 x 32 on.

    >>> import torch
    >>> SegNet(width=2)(torch.zeros(1, 3, 32, 64)).shape
    torch.Size([1, 2, 32, 64])

    Args:
        width: Channels of the first stage; the others have 2, 4, 8 and 8 times as many. 64 is the
            published network.
        in_channels: Channels of the images.

    Attributes:
        num_features: Channels of the features, equal to the width.

    Raises:
        ValueError: The width is not positive.
    """

    def __init__(self, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        self.num_features = width
        channels = stage_channels(width)
        entries = [in_channels, *channels[:-1]]
        exits = [width, *channels[:-1]]
        self.encoder_block = nn.ModuleList(map(ConvBlock, entries, channels))
        self.conv_block_enc = nn.ModuleList(_refinement(stage, own) for stage, own in enumerate(channels))
        self.decoder_block = nn.ModuleList(map(ConvBlock, channels, exits))
        self.conv_block_dec = nn.ModuleList(_refinement(stage, own) for stage, own in enumerate(exits))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, H, W)`` to features ``(B, width, H, W)``."""
        _, decoder = self.stages(x)
        return decoder[0][1]

    def stages(self, x: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]:
        """Run the network, and keep the inputs and outputs of its stages.

        Args:
            x: Images ``(B, in_channels, H, W)``.

        Returns:
            For every stage of the encoder, the output of its first block and of its last one. For
            every stage of the decoder, its input after unpooling and its output. Both start with
            the shallowest stage: stage ``i`` has ``H >> i`` x ``W >> i`` values.
        """
        encoder, decoder, origins = [], [], []
        for enter, refine in zip(self.encoder_block, self.conv_block_enc, strict=True):
            entered = enter(x)
            encoder.append((entered, refine(entered)))
            x, origin = F.max_pool2d(encoder[-1][1], kernel_size=2, return_indices=True)
            origins.append(origin)
        blocks = zip(self.decoder_block, self.conv_block_dec, encoder, origins, strict=True)
        for leave, refine, (_, like), origin in reversed(list(blocks)):
            unpooled = F.max_unpool2d(x, origin, kernel_size=(2, 2), output_size=like.shape[-2:])
            x = refine(leave(unpooled))
            decoder.append((unpooled, x))
        return encoder, decoder[::-1]

    def task_head(self, outputs: int) -> nn.Module:
        """A head as published: a 3 x 3 and a 1 x 1 convolution, with nothing between them."""
        return convolutional_head(self.num_features, outputs)


def stage_channels(width: int) -> list[int]:
    """Channels of the five stages of a SegNet, the shallowest first."""
    return [width, 2 * width, 4 * width, 8 * width, 8 * width]


def _refinement(stage: int, channels: int) -> nn.Module:
    """The rest of a stage beside the block that changes the number of channels."""
    if stage < 2:
        return ConvBlock(channels, channels)
    return nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))
