"""Any backbone of timm, by name."""

from typing import Any

from torch import nn

from recon.errors import unknown_name
from recon.plugins import needs


def timm_backbone(
    name: str, in_channels: int = 1, image_size: int | None = None, pretrained: bool = False
) -> nn.Module:
    """Build a timm network without its classifier, for pooled features.

    >>> import torch
    >>> timm_backbone("test_resnet", in_channels=1)(torch.zeros(2, 1, 36, 36)).shape
    torch.Size([2, 96])

    Args:
        name: timm's name of the network, e.g. ``"resnet18"`` or ``"vit_tiny_patch16_224"``.
        in_channels: Channels of the images.
        image_size: Height and width of the images, for networks that must know them (most
            transformers); by default the size they were designed for.
        pretrained: Whether timm downloads pretrained weights.

    Returns:
        timm's own module, mapping images ``(B, in_channels, H, W)`` to ``(B, num_features)``.

    Raises:
        PackageMissingError: timm is not installed.
        ValueError: timm knows no network of this name, or ``image_size`` is given for one that
            takes any size.
    """
    with needs("timm", extra="timm"):
        import timm

    if not timm.is_model(name):
        raise unknown_name("network", name, timm.list_models(), "timm")
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        backbone = timm.create_model(name, pretrained=pretrained, in_chans=in_channels, num_classes=0, **size)
    except TypeError as error:
        if "img_size" in str(error):
            raise ValueError(f"network {name!r} takes images of any size; leave out image_size={image_size}") from error
        raise
    # timm counts the features before the head's own layers; some networks (MobileNetV3, VGG) keep
    # those layers.
    backbone.num_features = getattr(backbone, "head_hidden_size", backbone.num_features)
    return backbone
