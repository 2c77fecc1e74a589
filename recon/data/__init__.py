"""Data modules: each has its ``tasks`` and its ``input_shape``, and yields ``(x, {task: target})``."""

from recon.data.composites.glyphs import Glyphs
from recon.data.composites.multi_fashion_mnist import MultiFashionMNIST
from recon.data.dense.cityscapes import CityScapes
from recon.data.dense.nyuv2 import NYUv2
from recon.data.rooms.module import Scenes

__all__ = ["CityScapes", "Glyphs", "MultiFashionMNIST", "NYUv2", "Scenes"]
