"""ResNet-50 with dilated convolutions, and DeepLabV3's heads for it.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Chen et al., "Rethinking
Atrous Convolution for Semantic Image Segmentation", 2017: the last two stages dilate instead of
going down, so that features keep an eighth of the image's resolution.
"""

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from recon.models.backbones.image_input import IMAGENET_MEAN, IMAGENET_STD, ImageInput
from recon.models.backbones.imagenet_weights import downloaded
from recon.models.dense_heads import upsampled

STRIDE = 8


class DilatedResNet50(ResNet):
    """torchvision's ResNet-50 of output stride 8 with a width, and without pooling and classes.

    Layers are named as torchvision names them. Images are normalised inside, as ImageNet's are.

    >>> import torch
    >>> DilatedResNet50(width=2)(torch.zeros(1, 3, 32, 64)).shape
    torch.Size([1, 64, 4, 8])

    Args:
        width: Channels of the first convolution. 64 is ResNet-50.
        pretrained: Whether to download torchvision's first ImageNet weights (``IMAGENET1K_V1``),
            which most published results use.

    Attributes:
        num_features: Channels of the features, 32 times the width.

    Raises:
        ValueError: The width is not positive, or not 64 for pretrained weights.
        OSError: The weights cannot be downloaded.
    """

    def __init__(self, width: int = 64, pretrained: bool = False) -> None:
        if width < 1:
            raise ValueError(f"width is {width}; it must be at least 1")
        if pretrained and width != 64:
            raise ValueError(f"width is {width}; pretrained weights are for width 64")
        super().__init__(Bottleneck, [3, 4, 6, 3], replace_stride_with_dilation=[False, True, True])
        del self.avgpool, self.fc
        self.num_features = 8 * width * Bottleneck.expansion
        self.images = ImageInput(IMAGENET_MEAN, IMAGENET_STD, STRIDE)
        # torchvision fixes the width of these layers, so they are built again.
        self.inplanes, self.dilation = width, 1
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._make_layer(Bottleneck, width, 3)
        self.layer2 = self._make_layer(Bottleneck, 2 * width, 4, stride=2)
        self.layer3 = self._make_layer(Bottleneck, 4 * width, 6, stride=2, dilate=True)
        self.layer4 = self._make_layer(Bottleneck, 8 * width, 3, stride=2, dilate=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if pretrained:
            state = downloaded(ResNet50_Weights.IMAGENET1K_V1)
            self.load_state_dict({name: value for name, value in state.items() if not name.startswith("fc.")})

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, 3, H, W)`` in [0, 1] to features ``(B, num_features, H / 8, W / 8)``.

        Raises:
            ValueError: Height or width is not a multiple of 8.
        """
        x = self.relu(self.bn1(self.conv1(self.images(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(self.maxpool(x)))))

    def task_head(self, outputs: int) -> nn.Module:
        """DeepLabV3's head (atrous spatial pyramid pooling), upsampled to the images' resolution.

        It pools over the whole image before a batch normalisation, so a training batch needs at
        least two images.
        """
        return upsampled(DeepLabHead(self.num_features, outputs), STRIDE)
