"""Data modules: they say their tasks and their inputs' shape, and yield ``(x, {task: target})``.

They import files and tasks, and nothing of networks or training.
"""

from recon.data.celeba.module import CelebA
from recon.data.composites.glyph_attributes import GlyphAttributes
from recon.data.composites.glyphs import Glyphs
from recon.data.composites.multi_fashion import MultiFashion
from recon.data.composites.multi_fashion_mnist import MultiFashionMNIST
from recon.data.composites.multi_mnist import MultiMNIST
from recon.data.dense.cityscapes import CityScapes
from recon.data.dense.nyuv2 import NYUv2
from recon.data.dense.pascal_context import PascalContext
from recon.data.per_task import PerTask
from recon.data.rooms.module import Rooms
from recon.data.tabular.census_income import CensusIncome
from recon.data.tabular.yeast import Yeast
from recon.moved import renamed

__all__ = [
    "CelebA",
    "CensusIncome",
    "CityScapes",
    "GlyphAttributes",
    "Glyphs",
    "MultiFashion",
    "MultiFashionMNIST",
    "MultiMNIST",
    "NYUv2",
    "PascalContext",
    "PerTask",
    "Rooms",
    "Yeast",
]

__getattr__ = renamed(__name__)
