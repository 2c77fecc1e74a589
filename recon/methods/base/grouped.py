"""Weights for groups of layers, as if each group had a method of its own.

The hyperparameters, the learned parameters and the random generator of a method serve all groups.
Its buffers have a first dimension for the groups, except those that concern the losses alone.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recon.errors import number_of
from recon.methods.base.checks import check_gramians, check_losses, check_weights_of_groups, naming_group
from recon.methods.base.method import Method
from recon.methods.solvers.gramian import Array
from recon.methods.solvers.pairs import regular_pairs
from recon.methods.solvers.resolution import products_in
from recon.methods.solvers.threads import one_thread


def _checked(weights: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(weights)
    def checked(self: "WeighsGroups", gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        computed_in = gramians.dtype
        gramians = check_gramians(gramians)
        groups, tasks, _ = gramians.shape
        self._serve(tasks)
        self.bind_groups(groups)
        if losses is not None:
            losses = losses.detach().to("cpu", torch.float64)
            check_losses(losses, tasks=tasks)
        with one_thread(tasks), products_in(computed_in):
            result = weights(self, gramians, losses)
        check_weights_of_groups(result, groups, tasks, self)
        return result.to("cpu", torch.float64)

    return checked


class WeighsGroups(Method):
    """Mixin for methods that weigh the tasks in several groups of layers, each by itself.

    :meth:`weights_of_groups` calls ``weights`` group by group, with the group's own state. A method
    that weighs all groups at once overrides it; a method with a formula for two tasks overrides
    :meth:`weights_of_pairs`.

    Attributes:
        state_of_losses: Names of buffers that concern the losses alone, which all groups share.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> opposed, agreeing = [[1.0, -0.5], [-0.5, 1.0]], [[1.0, 0.5], [0.5, 1.0]]
        >>> create_method("pcgrad").weights_of_groups(torch.tensor([opposed, agreeing]))
        tensor([[1.5000, 1.5000],
                [1.0000, 1.0000]], dtype=torch.float64)
    """

    state_of_losses: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "weights_of_groups" in cls.__dict__:
            cls.weights_of_groups = _checked(cls.weights_of_groups)  # type: ignore[method-assign]

    @abstractmethod
    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients in one group; see :class:`recon.GramianMethod`."""

    def bind_groups(self, groups: int) -> None:
        """Give each group of layers a state of its own, equal to the present state.

        :class:`recon.Engine` and ``MultiTaskModule`` call this after :meth:`bind`. A method without
        state does nothing.

        Args:
            groups: G, the number of groups, >= 1.

        Raises:
            ValueError: The method already has the state of another number of groups.

        Example:
            >>> from recon import create_method
            >>> method = create_method("modo")
            >>> method.bind(tasks=2)
            >>> method.bind_groups(3)
            >>> method.simplex_weights.shape
            torch.Size([3, 2])
        """
        if (bound := bound_groups(self)) is not None:
            if bound != groups:
                raise ValueError(
                    f"{self} has the state of {number_of(bound, 'group')} of layers, got {groups}; create a new "
                    "method for these"
                )
            return
        if self._present is not None and any(state_of_groups(self)):
            raise ValueError(f"{self} is among some of its tasks, and groups of layers concern all; bind them before")
        for module in [*self.modules()]:
            state = [name for owner, name in state_of_groups(module) if owner is module]
            for name in state:
                buffer = module.get_buffer(name)
                setattr(module, name, buffer.expand(groups, *buffer.shape).clone())
            if isinstance(module, WeighsGroups) and any(state_of_groups(module)):
                module.register_buffer(_GROUPS, torch.tensor(groups))

    @_checked
    def weights_of_groups(self, gramians: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients in each group of layers.

        Random methods draw for one group after the other. The state of the groups is made when
        first used, unless :meth:`bind_groups` has made it.

        Args:
            gramians: (G, K, K), the Gramian of each group. A subclass receives them in float64 on
                the CPU.
            losses: (K,), for methods that need them. A subclass receives them in float64 on the
                CPU.

        Returns:
            (G, K), float64, on the CPU.

        Raises:
            ValueError: The Gramians or the losses have another shape, or are not finite.
        """
        weights = torch.zeros(gramians.shape[:2], dtype=torch.float64)
        served = self._serve_pairs(gramians.numpy(), losses, weights.numpy())
        state = [*state_of_groups(self)]
        for group in np.flatnonzero(~served).tolist():
            with naming_group(group), _shown(state, group):
                weights[group] = self.weights(gramians[group], losses)
        return weights

    def weights_of_pairs(self, norms: Array, cosines: Array, losses: Tensor | None = None) -> Array | None:
        """The weights of many pairs of tasks, by a formula; ``None`` for methods without one.

        A method with state has none.

        Args:
            norms: (N, 2), positive.
            cosines: (N,), not nearly -1 or 1.
            losses: (2,), for methods that need them.

        Returns:
            (N, 2).
        """
        return None

    def _serve_pairs(self, gramians: Array, losses: Tensor | None, weights: Array) -> NDArray[np.bool_]:
        """Set the weights (G, 2) of regular pairs by the formula, and return which they are."""
        if gramians.shape[1] != 2:
            return np.zeros(len(gramians), dtype=bool)
        regular, norms, cosines = regular_pairs(gramians)
        values = self.weights_of_pairs(norms, cosines, losses)
        if values is None:
            return np.zeros(len(gramians), dtype=bool)
        weights[regular] = values
        return regular

    @contextmanager
    def among_groups(self, groups: Sequence[int]) -> Iterator[None]:
        """Show the state of some groups alone for a ``with`` block; the others' stands still.

        Args:
            groups: Indices of the groups, which :meth:`weights_of_groups` gets in this order.

        Example:
            >>> import torch
            >>> from recon import create_method
            >>> method = create_method("modo")
            >>> method.bind(tasks=2)
            >>> method.bind_groups(3)
            >>> with method.among_groups([1]):
            ...     weights = method.weights_of_groups(torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]))
            >>> method.simplex_weights
            tensor([[0.5000, 0.5000],
                    [0.4500, 0.5500],
                    [0.5000, 0.5000]], dtype=torch.float64)
        """
        state = [*state_of_groups(self)]
        if not state:
            yield
            return
        markers = [module for module in self.modules() if _GROUPS in module._buffers]
        counts = [module.get_buffer(_GROUPS) for module in markers]
        try:
            for module in markers:
                setattr(module, _GROUPS, torch.tensor(len(groups)))
            with _shown(state, list(groups)):
                yield
        finally:
            for module, count in zip(markers, counts, strict=True):
                setattr(module, _GROUPS, count)


_GROUPS = "groups"


def bound_groups(method: nn.Module) -> int | None:
    """The number of groups that a method has a state of, or ``None``."""
    held = method._buffers.get(_GROUPS)
    return None if held is None else int(held)


def state_of_groups(method: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Owner and name of each buffer, of a method and the modules in it, that groups have each."""
    for module in method.modules():
        shared = (*getattr(module, "state_of_losses", ()), _GROUPS)
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in shared:
                yield module, name


@contextmanager
def _shown(state: Sequence[tuple[nn.Module, str]], index: int | list[int]) -> Iterator[None]:
    """Show the state of one group, or of several, for a ``with`` block; its changes are kept."""
    held = [(module, name, module.get_buffer(name)) for module, name in state]
    try:
        for module, name, whole in held:
            module._buffers[name] = whole[index]
        yield
        for module, name, whole in held:
            whole[index] = module.get_buffer(name).to(whole)
    finally:
        for module, name, whole in held:
            module._buffers[name] = whole
