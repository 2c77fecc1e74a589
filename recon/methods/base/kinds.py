"""The three kinds of methods, which take the Gramian, the Jacobian or the losses."""

from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import torch
from torch import Tensor

from recon.methods.base.checks import check_gramian, check_jacobian, check_losses, check_update, check_weights
from recon.methods.base.grouped import WeighsGroups
from recon.methods.base.method import Method
from recon.methods.solvers.gramian import gramian_of
from recon.methods.solvers.resolution import gradients_in, products_in
from recon.methods.solvers.threads import one_thread


class GramianMethod(WeighsGroups):
    """A method that needs only the inner products of the task gradients.

    Subclasses write :meth:`weights`, which runs on the CPU. Buffers of the method stay on the CPU
    too: reading them from an accelerator would stall the step.

    Example:
        >>> import torch
        >>> class Mean(GramianMethod):
        ...     def weights(self, gramian, losses=None):
        ...         return torch.full((len(gramian),), 1 / len(gramian), dtype=torch.float64)
        >>> Mean().combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
        tensor([1., 2.])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "weights" in cls.__dict__:
            cls.weights = _checked_weights(cls.weights)  # type: ignore[method-assign]

    @abstractmethod
    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Weights of the task gradients in the update.

        Args:
            gramian: (K, K) inner products of the task gradients. A subclass receives it in float64
                on the CPU.
            losses: (K,), for methods that need them. A subclass receives them in float64 on the
                CPU.

        Returns:
            (K,), float64, on the CPU; the update is ``weights @ jacobian``.

        Raises:
            ValueError: The Gramian or the losses have another shape, or are not finite.
        """

    def weights_without(self, left_out: Tensor, gramians: Tensor, losses: Tensor) -> Tensor:
        """Weights in a step that some tasks take no part in: theirs are 0.

        Their state stands still, as if they were absent.

        Args:
            left_out: (K,), whether a task takes no part.
            gramians: (K, K), as for :meth:`weights`; of groups of layers (G, K, K).
            losses: (K,).

        Returns:
            (K,); of groups of layers (G, K).
        """
        weights, present = torch.zeros_like(gramians[..., 0]), (~left_out).nonzero().flatten()
        weigh = self.weights if gramians.ndim == 2 else self.weights_of_groups
        if len(present):
            with self.among(present.tolist()):
                weights[..., present] = weigh(gramians[..., present, :][..., present], losses[present])
        return weights

    def _kept(self, buffer: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
        return buffer

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,)."""
        check_jacobian(jacobian)
        with gradients_in(jacobian.dtype):
            weights = self.weights(gramian_of(jacobian), losses)
        return weights.to(jacobian) @ jacobian


class JacobianMethod(Method):
    """A method that needs the task gradients themselves.

    Subclasses write :meth:`combine`. In several processes each holds some columns of the Jacobian.
    A method that works element by element combines these; for others the whole rows are gathered.

    Attributes:
        elementwise: Whether each number of the update needs only its own column of the Jacobian,
            and the losses.

    Example:
        >>> import torch
        >>> class Largest(JacobianMethod):
        ...     def combine(self, jacobian, losses=None):
        ...         return jacobian.amax(dim=0)
        >>> Largest().combine(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
        tensor([2., 4.])
    """

    elementwise: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "combine" in cls.__dict__:
            cls.combine = _checked_combine(cls.combine)  # type: ignore[method-assign]
        if "combine_columns" in cls.__dict__:
            cls.combine_columns = _checked_combine_columns(cls.combine_columns)  # type: ignore[method-assign]

    def combine_columns(self, jacobian: Tensor, columns: slice, width: int, losses: Tensor | None = None) -> Tensor:
        """The update of some columns of the Jacobian, of an :attr:`elementwise` method.

        It equals these elements of the whole update. A method that draws random numbers draws for
        the whole width, and takes its columns.

        Args:
            jacobian: (K, n), the columns of a (K, width) Jacobian.
            columns: Their place in the whole.
            width: P, the number of columns of the whole.
            losses: (K,), for methods that need them.

        Returns:
            (n,).

        Example:
            >>> import torch
            >>> from recon import create_method
            >>> jacobian = torch.tensor([[1.0, 0.0], [2.0, 5.0], [9.0, 3.0]])
            >>> create_method("trimmed_mean").combine_columns(jacobian[:, 1:], slice(1, 2), width=2)
            tensor([3.])
        """
        return self.combine(jacobian, losses)


class LossMethod(Method):
    """A method that weights the losses and needs one backward.

    Subclasses write :meth:`loss_weights`.

    Example:
        >>> import torch
        >>> class Inverse(LossMethod):
        ...     def loss_weights(self, losses):
        ...         return 1 / losses
        >>> jacobian = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
        >>> Inverse().combine(jacobian, losses=torch.tensor([2.0, 1.0]))
        tensor([1., 4.])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "loss_weights" in cls.__dict__:
            cls.loss_weights = _checked_loss_weights(cls.loss_weights)  # type: ignore[method-assign]

    @abstractmethod
    def loss_weights(self, losses: Tensor) -> Tensor:
        """Weights of the losses, (K,) -> (K,), on the losses' device.

        Raises:
            ValueError: The losses are not a vector, or not finite.
        """

    def objective(self, losses: Tensor) -> Tensor:
        """The scalar to differentiate, from the (K,) losses with their graph.

        The weights count as constants. A method whose objective has more terms overrides this.
        """
        return (self.loss_weights(losses.detach()) * losses).sum()

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,)."""
        check_jacobian(jacobian)
        if losses is None:
            raise ValueError(f"{self} weights tasks by their losses; pass losses")
        check_losses(losses, tasks=jacobian.shape[0])
        return self.loss_weights(losses.detach()).detach().to(jacobian) @ jacobian


def _checked_weights(weights: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(weights)
    def checked(self: GramianMethod, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        computed_in = gramian.dtype
        gramian = check_gramian(gramian)
        self._serve(len(gramian))
        if losses is not None:
            losses = losses.detach().to("cpu", torch.float64)
            check_losses(losses, tasks=gramian.shape[0])
        with one_thread(len(gramian)), products_in(computed_in):
            result = weights(self, gramian, losses)
        check_weights(result, gramian.shape[0], self)
        return result.to("cpu", torch.float64)

    return checked


def _checked_combine(combine: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(combine)
    def checked(self: JacobianMethod, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        _admit(self, jacobian, losses)
        result = combine(self, jacobian, losses)
        check_update(result, jacobian.shape[1], self)
        return result

    return checked


def _checked_combine_columns(combine_columns: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(combine_columns)
    def checked(
        self: JacobianMethod, jacobian: Tensor, columns: slice, width: int, losses: Tensor | None = None
    ) -> Tensor:
        _admit(self, jacobian, losses)
        result = combine_columns(self, jacobian, columns, width, losses)
        check_update(result, jacobian.shape[1], self)
        return result

    return checked


def _admit(method: JacobianMethod, jacobian: Tensor, losses: Tensor | None) -> None:
    """Check the arguments of a Jacobian method, and bind it to its tasks."""
    check_jacobian(jacobian)
    method._serve(len(jacobian))
    if losses is not None:
        check_losses(losses, tasks=jacobian.shape[0])


def _checked_loss_weights(loss_weights: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(loss_weights)
    def checked(self: LossMethod, losses: Tensor) -> Tensor:
        check_losses(losses)
        self._serve(len(losses))
        result = loss_weights(self, losses)
        check_weights(result, losses.shape[0], self)
        return result

    return checked
