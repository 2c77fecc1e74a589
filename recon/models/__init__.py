"""Backbones, architectures, and the heads on top of them.

They import tasks, gradients and what stands on the ground floor; nothing of data or training.
"""

from recon.models.architectures.mtan import SegNetMTAN
from recon.models.backbones.dilated_resnet import DilatedResNet50
from recon.models.backbones.lenet import LeNet
from recon.models.backbones.resnet import ResNet18
from recon.models.backbones.segnet import SegNet
from recon.models.backbones.tabular_net import TabularNet
from recon.models.backbones.timm_backbone import timm_backbone
from recon.models.backbones.timm_pyramid import timm_pyramid
from recon.models.heads import heads_for, linear_heads
from recon.moved import renamed

__all__ = [
    "DilatedResNet50",
    "LeNet",
    "ResNet18",
    "SegNet",
    "SegNetMTAN",
    "TabularNet",
    "heads_for",
    "linear_heads",
    "timm_backbone",
    "timm_pyramid",
]

__getattr__ = renamed(__name__)
