"""Heads for dense prediction: from a backbone's features to one task's prediction of every pixel."""

from torch import nn


def convolutional_head(channels: int, outputs: int, scale: int = 1) -> nn.Sequential:
    """Two convolutions with nothing between them, as Liu, Johns & Davison (CVPR 2019) put on SegNet.

    Args:
        channels: Channels of the features.
        outputs: Channels of the prediction.
        scale: How many times as high and wide as the features the prediction is.

    Returns:
        A 3 x 3 and a 1 x 1 convolution, then bilinear upsampling if ``scale`` asks for it: ``(B, channels, H, W)`` to
        ``(B, outputs, scale * H, scale * W)``.
    """
    convolutions = [nn.Conv2d(channels, channels, kernel_size=3, padding=1), nn.Conv2d(channels, outputs, 1)]
    for convolution in convolutions:
        nn.init.xavier_normal_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return upsampled(nn.Sequential(*convolutions), scale)


def upsampled(head: nn.Sequential, scale: int) -> nn.Sequential:
    """A head with bilinear upsampling of what it gives appended to it; as it is for a scale of 1."""
    return head if scale == 1 else head.append(nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False))
