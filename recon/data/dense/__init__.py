"""Scenes with a target at every pixel, from their layout on disk to a data module; imports files and tasks."""

from recon.data.dense.module import DenseDataModule

__all__ = ["DenseDataModule"]
