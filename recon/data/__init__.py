"""Data modules: each has its ``tasks`` and its ``input_shape``, and yields ``(x, {task: target})``."""

from recon.data.glyphs import Glyphs
from recon.data.multi_fashion_mnist import MultiFashionMNIST

__all__ = ["Glyphs", "MultiFashionMNIST"]
