"""The shared part of a network, with the task gradients in it."""

from typing import Any

from torch import Tensor, nn

from recon.engine.protocols import Analyzer
from recon.gradients.layers import all_layers, shared_layers
from recon.gradients.layout import Layout
from recon.gradients.processes import Processes
from recon.gradients.sharded import Gradients, gradients_for


class SharedPart:
    """The parameters that tasks share, the buffer of task gradients, and their observer.

    Args:
        module: The shared part of the network, plain or branched.
        tasks: K, the number of tasks.
        whole_rows: Whether the method needs whole rows of the Jacobian in each process.
        process_group: The processes that share a step; ``None`` for the default group.

    Attributes:
        module: The module.
        parameters: All parameters of its shared layers at the start, frozen ones too.

    Raises:
        ValueError: There are no parameters.
    """

    def __init__(self, module: nn.Module, tasks: int, whole_rows: bool = False, process_group: Any = None) -> None:
        self.module = module
        self.parameters = [p for layer in all_layers(module).values() for p in layer]
        if not self.parameters:
            raise ValueError("the shared module has no trainable parameters; pass the part that the tasks share")
        self._tasks = tasks
        self._gradients: Gradients | None = None
        self._layout: Layout | None = None
        self._group = process_group
        self._whole_rows = whole_rows
        self._processes = Processes(process_group)
        self._analyzer: Analyzer | None = None

    @property
    def analyzer(self) -> Analyzer | None:
        """The observer of conflicts; it learns the layers when it is set and when they change."""
        return self._analyzer

    @analyzer.setter
    def analyzer(self, analyzer: Analyzer | None) -> None:
        if analyzer is not None:
            analyzer.follow(self.module)
        self._analyzer = analyzer

    @property
    def processes(self) -> Processes:
        """The processes that take part in a step."""
        if not self._processes.current:  # the group was initialised after the engine was made
            self._processes, self._gradients = Processes(self._group), None
        return self._processes

    @property
    def gradients(self) -> Gradients:
        """The buffer of task gradients, made at first use.

        It is made again when the network has been moved, cast or unfrozen.
        """
        layers, processes = shared_layers(self.module), self.processes
        if self._gradients is None or not self._gradients.is_for(layers):
            if self._analyzer is not None:
                self._analyzer.follow(self.module)
            self._gradients = gradients_for(layers, self._tasks, processes, self._whole_rows)
        return self._gradients

    @property
    def layout(self) -> Layout:
        """The layout that task gradients would have in a buffer, as the layers are now."""
        layers = shared_layers(self.module)
        if self._layout is None or not self._layout.is_for(layers):
            if self._analyzer is not None:
                self._analyzer.follow(self.module)
            self._layout = Layout(layers)
        return self._layout

    def trains(self) -> bool:
        """Whether some of the shared part is not frozen."""
        return any(p.requires_grad for p in self.parameters) or bool(shared_layers(self.module))

    def trainable(self) -> dict[Tensor, None]:
        """The parameters of the shared layers that are not frozen, in order."""
        return dict.fromkeys(parameter for layer in shared_layers(self.module).values() for parameter in layer)
