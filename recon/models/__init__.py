"""Backbones, each with its ``num_features``, and the heads that stand on them."""

from recon.models.heads import linear_heads
from recon.models.lenet import LeNet
from recon.models.resnet import ResNet18
from recon.models.timm_backbone import timm_backbone

__all__ = ["LeNet", "ResNet18", "linear_heads", "timm_backbone"]
