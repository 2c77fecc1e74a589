"""Training in Lightning: the module, its callbacks, and branching from a configuration.

What the command line runs is here too. It imports everything but experiments.
"""

from recon.moved import renamed
from recon.training.branch_options import BranchOptions
from recon.training.callbacks import ConflictCallback
from recon.training.module import MultiTaskModule

__all__ = ["BranchOptions", "ConflictCallback", "MultiTaskModule"]

__getattr__ = renamed(__name__)
