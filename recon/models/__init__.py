"""Backbones, each with its ``num_features``, and the heads that stand on them."""

from recon.models.dilated_resnet import DilatedResNet50
from recon.models.heads import heads_for, linear_heads
from recon.models.lenet import LeNet
from recon.models.mtan import SegNetMTAN
from recon.models.resnet import ResNet18
from recon.models.segnet import SegNet
from recon.models.timm_backbone import timm_backbone
from recon.models.timm_pyramid import timm_pyramid

__all__ = [
    "DilatedResNet50",
    "LeNet",
    "ResNet18",
    "SegNet",
    "SegNetMTAN",
    "heads_for",
    "linear_heads",
    "timm_backbone",
    "timm_pyramid",
]
