"""Small conflict maps with known scores."""

import torch

from recon.conflict import ImportedMap, MeasuredMap


def imported(severity: float = -0.1, **scores: int) -> ImportedMap:
    return ImportedMap(scores, severity, {"source": "published.json"})


def measured(**below: int) -> MeasuredMap:
    """A map of ten steps with so many cosines of -0.155 in each layer, the others at 0.005."""
    histogram = torch.zeros(len(below), 1, 200, dtype=torch.int64)
    histogram[:, 0, 84] = torch.tensor(list(below.values()))
    histogram[:, 0, 100] = 10 - histogram[:, 0, 84]
    mean = histogram[:, :, 84] * -0.016 + 0.005
    norms = torch.ones(len(below), 2, dtype=torch.float64)
    parameters = {layer: 100 * (i + 1) for i, layer in enumerate(below)}
    return MeasuredMap(parameters, ["digit", "fashion"], histogram, mean, norms, {"network": "LeNet"})
