"""The conflict analyzer: streaming statistics of the cosines between task gradients, on the device they are born on.

A step's per-layer Gramians hold all that is needed: with g_i the gradient of task i in one layer,

    cosine(i, j) = <g_i, g_j> / sqrt(<g_i, g_i> <g_j, g_j>)

A pair with a zero, missing or non-finite gradient has no cosine and is not counted. An observation costs about twenty
small kernels and no transfer to the host; the statistics leave the device when a map or a checkpoint is made of them.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from recon.conflict.followed import FollowedLayers
from recon.conflict.measured import MeasuredMap
from recon.conflict.provenance import now
from recon.conflict.severity import BIN_EDGES, BINS
from recon.names import check_task_names, unknown_name
from recon.parts import Shared, as_one_module
from recon.precision import in_double
from recon.version import __version__

# Squared norms from here up (infinity, overflow of a product of two) and NaN count as a missing gradient.
LARGEST_SQUARE = 1e150


# The histogram of 128 tasks has 8,128 pairs x 200 bins a layer; no run has 2^31 steps.
_COUNTS = torch.int32


class ConflictAnalyzer:
    """Watches the task gradients of the shared layers in training, and makes a conflict map of what it saw.

    Example:
        >>> from torch import nn
        >>> backbone = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> analyzer = ConflictAnalyzer(backbone, tasks=["seg", "depth"])
        >>> analyzer.layers
        ('0', '2')

    Args:
        shared: The module that the tasks share, or several, as :class:`recon.Engine` takes them; its layers are those
            of `recon.gradients.shared_layers`.
        tasks: The names of the K >= 2 tasks, in the order of the Gramians' rows.
        every: Observe each ``every``-th step, the first included.

    Layers that are frozen are not observed; those that thaw while the engine trains are, from then on.

    Attributes:
        tasks: The task names.

    Raises:
        ValueError: Fewer than two tasks, a task name that is not allowed, no parameters, or ``every`` below 1.
    """

    def __init__(self, shared: Shared, tasks: Sequence[str], every: int = 1) -> None:
        self.tasks = check_task_names(tasks)
        if len(self.tasks) < 2:
            raise ValueError(f"tasks={tasks!r}; a conflict takes two or more tasks")
        if type(every) is not int or every < 1:
            raise ValueError(f"every={every!r}; give a whole number of steps from 1")
        self._followed = FollowedLayers(as_one_module(shared))
        self.every = every
        self.reset()

    @property
    def network(self) -> str:
        """Class name of the network."""
        return self._followed.network

    @property
    def parameters(self) -> dict[str, int]:
        """Layer -> the number of its parameters that have been trained so far."""
        return self._followed.parameters

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the L layers that have been trained so far, in forward order."""
        return tuple(self.parameters)

    @property
    def observed_steps(self) -> int:
        """How many steps have been observed."""
        return self._observed_steps

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.network}: {len(self.layers)} layers; tasks: {', '.join(self.tasks)}; "
            f"every={self.every}; {self._observed_steps} of {self._steps} steps observed)"
        )

    def reset(self) -> None:
        """Forget every step so far."""
        self._steps = 0
        self._observed_steps = 0
        pairs = list(combinations(range(len(self.tasks)), 2))
        # Made on the host: i / 100 on a GPU is a multiplication by a reciprocal there, and off the grid by an ulp.
        self._edges = torch.tensor(BIN_EDGES[1:-1], dtype=torch.float64)
        self._first, self._second = torch.tensor(pairs).T.contiguous()
        self._inner = self._first * len(self.tasks) + self._second
        self._statistics = self._no_statistics()

    def _no_statistics(self) -> dict[str, Tensor]:
        layers, tasks, pairs = len(self.layers), len(self.tasks), len(self._first)
        device = self._edges.device
        return {
            "histogram": torch.zeros(layers, pairs, BINS, dtype=_COUNTS, device=device),
            "cosine_sums": torch.zeros(layers, pairs, dtype=torch.float64, device=device),
            "norm_sums": torch.zeros(layers, tasks, dtype=torch.float64, device=device),
            "norm_counts": torch.zeros(layers, tasks, dtype=torch.int64, device=device),
        }

    def follow(self, shared: nn.Module) -> None:
        """Learn which layers the Gramians to come are of: the trainable ones of the shared part.

        Layers that have thawed since are observed from now on; those that have frozen keep what was seen of them.

        Raises:
            ValueError: The analyzer was made for another network.
        """
        before = self.layers
        self._followed.update(shared)
        self._make_room(before)

    def _make_room(self, before: Sequence[str]) -> None:
        """Statistics of the layers that there are now, from those of the layers before."""
        if self.layers == tuple(before):
            return
        old, self._statistics = self._statistics, self._no_statistics()
        places = [self.layers.index(name) for name in before]
        for name, grown in self._statistics.items():
            grown[places] = old[name]

    def observes(self) -> bool:
        """Count a step, and return whether it is one to observe."""
        self._steps += 1
        return (self._steps - 1) % self.every == 0

    def retract(self) -> None:
        """Uncount the step that has begun: it was refused, and another takes its place."""
        self._steps -= 1

    @torch.no_grad()
    def observe(self, layer_gramians: Tensor) -> None:
        """Add the Gramians of one step to the statistics, which move to their device.

        Args:
            layer_gramians: (L, K, K), real inner products of the task gradients in each of `layers`, or of those that
                :meth:`follow` found trainable; any device and precision. A zero on the diagonal is a gradient that is
                zero or missing.
        """
        expected = (len(self._followed.trained), len(self.tasks), len(self.tasks))
        if layer_gramians.shape != expected:
            raise ValueError(f"layer Gramians of shape {tuple(layer_gramians.shape)}; give (L, K, K) = {expected}")
        if layer_gramians.is_complex():
            raise ValueError("layer Gramians are complex; of complex gradients give the real inner products Re <g, h>")
        gramians = self._of_all_layers(in_double(layer_gramians))
        self._move_to(gramians.device)
        self._observed_steps += 1
        squares = gramians.diagonal(dim1=1, dim2=2)
        squares = torch.where(squares < LARGEST_SQUARE, squares, 0.0)
        self._add_norms(squares)
        products = squares.index_select(1, self._first) * squares.index_select(1, self._second)
        # One root of the product: exact for every rational cosine, which a product of two rounded roots is not.
        self._add_cosines(gramians.flatten(1).index_select(1, self._inner) / products.sqrt())

    def conflict_map(self, *, network: str | None = None, **provenance: Any) -> MeasuredMap:
        """Return the conflict map of the steps so far.

        Args:
            network: The network's name; its class by default.
            **provenance: What else to keep with the map: ``dataset``, ``seed``, ... Text, numbers, lists, dictionaries.

        Raises:
            RuntimeError: No step has been observed.
            ValueError: A provenance key that the analyzer fills in itself.
            TypeError: A provenance value that JSON cannot hold.
        """
        if not self._observed_steps:
            raise RuntimeError("no step observed, so no conflict map; pass the analyzer to the engine and train first")
        measured = {
            "steps": self._steps,
            "observed_steps": self._observed_steps,
            "every": self.every,
            "recon": __version__,
            "torch": torch.__version__,
            "created": now(),
        }
        for key in provenance.keys() & measured.keys():
            raise ValueError(f"provenance {key}={provenance[key]!r} is for the analyzer to fill in; use another key")
        statistics = self._statistics
        return MeasuredMap(
            self.parameters,
            self.tasks,
            statistics["histogram"].to("cpu", torch.int64, copy=True),
            # Rounding takes parallel gradients beyond 1, and their mean must not follow.
            (statistics["cosine_sums"] / statistics["histogram"].sum(dim=2)).clamp(-1, 1),
            statistics["norm_sums"] / statistics["norm_counts"],
            {"network": network or self.network, **provenance, **measured},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, on the CPU, with the names they belong to: tensors, numbers and lists of names."""
        return {
            "layers": list(self.layers),
            "tasks": list(self.tasks),
            "every": self.every,
            "steps": self._steps,
            "observed_steps": self._observed_steps,
            **{name: tensor.to("cpu", copy=True) for name, tensor in self._statistics.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: The state is of other layers, tasks or ``every``, or its tensors do not fit them.
        """
        missing = {"layers", "tasks", "every", "steps", "observed_steps", *self._statistics} - state.keys()
        if missing:
            raise ValueError(f"the state lacks {', '.join(sorted(missing))}; give what state_dict() returned")
        before = self.layers
        self._followed.add(state["layers"])
        self._make_room(before)
        _check_same_names("layer", state["layers"], self.layers, self.network)
        _check_same_names("task", state["tasks"], self.tasks, "the analyzer")
        if state["every"] != self.every:
            raise ValueError(f"the state was recorded with every={state['every']}, not {self.every}; use that")
        for name, own in self._statistics.items():
            if state[name].shape != own.shape:
                given, expected = tuple(state[name].shape), tuple(own.shape)
                raise ValueError(f"{name} of the state has shape {given}, not {expected}; use an intact checkpoint")
        self._steps = state["steps"]
        self._observed_steps = state["observed_steps"]
        for name, own in self._statistics.items():
            own.copy_(state[name])

    def _of_all_layers(self, gramians: Tensor) -> Tensor:
        """Gramians of the layers that are trained now as those of all, zero where a layer is frozen."""
        if self._followed.trained == self.layers:
            return gramians
        every = gramians.new_zeros(len(self.layers), *gramians.shape[1:])
        every[[self.layers.index(name) for name in self._followed.trained]] = gramians
        return every

    def _move_to(self, device: torch.device) -> None:
        if self._edges.device != device:
            self._statistics = {name: tensor.to(device) for name, tensor in self._statistics.items()}
            self._edges = self._edges.to(device)
            self._first, self._second, self._inner = (
                index.to(device) for index in (self._first, self._second, self._inner)
            )

    def _add_norms(self, squares: Tensor) -> None:
        self._statistics["norm_sums"] += squares.sqrt()
        self._statistics["norm_counts"] += squares > 0

    def _add_cosines(self, cosines: Tensor) -> None:
        valid = cosines.abs() < torch.inf  # isfinite in two kernels, not four
        cosines = torch.where(valid, cosines, 0.0)
        bins = torch.bucketize(cosines, self._edges, right=True)
        self._statistics["histogram"].scatter_add_(2, bins.unsqueeze(2), valid.to(_COUNTS).unsqueeze(2))
        self._statistics["cosine_sums"] += cosines


def _check_same_names(kind: str, given: Sequence[str], own: Sequence[str], where: str) -> None:
    for name in given:
        if name not in own:
            raise unknown_name(kind, name, own, where)
    if tuple(given) != tuple(own):
        absent = [repr(name) for name in own if name not in given]
        problem = f"lacks {', '.join(absent)}" if absent else f"has the order {', '.join(given)}"
        raise ValueError(f"the state {problem}; load one recorded with the {kind}s {', '.join(own)}, in this order")
