"""BMTAS: a network whose tasks choose among copies of its stages.

It imports backbones' contract, branching and gradients.

``plan``      the architecture, before its tasks are known
``network``   the network of some tasks, and the choices of copies
``copies``    the copies that stand in place of a stage
``expected``  the expected number of copies of each stage
``costs``     the operations of a stage
"""
