"""What a network learns: a task's head outputs, loss and metrics; imports only the ground floor."""

from recon.tasks.task import Task, classification, depth, normals, segmentation

__all__ = ["Task", "classification", "depth", "normals", "segmentation"]
