"""What the tasks share, layer by layer, and the task gradients in it; imports only the ground floor."""

from recon.gradients.buffer import TaskGradients
from recon.gradients.layers import all_layers, network_name, root_name, shared_layers

__all__ = ["TaskGradients", "all_layers", "network_name", "root_name", "shared_layers"]
