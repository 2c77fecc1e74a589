"""Data modules: each has its ``tasks`` and its ``input_shape``, and yields ``(x, {task: target})``."""

from recon.data.cityscapes import CityScapes
from recon.data.glyphs import Glyphs
from recon.data.multi_fashion_mnist import MultiFashionMNIST
from recon.data.nyuv2 import NYUv2
from recon.data.scenes import Scenes

__all__ = ["CityScapes", "Glyphs", "MultiFashionMNIST", "NYUv2", "Scenes"]
