"""Copies of layers of any network, one per task or group; the network's code does not change.

It imports gradients and tasks.

``branched``  the module that holds the network, its branches and its programs
``summary``   the text that a branched network prints as
``groups``    groups of tasks that share a copy
``notebook``  its layers as notebooks show them
``sharing``   which tasks share which module or tensor
``layers``    the tensors that a layer owns, and the modules that must be copied for it
``state``     a backbone's tensors: the shared ones, and one branch per task
``init``      the start values of the copies
``task_tree`` which tasks share which stages, found by a search and kept as a file
``growth``    the cost of branching in parameters, FLOPs and time
``norms``     the norm layers of a network
``prices``    the cost of each layer, before anything is branched
``copying``   deep copies of networks that were in use
``call``      one way of calling a backbone
``values``    the values that flow through a backbone while it is traced
``leaves``    modules that a trace does not enter
``running_statistics``  statistics of shared norms that every task needs for itself

Three folders hold the ways to run a branched network. ``graph`` traces it, ``untraced`` runs
networks that cannot be traced, and ``reads`` decides whether a trace still holds.
"""

from recon.branching.branched import BranchedModule, branch
from recon.branching.groups import Groups
from recon.branching.growth import Growth, growth
from recon.branching.init import NamedInit
from recon.branching.prices import Prices, layer_prices
from recon.branching.running_statistics import Statistics
from recon.branching.task_tree import TaskTree

__all__ = [
    "BranchedModule",
    "Groups",
    "Growth",
    "NamedInit",
    "Prices",
    "Statistics",
    "TaskTree",
    "branch",
    "growth",
    "layer_prices",
]
