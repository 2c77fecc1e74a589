"""Training in Lightning: the module, its callbacks, and branching from a configuration.

The trainer of the command line is here too. It may import everything but experiments and cli.
"""

from recon.moved import renamed
from recon.training.branch_options import BranchOptions
from recon.training.callbacks import ConflictCallback
from recon.training.live_view import LiveView
from recon.training.module import MultiTaskModule
from recon.training.rotation_options import RotationOptions

__all__ = ["BranchOptions", "ConflictCallback", "LiveView", "MultiTaskModule", "RotationOptions"]

__getattr__ = renamed(__name__)
