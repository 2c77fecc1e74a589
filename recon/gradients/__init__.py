"""The layers that tasks share, and the task gradients in them; imports only torch."""

from recon.gradients.buffer import TaskGradients
from recon.gradients.layers import all_layers, network_name, root_name, shared_layers

__all__ = ["TaskGradients", "all_layers", "network_name", "root_name", "shared_layers"]
