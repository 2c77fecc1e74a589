"""ResNet-18 for small images, of any width.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the changes of Shi et
al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task Learning", ICLR 2023: the
first convolution takes one channel, and the last layer is shared and gives 100 features, followed
by ReLU.
"""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet


class ResNet18(ResNet):
    """torchvision's ResNet-18 with a width, and features in place of classes.

    Layers are named as torchvision names them: 41 of them, ``fc`` included.

    >>> import torch
    >>> ResNet18(width=4)(torch.zeros(2, 1, 36, 36)).shape
    torch.Size([2, 100])

    Args:
        width: Channels of the first stage; the others have two, four and eight times as many. 64 is
            ResNet-18.
        in_channels: Channels of the images.
        features: Number of features.

    Attributes:
        num_features: The same number.

    Raises:
        ValueError: The width is not positive.
    """

    def __init__(self, width: int = 64, in_channels: int = 1, features: int = 100) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=features)
        self.num_features = features
        # torchvision fixes the width of these layers, so they are built again.
        self.inplanes = width
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(BasicBlock, width, 2)
        self.layer2 = self._make_layer(BasicBlock, 2 * width, 2, stride=2)
        self.layer3 = self._make_layer(BasicBlock, 4 * width, 2, stride=2)
        self.layer4 = self._make_layer(BasicBlock, 8 * width, 2, stride=2)
        self.fc = nn.Linear(8 * width, features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, H, W)`` to features ``(B, features)``."""
        return torch.relu(super().forward(x))


class FlatResNet18(ResNet18):
    """ResNet-18 without pooling and last layer: features are the last maps, flattened.

    This is the network of the Recon paper on CelebA. With 40 heads of two outputs on 2,048 features
    it has the published 43.26 MB, and the published 68.03 MB with 40 copies of the 25 layers that
    lead the published ranking of Multi-Fashion+MNIST. A head of :func:`recon.tasks.binary` has one
    output, which makes 42.95 MB.

    >>> import torch
    >>> FlatResNet18(width=4)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 128])

    Args:
        width: Channels of the first stage; the others have two, four and eight times as many. 64 is
            ResNet-18.
        in_channels: Channels of the images.
        image_size: Height and width of the images, in pixels.

    Attributes:
        num_features: 8 times the width, times the number of places of the last maps: 2 x 2 for
            images of 64 x 64.

    Raises:
        ValueError: The width or the size is not positive.
    """

    def __init__(self, width: int = 64, in_channels: int = 3, image_size: int = 64) -> None:
        if image_size < 1:
            raise ValueError(f"image_size is {image_size}; it must be at least 1")
        super().__init__(width, in_channels)
        del self.avgpool, self.fc
        self.num_features = 8 * width * (-(-image_size // 32)) ** 2

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, S, S)`` of the given size to ``(B, num_features)``."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return torch.flatten(self.layer4(self.layer3(self.layer2(self.layer1(x)))), 1)
