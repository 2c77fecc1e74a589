"""Training in Lightning: the module, its callbacks, and branching from a configuration."""

from recon.training.branch_options import Branching
from recon.training.callbacks import ConflictCallback
from recon.training.module import MultiTaskModule

__all__ = ["Branching", "ConflictCallback", "MultiTaskModule"]
