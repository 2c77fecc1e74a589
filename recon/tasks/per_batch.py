"""Metrics as the mean over batches, for comparison with papers that report them so."""

import torch
from torch import Tensor
from torchmetrics import Metric

from recon.tasks.losses import valid_items


class PerBatch(Metric):
    """Unweighted mean over batches of a metric's value on each, as in older papers.

    It depends on the batch size. A batch without any truth does not count.

    Args:
        name: The metric's name, different from those of other metrics in a ``MetricCollection``.
        metric: The metric.
    """

    full_state_update = False

    def __init__(self, name: str, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        # Named for the metric, see the head of recon.tasks.metrics.
        self.state = f"{name}_total_and_batches"
        self.add_state(self.state, torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """As the metric."""
        return self.metric.higher_is_better

    @property
    def plot_lower_bound(self) -> float | None:  # type: ignore[override]
        """The least value there is, as of the metric."""
        return self.metric.plot_lower_bound

    @property
    def plot_upper_bound(self) -> float | None:  # type: ignore[override]
        """The greatest value there is, as of the metric."""
        return self.metric.plot_upper_bound

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch, in the form that the metric takes."""
        if valid_items(target).any():
            value = self.metric(prediction.detach(), target).double()
            setattr(self, self.state, getattr(self, self.state) + torch.stack([value, torch.ones_like(value)]))

    def compute(self) -> Tensor:
        """The mean over the batches that count; without any, the metric's value without truth."""
        total, batches = getattr(self, self.state)
        return total / batches if batches else self._without_truth().double()

    def _without_truth(self) -> Tensor:
        self.metric.reset()  # it holds the batches of before, and no value is taken of them
        value: Tensor = type(self.metric).compute(self.metric)  # that of the class: it does not warn
        return value
