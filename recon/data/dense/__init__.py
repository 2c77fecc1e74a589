"""Scenes with a target at every pixel, from the layout on disk to a data module.

They import files and tasks.
"""

from recon.data.dense.module import DenseDataModule

__all__ = ["DenseDataModule"]
