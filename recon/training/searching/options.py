"""The settings of a search by BMTAS, as a command line or a configuration gives them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from recon.models import BMTAS
from recon.models.architectures.bmtas.plan import check_choices
from recon.models.architectures.stages import check_not_a_name


@dataclass(frozen=True)
class BMTASOptions:
    """How BMTAS searches for a task tree; the defaults are those of the authors' code.

    >>> from recon.models import LeNet
    >>> network = BMTASOptions(stages=["conv1", "conv2"]).network(LeNet(), ["digit", "letter"])
    >>> type(network).__name__
    'BMTASNetwork'

    Args:
        stages: Modules of the backbone, by their paths, in the order in which they run. Each is
            shared or parted as a whole.
        resource_weight: Weight of the resource loss beside each task's loss: the expected number of
            operations of the stages for one sample, in GFLOPs; a multiply-add is two.
        copies: Number of copies of each stage; by default one for each task.
        temperatures: First and last temperature of the Gumbel-softmax, which falls linearly.
        warm_up: Share of the epochs in which only weights learn and tasks share nothing; one epoch
            at least, 0 for none.
        share: Share of the training samples by which the choices learn, held out from the weights.
        lr: Learning rate of the choices, for their own Adam.
        weight_decay: Weight decay of the choices.

    Raises:
        ValueError: A number is out of range.
    """

    stages: Sequence[str]
    resource_weight: float = 0.05
    copies: int | None = None
    temperatures: tuple[float, float] = (5.0, 0.1)
    warm_up: float = 0.05
    share: float = 0.2
    lr: float = 0.01
    weight_decay: float = 5e-5

    def __post_init__(self) -> None:
        check_choices(self.copies, self.temperatures, self.warm_up)
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; it must be a part of the training samples, between 0 and 1")
        for name in ("resource_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr is {self.lr}; it must be positive")

    def network(self, backbone: nn.Module, tasks: Sequence[str]) -> nn.Module:
        """The network to search with.

        Args:
            backbone: The backbone; copies of its stages start from its weights.
            tasks: Names of the tasks, two or more.

        Raises:
            ValueError: There is one task, or a stage is refused.
        """
        if len(tasks) < 2:
            raise ValueError(f"a task tree needs two tasks or more, and there is {', '.join(tasks) or 'none'}")
        check_not_a_name(self.stages)
        return BMTAS(backbone, list(self.stages), self.copies, self.temperatures, self.warm_up).for_tasks(tasks)
