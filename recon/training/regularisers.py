"""Terms that parts of a network add to the losses of their tasks, such as a gate's entropy."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from recon.branching import BranchedModule
from recon.gradients.wrappers import unwrapped
from recon.models.contract import has_regulariser


def regularised(losses: Mapping[str, Tensor], network: nn.Module, single: bool) -> dict[str, Tensor]:
    """The losses with the regularisers of each task's own modules, from the last forward.

    Args:
        losses: Task -> loss.
        network: The network. Modules in a task's branch belong to that task. Modules that several
            tasks share add nothing.
        single: Whether it is the network of a single task, to which all modules belong.
    """
    return {task: sum(_terms(network, None if single else task), loss) for task, loss in losses.items()}


def _terms(network: nn.Module, task: str | None) -> Iterator[Tensor]:
    for module in _of_task(unwrapped(network), task).modules():
        if has_regulariser(module) and (term := module.regulariser()) is not None:
            yield term


def _of_task(network: nn.Module, task: str | None) -> nn.Module:
    if task is None:
        return network
    return network.branches[task] if isinstance(network, BranchedModule) else nn.Module()
