"""MTAN: one SegNet for all tasks, and for each task attention masks that choose among its features.

Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.

Here it is a network with a single attention path. The published network of K tasks is that one with
masks for each task, which training makes itself, each from a draw of its own. In a loop of your own
pass a function that makes the network as ``init`` of :func:`recon.branch`. ``staged_mtan`` has the
same for backbones other than SegNet.
"""

from copy import deepcopy
from typing import Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.gradients.layers import shared_layers
from recon.models.backbones.segnet import ConvBlock, SegNet, stage_channels

_Network = TypeVar("_Network", bound=nn.Module)


class AttentionMask(nn.Module):
    """Two 1 x 1 convolutions with batch normalisation; ReLU between them, a sigmoid at the end.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the mask.
        between: Channels between the convolutions; as many as of the mask by default.
    """

    def __init__(self, inputs: int, outputs: int, between: int | None = None) -> None:
        super().__init__()
        between = outputs if between is None else between
        self.conv1 = nn.Conv2d(inputs, between, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, outputs, kernel_size=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.draw()

    def draw(self) -> None:
        """Start anew: Xavier's normal weights without bias, and fresh norms."""
        for convolution in (self.conv1, self.conv2):
            nn.init.xavier_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        for norm in (self.bn1, self.bn2):
            norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H, W)`` in (0, 1)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return torch.sigmoid(self.bn2(self.conv2(x)))


class SegNetMTAN(SegNet):
    """A SegNet with one path of attention along its stages.

    The masks, ``encoder_att.<stage>`` and ``decoder_att.<stage>``, are the task-specific layers.
    The other 72 layers are shared, ``encoder_block_att.<stage>`` and ``decoder_block_att.<stage>``
    of the path among them, and named as in the conflict map published for NYUv2. Images may have
    any size from 32 x 32 on.

    >>> import recon
    >>> network = SegNetMTAN(width=2)
    >>> mtan = recon.branch(network, network.task_specific_layers(), ["segmentation", "depth"])
    >>> features = mtan(torch.zeros(1, 3, 32, 64))
    >>> {task: tuple(own.shape) for task, own in features.items()}
    {'segmentation': (1, 2, 32, 64), 'depth': (1, 2, 32, 64)}

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
        super().__init__(width, in_channels)
        channels = stage_channels(width)
        deeper = [*channels[1:], channels[-1]]
        shallower = [width, *channels[:-1]]
        self.encoder_att = nn.ModuleList(map(AttentionMask, [width, *(2 * own for own in channels[1:])], channels))
        self.encoder_block_att = nn.ModuleList(map(ConvBlock, channels, deeper))
        self.decoder_att = nn.ModuleList(
            AttentionMask(own + less, less) for own, less in zip(channels, shallower, strict=True)
        )
        self.decoder_block_att = nn.ModuleList(map(ConvBlock, channels, shallower))

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, H, W)`` to features ``(B, width, H, W)``."""
        encoder, decoder = self.stages(x)
        attended: list[Tensor] = []
        for mask, block, (entered, refined) in zip(self.encoder_att, self.encoder_block_att, encoder, strict=True):
            chosen = mask(torch.cat([entered, *attended], dim=1)) * refined
            attended = [F.max_pool2d(block(chosen), kernel_size=2)]
        [chosen] = attended
        stages = zip(self.decoder_att, self.decoder_block_att, decoder, strict=True)
        for mask, block, (unpooled, decoded) in reversed(list(stages)):
            enlarged = F.interpolate(chosen, size=unpooled.shape[-2:], mode="bilinear", align_corners=True)
            chosen = mask(torch.cat((unpooled, block(enlarged)), dim=1)) * decoded
        return chosen

    def task_specific_layers(self) -> list[str]:
        """The layers of the attention masks; each task has its own copy of them."""
        return [name for name in shared_layers(self) if name.startswith(("encoder_att.", "decoder_att."))]

    def drawn_anew(self) -> Self:
        """A copy whose masks have new start values."""
        return with_new_masks(self)


def with_new_masks(network: _Network) -> _Network:
    """A copy of a network whose attention masks start anew."""
    copied = deepcopy(network)
    for module in copied.modules():
        if isinstance(module, AttentionMask):
            module.draw()
    return copied
