"""The search for conflict layers: it may end early, and may run on a proxy."""

from typing import Any

import pytorch_lightning as pl

from recon.conflict import MeasuredMap
from recon.conflict.certainty import describe_certainty, selection_probabilities
from recon.conflict.stretches import LEAST
from recon.errors import number_of
from recon.training.callbacks import ConflictCallback
from recon.training.module import MultiTaskModule
from recon.training.searching.proxy import Proxy
from recon.training.searching.steps import steps_of_training
from recon.training.searching.stopping import Selections, StopOptions


class ConflictSearch(ConflictCallback):
    """Observes conflicts, ends the training when the selection is stable, and says how sure it is.

    Args:
        every: Observe each n-th step.
        path: File of the conflict map.
        stop: When to end; ``None`` trains to the end.
        proxy: The network that is trained in place of ``network``.
        network: The network for which the map is, if there is a proxy.

    Raises:
        ValueError: When training begins: the selection can never be stable.
    """

    def __init__(
        self,
        every: int,
        path: str,
        stop: StopOptions | None = None,
        proxy: Proxy | None = None,
        network: MultiTaskModule | None = None,
    ) -> None:
        super().__init__(every, path)
        self.rule = None if stop is None else stop.stable
        self.proxy, self.network = proxy, network
        self.stopped_at: int | None = None
        self.found: MeasuredMap | None = None
        self._selections = None if self.rule is None else Selections(self.rule)

    @property
    def state_key(self) -> str:
        """That of the parent: a checkpoint of either is one of a search."""
        return ConflictCallback.__qualname__

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.rule is not None:
            assert self.analyzer is not None
            self.rule.check_layers(self.analyzer.layers)
            self.rule.check_steps(steps_of_training(trainer, trainer.num_training_batches), self.every)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.rule is None or self._selections is None or trainer.should_stop or not self._has_observed():
            return
        step = trainer.global_step
        if step % self.rule.interval == 0:
            assert self.analyzer is not None
            scores = self.analyzer.conflict_map().scores(self.rule.severity)
            if self._selections.add(step, scores):
                self.stopped_at, trainer.should_stop = step, True

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._selections is None or not state else {**state, "stop": self._selections.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self._selections is not None and "stop" in state_dict:
            self._selections.load_state_dict(state_dict["stop"])

    def finished(self, cmap: MeasuredMap) -> MeasuredMap:
        if self.proxy is not None and self.network is not None:
            self.proxy.hand_over(cmap, self.network)
        if self.rule is not None:
            rule = self.rule
            cmap.provenance["stop"] = {
                "window": rule.window,
                "top": rule.top,
                "severity": rule.severity,
                "changes": rule.changes,
                "stopped_at": self.stopped_at,
            }
            assert cmap.stretches is not None
            if len(cmap.stretches.steps) >= LEAST:
                cmap.provenance["selection"] = selection_probabilities(cmap, rule.top, rule.severity)
        self.found = cmap
        return cmap

    def report(self) -> str:
        """How the search ended, and how sure its selection is; empty without a rule to stop."""
        if self.rule is None or self.found is None:
            return ""
        rule, cmap = self.rule, self.found
        few = "the same" if not rule.changes else f"the same but for {rule.changes} at most"
        ends = (
            f"the top {rule.top} at severity {rule.severity} were {few} over the last "
            f"{number_of(rule.window, 'step')}: the search ended after step {self.stopped_at}"
            if self.stopped_at is not None
            else f"the top {rule.top} at severity {rule.severity} were not stable over "
            f"{number_of(rule.window, 'step')}: the search went to the end of the training"
        )
        if "selection" not in cmap.provenance:
            return ends
        return f"{ends}\n{describe_certainty(cmap, rule.top, rule.severity)}"
