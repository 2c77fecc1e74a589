"""Branching: give layers of any network one copy per task, by name, without rewriting the network.

``layers``   which tensors a layer owns, and which modules must be copied for it
``state``    a backbone's tensors parted into shared ones and one branch per task, and put together again
``copying``  deep copies of networks that were in use
``following`` what was changed in the shared network, and how every task's follows
``effects``  what calling a module does beside returning its output
``structure`` values that modules take and return
``remembering`` a network run per task, but the modules that no branch touches once
``networks`` the networks of all tasks, which follow what is changed in the branched network
``init``     where the copies start from
``call``     one way of calling a backbone
``arguments`` the arguments of a call that is made again for every task
``values``   what flows through a backbone while it is traced
``leaves``   what a trace does not enter
``hooks``    hooks that a trace cannot hold
``python_state`` what a Python value holds, so that it can be compared later
``surroundings`` the globals and closures that functions read
``reads``    what a forward reads of Python state, and changes there
``trace``    a backbone's forward as a graph
``guard``    whether what a trace read is still the same
``memory``   which operations write into, or hand on, the memory of their inputs
``split``    that graph with what the tasks share run once and the rest once per task
``program``  that graph as a function
``programs`` the programs of a network, one for each way of calling it and each state it was called in
``running_statistics`` which statistics of shared norms every task needs for itself
``branched`` the module that holds all of it
``growth``   what branching costs in parameters, FLOPs and time
"""

from recon.branching.branched import BranchedModule, branch
from recon.branching.growth import Growth, growth

__all__ = ["BranchedModule", "Growth", "branch", "growth"]
