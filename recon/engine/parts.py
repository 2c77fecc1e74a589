"""The parts of an engine that can be looked at, and set between steps."""

from torch import nn

from recon.engine.checks import At
from recon.engine.evaluations import Evaluations
from recon.engine.groups import Granularity
from recon.engine.memory import Memory
from recon.engine.protocols import Analyzer
from recon.engine.setting import UpdateScale
from recon.methods import Method


class EngineParts(Evaluations):
    """An engine's shared part, method, analyzer and count of steps."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._setting})"

    @property
    def shared(self) -> nn.Module:
        """The shared part of the network; several modules have become one."""
        return self._setting.shared.module

    @property
    def method(self) -> Method:
        """The multi-task optimizer."""
        return self._setting.method

    @property
    def update_scale(self) -> UpdateScale:
        """The scale of the update, as asked for."""
        return self._setting.update_scale

    @property
    def at(self) -> At:
        """Where the method takes the task gradients."""
        return self._setting.at

    @property
    def memory(self) -> Memory:
        """The memory that task gradients may take."""
        return self._setting.memory

    @property
    def granularity(self) -> Granularity:
        """The groups of layers that the method weighs each by itself, as asked for."""
        return self._setting.granularity

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of these groups, in the order of ``StepInfo.weights``; none for all together."""
        return () if self._setting.groups is None else self._setting.groups.names

    @property
    def step_count(self) -> int:
        """Number of the next step, from 0; a resumed run sets it."""
        return self._setting.step_count

    @step_count.setter
    def step_count(self, step_count: int) -> None:
        self._setting.step_count = step_count

    @property
    def analyzer(self) -> Analyzer | None:
        """The observer of conflicts, or ``None``; it may be set between steps.

        Raises:
            ValueError: It was made for other tasks or another network.
        """
        return self._setting.shared.analyzer

    @analyzer.setter
    def analyzer(self, analyzer: Analyzer | None) -> None:
        if analyzer is not None and tuple(analyzer.tasks) != self.tasks:
            raise ValueError(
                f"the analyzer was made for tasks {list(analyzer.tasks)}, the engine for {list(self.tasks)}"
            )
        self._setting.shared.analyzer = analyzer

    def check_finite(self) -> None:
        """Raise if a loss or gradient has not been finite.

        On accelerators :meth:`backward` looks every 100 steps only, since a look stalls the step.

        Raises:
            ValueError: One was not; the error names it and the first step.
        """
        self._setting.watches.check()
