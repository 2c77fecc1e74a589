import pytest
import torch
from torch import nn
from torchmetrics import MeanAbsoluteError

from recon.tasks.per_pixel import depth
from recon.tasks.task import Task
from recon.training.evaluation import EvaluationMetrics


def test_metrics_are_named_for_stage_and_task() -> None:
    metrics = EvaluationMetrics([depth("near"), depth("far")])
    metrics.of("val", "far").update(torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 1, 1), 2.0))
    assert metrics.of("val", "far").compute() == {"val/far/absolute_error": 1.0, "val/far/relative_error": 0.5}


@pytest.mark.parametrize("cast", ["to", "bfloat16", "half"])
def test_sums_keep_their_precision_when_the_network_loses_it(cast: str) -> None:
    own = Task("own", nn.functional.l1_loss, lambda: {"error": MeanAbsoluteError()}, 1)
    metrics = EvaluationMetrics([own, depth("depth")])
    metrics.to(torch.bfloat16) if cast == "to" else getattr(metrics, cast)()
    ones = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)
    for batch in range(600):  # counted in bfloat16, 256 + 1 is 256
        for task in ("own", "depth"):
            metrics.of("val", task).update(ones * (1 + batch % 2), ones)
    assert metrics.of("val", "own").compute()["val/own/error"].item() == 0.5
    assert metrics.of("val", "depth").compute()["val/depth/absolute_error"].item() == 0.5


def test_metrics_follow_the_network_to_its_device() -> None:
    metrics = EvaluationMetrics([depth("depth")])
    nn.Sequential(nn.Linear(1, 1), metrics).to("meta")
    assert metrics.of("val", "depth").absolute_error.sum_abs_error.is_meta  # type: ignore[union-attr]
