"""The end of a search for conflict layers: when the selection no longer changes."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recon.conflict import DEFAULT_SEVERITY, DEFAULT_TOP
from recon.conflict.ranking import top_layers
from recon.conflict.severity import severity_in_hundredths
from recon.errors import number_of

CHECKS = 10
"""How often a selection is made within a window."""


@dataclass(frozen=True)
class Stable:
    """A selection that has been stable over a window of steps.

    The layers of highest score are selected ten times in each window. They are stable when every
    selection of the last window has the present layers, except for a few. Layers without any
    conflict are no selection.

    >>> Stable(window=200).changes
    1

    Args:
        window: Number of training steps.
        top: Number of layers that are selected.
        severity: Severity S of the scores.
        changes: How many of the present layers a selection within the window may lack.

    Raises:
        ValueError: A number is out of range, or the severity is off the grid.
    """

    window: int = 100
    top: int = DEFAULT_TOP
    severity: float = DEFAULT_SEVERITY
    changes: int = 1

    def __post_init__(self) -> None:
        severity_in_hundredths(self.severity)
        if self.window < CHECKS:
            raise ValueError(f"window is {self.window}; give a number of training steps from {CHECKS}")
        if self.top < 1:
            raise ValueError(f"top is {self.top}; give a number of layers from 1")
        if not 0 <= self.changes < self.top:
            raise ValueError(f"changes is {self.changes}; give a number of layers from 0 to less than top, {self.top}")

    @property
    def interval(self) -> int:
        """Steps from one selection to the next."""
        return self.window // CHECKS

    def check_layers(self, layers: Sequence[str]) -> None:
        """Refuse layers of which the selection can never change.

        Args:
            layers: Names of the layers of the network.

        Raises:
            ValueError: There are no more than are to be selected.
        """
        if self.top > len(layers):
            raise ValueError(
                f"stop.stable.top={self.top} of {number_of(len(layers), 'layer')}; give less than {len(layers)}"
            )
        if self.top == len(layers):
            raise ValueError(f"stop.stable.top={self.top} selects all layers, whatever the steps; give less")

    def check_steps(self, steps: float, every: int) -> None:
        """Refuse a training in which the selection can never be stable.

        Args:
            steps: Steps of the whole training, infinite if nobody knows them.
            every: The search observes each n-th step.

        Raises:
            ValueError: The window is no shorter than the training, or holds no two observed steps.
        """
        if self.window >= steps:
            raise ValueError(
                f"the window of stop.stable has {number_of(self.window, 'step')}, and the whole training "
                f"{steps:.0f}; give a shorter window, or a longer training"
            )
        if 2 * every > self.window:
            raise ValueError(
                f"the window of stop.stable has {number_of(self.window, 'step')}, of which every={every} observes "
                "fewer than two; give a longer window, or a smaller every"
            )


@dataclass(frozen=True)
class StopOptions:
    """When a search for conflict layers ends, before its training does.

    >>> StopOptions(stable=Stable(window=200)).stable.top
    25

    Args:
        stable: Ends it when the selection has been stable over a window of steps.
    """

    stable: Stable


class Selections:
    """The selections of the last window of a search.

    >>> selections = Selections(Stable(window=10, top=1, changes=0))
    >>> [selections.add(step, {"conv1": step, "fc": 4}) for step in (1, 5, 10, 15)]
    [False, False, False, True]

    Args:
        rule: When they are stable.
    """

    def __init__(self, rule: Stable) -> None:
        self.rule = rule
        self._past: deque[tuple[int, list[str]]] = deque()

    def add(self, step: int, scores: Mapping[str, int]) -> bool:
        """Add the selection at a step, and return whether the selections are stable.

        Args:
            step: Number of training steps so far.
            scores: Layer -> its score, in forward order.
        """
        layers = top_layers(scores, self.rule.top)
        if not scores[layers[-1]]:
            self._past.clear()
            return False
        self._past.append((step, layers))
        while len(self._past) > 1 and self._past[1][0] <= step - self.rule.window:
            self._past.popleft()
        if self._past[0][0] > step - self.rule.window:
            return False
        return all(len(set(layers) - set(past)) <= self.rule.changes for _, past in self._past)

    def state_dict(self) -> dict[str, Any]:
        """Return the selections of the window."""
        return {"past": [[step, list(layers)] for step, layers in self._past]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self._past = deque((step, list(layers)) for step, layers in state["past"])
