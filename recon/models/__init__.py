"""Backbones, architectures, and the heads on top of them.

They import tasks, gradients, branching and what stands on the ground floor; nothing of data or
training.
"""

from recon.models.architectures.bmtas.plan import BMTAS
from recon.models.architectures.catalogue import create_architecture, list_architectures
from recon.models.architectures.cgc import CGC
from recon.models.architectures.cross_stitch import CrossStitch
from recon.models.architectures.dselect_k import DSelectK
from recon.models.architectures.hard_sharing import hard_sharing
from recon.models.architectures.ltb import LTB
from recon.models.architectures.mmoe import MMoE
from recon.models.architectures.mtan import SegNetMTAN
from recon.models.architectures.ple import PLE
from recon.models.architectures.rotograd import RotatedHeads
from recon.models.architectures.staged_mtan import MTAN
from recon.models.backbones.dilated_resnet import DilatedResNet50
from recon.models.backbones.lenet import LeNet
from recon.models.backbones.mlp import MLP
from recon.models.backbones.mobilenet_v2 import MobileNetV2
from recon.models.backbones.resnet import FlatResNet18, ResNet18
from recon.models.backbones.segnet import SegNet
from recon.models.backbones.tabular_net import ColumnEmbedding, TabularNet
from recon.models.backbones.timm_backbone import timm_backbone
from recon.models.backbones.timm_pyramid import timm_pyramid
from recon.models.heads import heads_for, linear_heads
from recon.moved import renamed

__all__ = [
    "BMTAS",
    "CGC",
    "LTB",
    "MLP",
    "MTAN",
    "PLE",
    "ColumnEmbedding",
    "CrossStitch",
    "DSelectK",
    "DilatedResNet50",
    "FlatResNet18",
    "LeNet",
    "MMoE",
    "MobileNetV2",
    "ResNet18",
    "RotatedHeads",
    "SegNet",
    "SegNetMTAN",
    "TabularNet",
    "create_architecture",
    "hard_sharing",
    "heads_for",
    "linear_heads",
    "list_architectures",
    "timm_backbone",
    "timm_pyramid",
]

__getattr__ = renamed(__name__)
