"""What a network learns: a task's head outputs, loss and metrics; imports only the ground floor."""

from recon.tasks.per_image import classification
from recon.tasks.per_pixel import Aggregation, depth, normals, segmentation
from recon.tasks.task import Task

__all__ = ["Aggregation", "Task", "classification", "depth", "normals", "segmentation"]
