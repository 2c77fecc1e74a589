"""Rows of categories and numbers, from the official files to a data module.

They import files and tasks.
"""

from recon.data.tabular.module import Rows, TabularModule

__all__ = ["Rows", "TabularModule"]
