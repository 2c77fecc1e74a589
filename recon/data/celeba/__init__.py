"""CelebA: faces with 40 yes-or-no attributes, from prepared arrays to a data module.

They import files, tasks, and names of files from the layout of scenes.
"""

from recon.data.celeba.attributes import ATTRIBUTES, TASKS

__all__ = ["ATTRIBUTES", "TASKS"]
