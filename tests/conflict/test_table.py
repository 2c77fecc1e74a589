import math

import pytest
import torch
from small_maps import imported, measured

from recon.conflict import MeasuredMap, describe


def test_a_measured_map_is_described_by_rank() -> None:
    cmap = measured(conv1=2, bn1=9, fc=0)
    assert describe(cmap, -0.1).splitlines() == [
        f"{cmap!r}, severity -0.1",
        "rank  layer  score    rate  cosine  parameters  cumulative",
        "   1  bn1        9  0.9000  -0.139         200      33.33%",
        "   2  conv1      2  0.2000  -0.027         100      50.00%",
        "   3  fc         0  0.0000  +0.005         300     100.00%",
    ]


def test_a_layer_never_observed_is_described_without_a_cosine() -> None:
    nan = torch.tensor([[math.nan]], dtype=torch.float64)
    cmap = MeasuredMap({"fc": 1}, ["a", "b"], torch.zeros(1, 1, 200, dtype=torch.int64), nan, nan.expand(1, 2), {})
    assert describe(cmap, 0.0).splitlines()[-1].split() == ["1", "fc", "0", "0.0000", "-", "1", "100.00%"]


def test_an_imported_map_is_described_by_what_it_knows() -> None:
    assert describe(imported(bn1=4427, conv1=1944)).splitlines() == [
        "ImportedMap(published.json: 2 layers, severity -0.1), severity -0.1",
        "rank  layer  score",
        "   1  bn1     4427",
        "   2  conv1   1944",
    ]
    with pytest.raises(ValueError, match="no severity given"):
        describe(measured(a=1))
