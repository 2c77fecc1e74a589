"""Fast adaptive multitask optimization (FAMO).

Liu, Feng, Stone & Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1.

    update c Σ z_i g_i / (L_i - b_i),   z = softmax(w),  c = 1 / Σ z_i / (L_i - b_i)
    after the step, with the losses L' of the same batch:
        w descends along J_z'δ,  δ_i = log(L_i - b_i) - log(L'_i - b_i)

Needs losses above b, and one backward. Needs the losses once more after the step, without a
backward: train with :meth:`recon.Engine.step`, as :class:`recon.MultiTaskModule` does, or call
:meth:`FAMO.update` yourself. The state is w and its Adam. The update is a convex combination of
task gradients (mean scale).

As in the published code, the second forward runs in training mode and on the whole batch, so batch
statistics are updated twice. The published code adds 1e-8 to each L_i - b_i; we refuse losses below
b. A task whose loss is at b, as the authors advise for a task without labels, takes no part.

Works without accumulation: the second forward is of one batch.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from recon.methods.base.checks import check_positive
from recon.methods.base.hyperparameters import check_number
from recon.methods.base.kinds import LossMethod
from recon.methods.base.learned_weights import LearnedWeights
from recon.methods.base.per_task import PerTaskMethod, check_numbers, numbers_like
from recon.methods.base.registry import register_method
from recon.methods.base.state import StatefulMethod
from recon.methods.base.step_engine import Closure, Info, StepEngine


@register_method("famo")
class FAMO(PerTaskMethod, StatefulMethod, LossMethod):
    """The losses, weighted so that all of them fall at the same relative rate.

    Args:
        lr: Learning rate of the Adam that moves w, >= 0. The default is the paper's.
        weight_decay: Pull of w towards zero, >= 0. The default is the paper's; the published code
            has 1e-5.
        lower_bounds: b, a bound below each loss, in task order; zeros by default.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> method = create_method("famo")
        >>> losses = torch.tensor([2.0, 1.0])
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses)
        tensor([0.6667, 1.3333])
        >>> method.update(losses, after=torch.tensor([1.0, 0.9]))  # the first loss fell faster
        >>> method.combine(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]), losses)
        tensor([0.6116, 1.3554])
    """

    evaluates_again = True
    per_task = ("lower_bounds",)
    simplex: LearnedWeights

    def __init__(
        self, lr: float = 0.025, weight_decay: float = 1e-3, lower_bounds: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.lr = check_number("famo", "lr", lr, low=0)
        self.weight_decay = check_number("famo", "weight_decay", weight_decay, low=0)
        self.lower_bounds = check_numbers("famo", "lower_bounds", lower_bounds, low=-inf)

    def make_state(self, tasks: int) -> None:
        self.simplex = LearnedWeights(tasks, self.lr, self.weight_decay)

    def loss_weights(self, losses: Tensor) -> Tensor:
        """A point of the simplex, (K,)."""
        above = self._above_bounds(losses)
        rates = torch.where(above == 0, 0, self.simplex().to(losses) / above)
        return torch.where(above == 0, 0, rates / rates.sum())

    def step(self, engine: StepEngine[Info], closure: Closure, optimizer: torch.optim.Optimizer) -> Info:
        """Step the network, then step w by the losses after it."""
        info = super().step(engine, closure, optimizer)
        if info.overflow or len(info.losses) == 1 < len(engine.tasks):  # one task trains plainly
            return info
        torch.clear_autocast_cache()  # the weights it holds are those before the step
        with torch.no_grad():
            losses = closure()
        with self.among([engine.tasks.index(task) for task in info.losses]):
            self.update(torch.stack(list(info.losses.values())), engine.loss_values(losses))
        return info

    def update(self, before: Tensor, after: Tensor) -> None:
        """Move w by the losses (K,) of one batch before and after a step of the network.

        A task whose loss is at its bound takes no part.
        """
        self._serve(len(before))
        before, after = self._above_bounds(before), self._above_bounds(after)
        self.simplex.descend(before.log() - after.log(), left_out=(before == 0) | (after == 0))

    def _above_bounds(self, losses: Tensor) -> Tensor:
        differences = losses - numbers_like(losses, self.lower_bounds, default=0)
        check_positive("famo", differences)
        return differences
