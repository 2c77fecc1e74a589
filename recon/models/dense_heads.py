"""Heads for dense prediction: from features to one task's prediction at every pixel."""

from torch import nn


def convolutional_head(channels: int, outputs: int, scale: int = 1) -> nn.Sequential:
    """Two convolutions with nothing between them, SegNet's head in Liu et al., CVPR 2019.

    >>> import torch
    >>> convolutional_head(channels=8, outputs=3, scale=2)(torch.zeros(1, 8, 4, 6)).shape
    torch.Size([1, 3, 8, 12])

    Args:
        channels: Channels of the features.
        outputs: Channels of the prediction.
        scale: How many times as high and wide as the features the prediction is.

    Returns:
        A 3 x 3 and a 1 x 1 convolution, then bilinear upsampling if ``scale`` is not 1:
        ``(B, channels, H, W)`` to ``(B, outputs, scale * H, scale * W)``.
    """
    convolutions = [nn.Conv2d(channels, channels, kernel_size=3, padding=1), nn.Conv2d(channels, outputs, 1)]
    for convolution in convolutions:
        nn.init.xavier_normal_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return upsampled(nn.Sequential(*convolutions), scale)


def upsampled(head: nn.Sequential, scale: int) -> nn.Sequential:
    """A head with bilinear upsampling of its output; the head itself for a scale of 1."""
    return head if scale == 1 else head.append(nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False))
