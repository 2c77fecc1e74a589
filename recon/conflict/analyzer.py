"""The conflict analyzer: streaming statistics of the cosines between task gradients.

The Gramians of a step hold all that the statistics need. With g_i the gradient of task i in one
layer,

    cosine(i, j) = <g_i, g_j> / sqrt(<g_i, g_i> <g_j, g_j>)

A pair with a zero, missing or non-finite gradient has no cosine and is not counted. An observation
costs about twenty small kernels on the gradients' device and no transfer to the host. Statistics
leave the device when a map or a checkpoint is made of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.conflict.followed import FollowedLayers
from recon.conflict.measured import MeasuredMap
from recon.conflict.provenance import now
from recon.conflict.statistics import CosineStatistics
from recon.errors import number_of, unknown_name
from recon.gradients.layers import number_of_layers
from recon.gradients.parts import Shared, as_one_module
from recon.gradients.precision import in_double
from recon.tasks.names import check_task_names
from recon.version import __version__


class ConflictAnalyzer:
    """Observes the task gradients of shared layers in training, and makes a conflict map of them.

    Frozen layers are not observed. Layers that thaw while the engine trains are observed from then
    on.

    Args:
        shared: The module that the tasks share, or several, as :class:`recon.Engine` takes them.
            Its layers are those of ``recon.gradients.shared_layers``.
        tasks: The names of the K >= 2 tasks, in the order of the Gramians' rows.
        every: Observe each ``every``-th step, the first included.

    Attributes:
        tasks: The task names.

    Raises:
        ValueError: Fewer than two tasks, a task name that is not allowed, no parameters, or
            ``every`` below 1.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import recon
        >>> backbone = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> analyzer = recon.ConflictAnalyzer(backbone, tasks=["seg", "depth"])
        >>> output = backbone(torch.ones(1, 2)).sum()
        >>> losses = {"seg": output, "depth": -2 * output}  # opposed in every layer
        >>> engine = recon.Engine(backbone, ["seg", "depth"], method="joint", analyzer=analyzer)
        >>> _ = engine.backward(losses)
        >>> analyzer.conflict_map().scores(severity=-0.1)
        {'0': 1, '2': 1}
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
        """The number of observed steps."""
        return self._observed_steps

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.network}: {number_of_layers(self.layers)}; tasks: {', '.join(self.tasks)}; "
            f"every={self.every}; {self._observed_steps} of {number_of(self._steps, 'step')} observed)"
        )

    def reset(self) -> None:
        """Forget every step so far."""
        self._steps = 0
        self._observed_steps = 0
        self._statistics = CosineStatistics(len(self.layers), len(self.tasks))

    def follow(self, shared: nn.Module) -> None:
        """Record which layers of the shared part are trained, for the Gramians to come.

        Layers that have thawed since the last call are observed from now on. Layers that have
        frozen keep their statistics.

        Raises:
            ValueError: The analyzer was made for another network.
        """
        before = self.layers
        self._followed.update(shared)
        self._make_room(before)

    def _make_room(self, before: Sequence[str]) -> None:
        """Extend the statistics of the layers before to the layers of now."""
        if self.layers != tuple(before):
            self._statistics.make_room(len(self.layers), [self.layers.index(name) for name in before])

    def observes(self) -> bool:
        """Count a step, and return whether it is to be observed."""
        self._steps += 1
        return (self._steps - 1) % self.every == 0

    def retract(self) -> None:
        """Uncount the present step, which was refused and will be repeated."""
        self._steps -= 1

    @torch.no_grad()
    def observe(self, layer_gramians: Tensor) -> None:
        """Add the Gramians of one step to the statistics, which move to their device.

        Args:
            layer_gramians: (L, K, K), real inner products of the task gradients in each of
                ``layers``, or in each layer that :meth:`follow` found trainable; any device and
                precision. A zero on the diagonal means that the gradient is zero or missing.
        """
        expected = (len(self._followed.trained), len(self.tasks), len(self.tasks))
        if layer_gramians.shape != expected:
            raise ValueError(f"layer Gramians of shape {tuple(layer_gramians.shape)}; give (L, K, K) = {expected}")
        if layer_gramians.is_complex():
            raise ValueError("layer Gramians are complex; of complex gradients give the real inner products Re <g, h>")
        self._observed_steps += 1
        self._statistics.add(self._followed.in_all_layers(in_double(layer_gramians)))

    def conflict_map(self, *, network: str | None = None, **provenance: Any) -> MeasuredMap:
        """Return the conflict map of the steps so far.

        Args:
            network: The network's name; its class by default.
            **provenance: Additional provenance to keep with the map, such as ``dataset`` or
                ``seed``: text, numbers, lists, dictionaries.

        Raises:
            RuntimeError: No step has been observed.
            ValueError: The analyzer itself fills in this provenance key.
            TypeError: JSON cannot hold a provenance value.

        Example:
            >>> import torch
            >>> analyzer = ConflictAnalyzer(torch.nn.Linear(2, 2), tasks=["seg", "depth"])
            >>> analyzer.observe(torch.tensor([[[1.0, -0.5], [-0.5, 1.0]]]))  # cosine -0.5
            >>> analyzer.conflict_map(dataset="NYUv2")
            MeasuredMap(Linear: 1 layer, tasks seg, depth, 1 observed step)
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
        statistics = self._statistics.tensors
        return MeasuredMap(
            self.parameters,
            self.tasks,
            statistics["histogram"].to("cpu", torch.int64, copy=True),
            # Rounding takes cosines of parallel gradients beyond 1; their mean must not be.
            (statistics["cosine_sums"] / statistics["histogram"].sum(dim=2)).clamp(-1, 1),
            statistics["norm_sums"] / statistics["norm_counts"],
            {"network": network or self.network, **provenance, **measured},
            self._statistics.stretches(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics on the CPU, by name: tensors, numbers and lists of names."""
        return {
            "layers": list(self.layers),
            "tasks": list(self.tasks),
            "every": self.every,
            "steps": self._steps,
            "observed_steps": self._observed_steps,
            **self._statistics.on_host(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``.

        Raises:
            ValueError: The state has other layers, tasks or ``every``, or its tensors do not fit
                them.
        """
        missing = {"layers", "tasks", "every", "steps", "observed_steps", *self._statistics.tensors} - state.keys()
        if missing:
            raise ValueError(f"the state lacks {', '.join(sorted(missing))}; give what state_dict() returned")
        before = self.layers
        self._followed.add(state["layers"])
        self._make_room(before)
        _check_same_names("layer", state["layers"], self.layers, self.network)
        _check_same_names("task", state["tasks"], self.tasks, "the analyzer")
        if state["every"] != self.every:
            raise ValueError(f"the state was recorded with every={state['every']}, not {self.every}; use that")
        self._statistics.load(dict(state))
        self._steps = state["steps"]
        self._observed_steps = state["observed_steps"]


def _check_same_names(kind: str, given: Sequence[str], own: Sequence[str], where: str) -> None:
    for name in given:
        if name not in own:
            raise unknown_name(kind, name, own, where)
    if tuple(given) != tuple(own):
        absent = [repr(name) for name in own if name not in given]
        problem = f"lacks {', '.join(absent)}" if absent else f"has the order {', '.join(given)}"
        raise ValueError(f"the state {problem}; load one recorded with the {kind}s {', '.join(own)}, in this order")
