"""Layers of any network, one copy per task, by name, without rewriting the network; imports gradients and tasks.

``branched``  the module that holds the network, its branches and its programs
``layers``    the tensors that a layer owns, and the modules that must be copied for it
``state``     a backbone's tensors: the shared ones and one branch per task, parted and joined
``init``      the values from which the copies start
``growth``    the cost of branching in parameters, FLOPs and time
``copying``   deep copies of networks that were in use
``call``      one way of calling a backbone
``values``    the values that flow through a backbone while it is traced
``leaves``    modules that a trace does not enter
``running_statistics``  statistics of shared norms that every task needs for itself

Three folders say how a branched network runs: ``graph`` if it can be traced, ``untraced`` if not, and ``reads`` whether
a trace still holds.
"""

from recon.branching.branched import BranchedModule, branch
from recon.branching.growth import Growth, growth
from recon.branching.init import NamedInit
from recon.branching.running_statistics import Statistics

__all__ = ["BranchedModule", "Growth", "NamedInit", "Statistics", "branch", "growth"]
