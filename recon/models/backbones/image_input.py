"""The input of networks that were made for natural images: size check and normalisation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageInput(nn.Module):
    """Refuses images of a size that does not fit, and normalises the others.

    So data stay in [0, 1], whatever network they are for. It has no parameters and no state in
    checkpoints.

    Args:
        mean: Mean of the images that the network was made for, one number per channel.
        std: Their standard deviation.
        stride: Height and width of images must be multiples of it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, C, H, W)`` to images of the same shape.

        Raises:
            ValueError: Height or width is not a multiple of the stride.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            near = " x ".join(str(max(1, round(size / self.stride)) * self.stride) for size in (height, width))
            raise ValueError(
                f"images are {height} x {width}; this network needs multiples of {self.stride}, such as {near}"
            )
        return (images - self.mean) / self.std
