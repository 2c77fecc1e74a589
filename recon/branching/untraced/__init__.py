"""Networks that torch.fx cannot trace: they run once per task, modules before a branch once.

Imports ``reads`` and the files of the folder above.

A module runs once if no branch touches it and all tasks call it with the very same tensors; its
output is remembered until the call ends. Its hooks run for every task. Modules that set their own
attributes, computations between modules, and everything inside activation checkpoints run for every
task.

``networks``     the networks of all tasks, which follow changes of the branched network
``following``    changes of a module, carried over to the tasks' modules
``remembering``  outputs of modules, remembered during one call
``identities``   tensors that count as the same value in one call
``effects``      side effects of calling a module
``arguments``    the arguments of a call that is made again for every task
``structure``    tensors in containers of any kind
"""
