"""MobileNetV2 for dense prediction, with a reduced ASPP and DeepLabV3+'s decoder as the head.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, with the R-ASPP
module of its section 6.3; Chen et al., "Encoder-Decoder with Atrous Separable Convolution for
Semantic Image Segmentation", ECCV 2018. This is the network of Brüggemann et al., "Automated Search
for Resource-Efficient Branched Multi-Task Networks" (BMTAS), BMVC 2020, and of the Recon paper on
PASCAL-Context: with four tasks (all but edges) it has the published 8.04 MB, and the four
single-task networks have 30.09 MB.

One point differs from the code of BMTAS: images are normalised as the weights of ImageNet want
them; theirs are brought to [-1, 1].
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import MobileNet_V2_Weights
from torchvision.models.mobilenetv2 import MobileNetV2 as Classifier

from recon.models.backbones.image_input import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from recon.models.backbones.imagenet_weights import downloaded
from recon.models.dense_heads import upsampled

STRIDE = 16
HEAD_STRIDE = 4

_FINE = 3  # the block whose outputs the decoder takes, at a quarter of the resolution
_DILATED = 14  # the block that no longer goes down, and the first one of the last two stages
_CHANNELS = 128
_PROJECTED = 48


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 of output stride 16, without its last convolution and classes.

    It has 108 layers; those of torchvision are named as torchvision names them. The features are
    those of the fourth block beside those of the R-ASPP module, enlarged to the same resolution.
    Images are normalised inside, as ImageNet's are.

    >>> import torch
    >>> network = MobileNetV2(width_multiplier=0.25).eval()
    >>> network(torch.zeros(1, 3, 32, 64)).shape
    torch.Size([1, 136, 8, 16])

    Args:
        width_multiplier: Factor of the numbers of channels before the R-ASPP module.
        pretrained: Whether to download torchvision's first ImageNet weights (``IMAGENET1K_V1``).

    Attributes:
        num_features: Channels of the features.

    Raises:
        ValueError: The multiplier is not positive, or not 1 for pretrained weights.
        OSError: The weights cannot be downloaded.
    """

    def __init__(self, width_multiplier: float = 1.0, pretrained: bool = False) -> None:
        if not 0 < width_multiplier < float("inf"):
            raise ValueError(f"width_multiplier is {width_multiplier}; it must be positive")
        if pretrained and width_multiplier != 1:
            raise ValueError(f"width_multiplier is {width_multiplier}; pretrained weights are for 1")
        super().__init__()
        self.images = ImageInput(IMAGENET_MEAN, IMAGENET_STD, STRIDE)
        self.features = Classifier(width_mult=width_multiplier).features[:-1]
        _dilate(self.features[_DILATED:])
        self._fine, coarse = (_channels(self.features[block]) for block in (_FINE, -1))
        self.aspp = ReducedASPP(coarse)
        self.num_features = self._fine + _CHANNELS
        if pretrained:
            state = downloaded(MobileNet_V2_Weights.IMAGENET1K_V1)
            last = f"features.{len(self.features)}."
            own = {name: value for name, value in state.items() if not name.startswith(("classifier.", last))}
            self.features.load_state_dict({name.removeprefix("features."): value for name, value in own.items()})

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` in [0, 1] to features ``(B, num_features, H / 4, W / 4)``.

        The R-ASPP module pools over the whole image before a batch normalisation, so a training
        batch needs at least two images.

        Raises:
            ValueError: Height or width is not a multiple of 16.
        """
        x = self.images(x)
        for block in self.features[: _FINE + 1]:
            x = block(x)
        fine = x
        for block in self.features[_FINE + 1 :]:
            x = block(x)
        coarse = functional.interpolate(self.aspp(x), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)

    def task_head(self, outputs: int) -> nn.Module:
        """DeepLabV3+'s decoder of separable convolutions, upsampled to the images' resolution."""
        return upsampled(nn.Sequential(SeparableDecoder(self._fine, outputs)), HEAD_STRIDE)


class ReducedASPP(nn.Module):
    """Features of a pixel beside those of the whole image, projected.

    Args:
        inputs: Channels of the features before it.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.local = convolution(inputs, _CHANNELS)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.whole = convolution(inputs, _CHANNELS)
        self.dropout = nn.Dropout(0.1)
        self.project = convolution(2 * _CHANNELS, _CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inputs, h, w)`` to ``(B, 128, h, w)``."""
        local = self.local(x)
        whole = self.whole(self.pool(x)).expand_as(local)
        return self.project(self.dropout(torch.cat([local, whole], dim=1)))


class SeparableDecoder(nn.Module):
    """DeepLabV3+'s decoder: fine features reduced, two separable convolutions, and the prediction.

    Args:
        fine: How many of the features' channels are the fine ones; they come first.
        outputs: Channels of the prediction.
    """

    def __init__(self, fine: int, outputs: int) -> None:
        super().__init__()
        self.fine = fine
        self.reduce = convolution(fine, _PROJECTED)
        self.separable1 = _separable(_CHANNELS + _PROJECTED, _CHANNELS)
        self.separable2 = _separable(_CHANNELS, _CHANNELS)
        self.predict = nn.Conv2d(_CHANNELS, outputs, kernel_size=1)
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, fine + 128, h, w)`` to a prediction ``(B, outputs, h, w)``."""
        x = torch.cat([self.reduce(x[:, : self.fine]), x[:, self.fine :]], dim=1)
        return self.predict(self.separable2(self.separable1(x)))


def convolution(inputs: int, outputs: int, kernel_size: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, batch normalisation, ReLU6."""
    own = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(own.weight, mode="fan_out")
    return nn.Sequential(own, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, inputs, kernel_size=3, groups=inputs), convolution(inputs, outputs))


def _dilate(blocks: nn.Sequential) -> None:
    """Take the stride out of the first block, and dilate the others instead."""
    for number, block in enumerate(blocks):
        (depthwise,) = (m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
        if number == 0:
            depthwise.stride = (1, 1)
        else:
            depthwise.dilation = depthwise.padding = (2, 2)


def _channels(block: nn.Module) -> int:
    """Channels of the output of a block."""
    return next(m.num_features for m in reversed(list(block.modules())) if isinstance(m, nn.BatchNorm2d))
