"""The shared part of a network, with the task gradients in it."""

from torch import Tensor, nn

from recon.engine.protocols import Analyzer
from recon.gradients.buffer import TaskGradients
from recon.gradients.layers import all_layers, shared_layers


class SharedPart:
    """The parameters that tasks share, the buffer of task gradients, and their observer.

    Args:
        module: The shared part of the network, plain or branched.
        tasks: K, the number of tasks.

    Attributes:
        module: The module.
        parameters: All parameters of its shared layers at the start, frozen ones too.

    Raises:
        ValueError: There are no parameters.
    """

    def __init__(self, module: nn.Module, tasks: int) -> None:
        self.module = module
        self.parameters = [p for layer in all_layers(module).values() for p in layer]
        if not self.parameters:
            raise ValueError("the shared module has no trainable parameters; pass the part that the tasks share")
        self._tasks = tasks
        self._gradients: TaskGradients | None = None
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
    def gradients(self) -> TaskGradients:
        """The buffer of task gradients, made at first use.

        It is made again when the network has been moved, cast or unfrozen.
        """
        layers = shared_layers(self.module)
        if self._gradients is None or not self._gradients.is_for(layers):
            if self._analyzer is not None:
                self._analyzer.follow(self.module)
            self._gradients = TaskGradients(layers, self._tasks)
        return self._gradients

    def trains(self) -> bool:
        """Whether some of the shared part is not frozen."""
        return any(p.requires_grad for p in self.parameters) or bool(shared_layers(self.module))

    def trainable(self) -> set[Tensor]:
        """The parameters of the shared layers that are not frozen."""
        return {parameter for layer in shared_layers(self.module).values() for parameter in layer}
