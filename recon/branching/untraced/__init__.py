"""A backbone that cannot be traced, run once per task; modules that no branch touches run once.

``remembering``  a network run per task, whose shared modules remember their outputs
``networks``     the networks of all tasks, which follow changes of the branched network
``following``    changes of the shared network, and how every task's network follows them
``effects``      effects of calling a module beside its output
``structure``    nested values that modules take and return
``arguments``    arguments of a call that is made again for every task
"""
