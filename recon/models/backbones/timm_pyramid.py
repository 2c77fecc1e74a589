"""Any backbone of timm that gives features at several resolutions, with a light decoder.

The decoder is that of Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017. Dense
prediction needs its finest level only.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import unknown_name
from recon.models.backbones.image_input import ImageInput
from recon.models.backbones.segnet import ConvBlock
from recon.models.dense_heads import convolutional_head
from recon.plugins import needs


def timm_pyramid(
    name: str,
    in_channels: int = 3,
    channels: int = 128,
    pretrained: bool = False,
    image_size: int | tuple[int, int] | None = None,
) -> "FeaturePyramid":
    """Build a timm network with a feature pyramid on top.

    Images are normalised inside, as the pretrained network's are; images of other than three
    channels are not.

    >>> import torch
    >>> timm_pyramid("test_resnet", channels=8)(torch.zeros(1, 3, 32, 64)).shape
    torch.Size([1, 8, 8, 16])

    Args:
        name: timm's name of the network, e.g. ``"resnet18"`` or ``"convnext_tiny"``.
        in_channels: Channels of the images.
        channels: Channels of the pyramid and of the features.
        pretrained: Whether timm downloads pretrained weights.
        image_size: Height and width of the images, for networks that must know them (most
            transformers); by default the size they were designed for.

    Raises:
        PackageMissingError: timm is not installed.
        ValueError: timm knows no network of this name; ``image_size`` is given for one that takes
            any size; or pretrained weights are asked for images of other than three channels.
    """
    with needs("timm", extra="timm"):
        import timm
        from timm.data.config import resolve_model_data_config

    if not timm.is_model(name):
        raise unknown_name("network", name, timm.list_models(), "timm")
    if pretrained and in_channels != 3:
        raise ValueError(f"in_channels is {in_channels}; pretrained weights are for 3 channels")
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        encoder = timm.create_model(name, features_only=True, pretrained=pretrained, in_chans=in_channels, **size)
    except TypeError as error:
        if "img_size" in str(error):
            raise ValueError(f"network {name!r} takes images of any size; leave out image_size={image_size}") from error
        raise
    made_for = resolve_model_data_config(encoder)
    mean, std = (made_for["mean"], made_for["std"]) if in_channels == 3 else ((0.0,), (1.0,))
    return FeaturePyramid(encoder, channels, mean, std)


class FeaturePyramid(nn.Module):
    """A decoder that adds up an encoder's features, from the coarsest to the finest.

    The finest have a quarter of the images' resolution if the encoder has such features, and
    otherwise the next coarser one.

    Args:
        encoder: A timm network made with ``features_only=True``.
        channels: Channels of the decoder.
        mean: Mean of the images that the encoder was made for, per channel.
        std: Their standard deviation.

    Attributes:
        num_features: Channels of the features.
        reduction: How many times as high and wide as the features the images are.
    """

    def __init__(self, encoder: Any, channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.num_features = channels
        # Features of half the resolution would cost more than all the rest; Lin et al. leave them
        # out, too.
        stages = zip(encoder.feature_info.reduction(), encoder.feature_info.channels(), strict=True)
        reductions, widths = zip(*((reduction, width) for reduction, width in stages if reduction >= 4), strict=True)
        self.reduction = reductions[0]
        self.images = ImageInput(mean, std, self.reduction)
        self.encoder = encoder
        self._channels_last = getattr(encoder, "output_fmt", "NCHW") == "NHWC"
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, kernel_size=1) for width in widths)
        self.smooth = ConvBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map images in [0, 1] to features.

        Args:
            x: Images, ``(B, in_channels, H, W)``.

        Returns:
            ``(B, channels, H / reduction, W / reduction)``.

        Raises:
            ValueError: Height or width is not a multiple of the reduction.
        """
        levels = self.encoder(self.images(x))[-len(self.lateral) :]
        *finer, x = [lateral(self._channels_first(own)) for lateral, own in zip(self.lateral, levels, strict=True)]
        for level in reversed(finer):
            x = level + F.interpolate(x, size=level.shape[-2:], mode="bilinear", align_corners=False)
        return self.smooth(x)

    def _channels_first(self, features: Tensor) -> Tensor:
        return features.permute(0, 3, 1, 2) if self._channels_last else features

    def task_head(self, outputs: int) -> nn.Module:
        """A 3 x 3 and a 1 x 1 convolution, and bilinear upsampling to the images' resolution."""
        return convolutional_head(self.num_features, outputs, self.reduction)
