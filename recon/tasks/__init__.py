"""Tasks: name, head outputs, loss and metrics.

They import only what stands on the ground floor.
"""

from recon.tasks.masks import edges, saliency
from recon.tasks.per_image import classification
from recon.tasks.per_pixel import Aggregation, depth, normals, parts, segmentation
from recon.tasks.per_sample import binary, multilabel, regression
from recon.tasks.task import Task

__all__ = [
    "Aggregation",
    "Task",
    "binary",
    "classification",
    "depth",
    "edges",
    "multilabel",
    "normals",
    "parts",
    "regression",
    "saliency",
    "segmentation",
]
