"""The cost of branching, relative to the plain backbone."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from recon.branching.branched import BranchedModule
from recon.branching.copying import deep_copy
from recon.notebooks.table import table


@dataclass(frozen=True)
class Measure:
    """One quantity of a branched network and of its plain backbone.

    Each is of one forward that serves all tasks.
    """

    branched: float
    plain: float

    @property
    def ratio(self) -> float:
        """Branched over plain; 1 if both are zero."""
        return self.branched / self.plain if self.plain else 1.0


@dataclass(frozen=True)
class Growth:
    """The size and time of a branched network and of its backbone; prints as a table.

    Attributes:
        parameters: Parameters.
        flops: Floating-point operations of a forward; multiplications and additions count
            separately.
        seconds: Median time of a forward in evaluation, without gradients.

    Example:
        >>> growth = Growth(Measure(1.5e6, 1e6), Measure(3e9, 2e9), Measure(0.03, 0.02))
        >>> print(growth)
                          branched       plain   ratio
        parameters           1.5 M         1 M   1.500
        FLOPs                  3 G         2 G   1.500
        forward time         30 ms       20 ms   1.500
    """

    parameters: Measure
    flops: Measure
    seconds: Measure

    def __str__(self) -> str:
        rows = [("", "branched", "plain", "ratio"), *self._rows()]
        return "\n".join(f"{name:14}{branched:>12}{plain:>12}{ratio:>8}" for name, branched, plain, ratio in rows)

    def _repr_html_(self) -> str:
        return table("growth by branching", ["", "branched", "plain", "ratio"], self._rows())

    def _rows(self) -> list[tuple[str, str, str, str]]:
        measures = [
            ("parameters", self.parameters, 1e-6, "M"),
            ("FLOPs", self.flops, 1e-9, "G"),
            ("forward time", self.seconds, 1e3, "ms"),
        ]
        return [
            (name, f"{one.branched * scale:.4g} {unit}", f"{one.plain * scale:.4g} {unit}", f"{one.ratio:.3f}")
            for name, one, scale, unit in measures
        ]


def growth(branched: BranchedModule, *inputs: Any, repeats: int = 10) -> Growth:
    """Measure a branched network beside its plain backbone.

    Args:
        branched: The network; neither its flags nor its statistics change.
        *inputs: An example of its inputs, on its device.
        repeats: The number of timed forwards of each network, in turn.

    Example:
        >>> from recon.branching import branch
        >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> network = branch(backbone, ["2"], ["seg", "depth"])
        >>> measured = growth(network, torch.zeros(1, 4))
        >>> measured.parameters
        Measure(branched=76, plain=58)
        >>> measured.flops.ratio
        1.3333333333333333
    """
    networks = (deep_copy(branched).eval(), branched.extract(branched.tasks[0]).eval())
    with torch.no_grad():
        operations = [flops(network, *inputs) for network in networks]
        pairs = [[_seconds(network, inputs) for network in networks] for _ in range(repeats)]
    return Growth(
        Measure(*(sum(parameter.numel() for parameter in network.parameters()) for network in networks)),
        Measure(*operations),
        Measure(*(statistics.median(times) for times in zip(*pairs, strict=True))),
    )


def step_seconds(branched: nn.Module, plain: nn.Module, *inputs: Any, repeats: int = 10, limit: float = 2.0) -> Measure:
    """Measure the time of a training step: a forward for all tasks and a backward of all outputs.

    Args:
        branched: The branched network; it stays as it is.
        plain: The network without these branches; it stays as it is.
        *inputs: An example of a batch, on their device.
        repeats: The number of timed steps of each network, in turn.
        limit: Seconds after which no more steps are timed, beyond the first of each.

    Returns:
        The median times, in seconds.

    Example:
        >>> from recon.branching import branch
        >>> backbone = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> network = branch(backbone, ["2"], ["seg", "depth"])
        >>> step_seconds(network, backbone, torch.zeros(2, 4)).branched > 0
        True
    """
    networks = [deep_copy(network).train() for network in (branched, plain)]
    pairs: list[list[float]] = []
    end = time.perf_counter() + limit
    while len(pairs) < 2 or (len(pairs) <= repeats and time.perf_counter() < end):
        pairs.append([_seconds(_step, (network, *inputs)) for network in networks])
    return Measure(*(statistics.median(times[1:]) for times in zip(*pairs, strict=True)))


def _step(network: nn.Module, *inputs: Any) -> None:
    outputs = tree_leaves(network(*inputs))
    sums = [output.sum() for output in outputs if torch.is_tensor(output) and output.requires_grad]
    torch.stack(sums).sum().backward()


def flops(network: nn.Module, *inputs: Any) -> int:
    """The floating-point operations of a forward, as torch counts them: a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()


def _seconds(run: Callable[..., Any], inputs: tuple[Any, ...]) -> float:
    """The time of a call, with all that it starts on an accelerator."""
    tensors = [tensor for each in inputs for tensor in (each.parameters() if isinstance(each, nn.Module) else [each])]
    device = next((tensor.device for tensor in tensors if torch.is_tensor(tensor)), torch.device("cpu"))
    _wait(device)
    start = time.perf_counter()
    run(*inputs)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
