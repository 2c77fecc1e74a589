"""Small conflict maps with known scores."""

import json
from pathlib import Path
from typing import Any

import torch

from recon.conflict import ConflictMap, ImportedMap, MeasuredMap

# The head of the ranking published for ResNet-18 on Multi-Fashion+MNIST at S = -0.1, and a tie from
# its tail.
PUBLISHED = {
    "bn1": 4427,
    "layer1.0.bn1": 4168,
    "layer1.1.bn1": 3793,
    "conv1": 1944,
    "fc": 35,
    "layer3.0.conv1": 25,
    "layer1.0.conv2": 25,
    "layer4.1.conv2": 17,
}


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


def measured_map(**histograms: dict[int, int]) -> MeasuredMap:
    """A map of two tasks; a histogram is {lower edge in hundredths: observations}."""
    histogram = torch.zeros(len(histograms), 1, 200, dtype=torch.int64)
    means = torch.full((len(histograms), 1), torch.nan, dtype=torch.float64)
    for layer, bins in enumerate(histograms.values()):
        for hundredths, number in bins.items():
            histogram[layer, 0, hundredths + 100] = number
        if bins:
            means[layer, 0] = sum(i * number for i, number in bins.items()) / 100 / sum(bins.values())
    parameters = {layer: 10 * (i + 1) for i, layer in enumerate(histograms)}
    norms = torch.tensor([[0.5, torch.nan]] * len(histograms), dtype=torch.float64)
    return MeasuredMap(parameters, ["digit", "fashion"], histogram, means, norms, {"network": "LeNet", "seed": 0})


def searched_map(tasks: int) -> MeasuredMap:
    """A map of forty observed steps of random cosines in the layers a and b; b's first pair was
    never observed.
    """
    generator = torch.Generator().manual_seed(tasks)
    pairs = tasks * (tasks - 1) // 2
    cosines = (torch.randn(40, 2, pairs, generator=generator, dtype=torch.float64) * 0.2).clamp(-1, 1)
    histogram = torch.zeros(2, pairs, 200, dtype=torch.int64)
    for observed in cosines:
        histogram.scatter_add_(2, (observed * 100).floor().long().unsqueeze(2) + 100, torch.ones(2, pairs, 1).long())
    means = cosines.mean(dim=0)
    histogram[1, 0], means[1, 0] = 0, torch.nan
    names = [f"task{i}" for i in range(tasks)]
    norms = torch.rand(2, tasks, generator=generator, dtype=torch.float64)
    return MeasuredMap({"a": 3, "b": 4}, names, histogram, means, norms, {"network": "LeNet", "observed_steps": 40})


def record_of(cmap: ConflictMap, path: Path) -> dict[str, Any]:
    cmap.save(path)
    record = json.loads(path.read_text())
    assert isinstance(record, dict)
    return record


def changed(record: dict[str, Any], *keys: str | int, to: object) -> dict[str, Any]:
    inner: Any = record
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return record
