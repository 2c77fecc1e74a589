"""Networks with parts of each task's own, one file each, and the list of their names.

They import backbones, tasks, gradients, and the traces of branching.

``catalogue``  the architectures by name
``parts``      copies of a backbone, mixtures and gates
``stages``     a backbone's forward that stops after named stages
``columns``    one backbone per task, run side by side
``bmtas``      copies of stages, among which every task chooses
"""
