"""What a multi-task optimizer is: it turns task gradients and losses into one update direction.

Three kinds, by what they need: the K x K Gramian of the task gradients, the K x P Jacobian itself, or only the K
losses. A new method subclasses one of them and writes one function; what enters and leaves that function is checked
here.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from recon.gradients.precision import widest_dtype
from recon.methods.base.checks import check_gramian, check_jacobian, check_losses, check_update, check_weights
from recon.methods.solvers.gramian import gramian_of
from recon.methods.solvers.resolution import gradients_in, products_in
from recon.methods.solvers.threads import one_thread


class Method(nn.Module, ABC):
    """Base of all methods.

    Its buffers are state and its parameters are learnable; both reach the checkpoint, and the parameters the optimizer,
    by being here.

    Attributes:
        scale: What K equal task gradients g are combined to: about K g (``"sum"``) or about g (``"mean"``).
        evaluates_again: Whether it works through :meth:`step` alone, which evaluates the losses more than once.
    """

    scale: ClassVar[Literal["sum", "mean"]] = "mean"
    evaluates_again: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._doubles: set[str] = set()  # buffers that are float64 wherever a device has it

    @abstractmethod
    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """Combine the task gradients into one update direction.

        Args:
            jacobian: (K, P), one task gradient a row.
            losses: (K,), for methods that need them.

        Returns:
            (P,), in the Jacobian's dtype and on its device.

        Raises:
            ValueError: The Jacobian or the losses are not of these shapes, or not finite.
        """

    def bind(self, tasks: int) -> None:
        """Learn the number of tasks before the first step; :class:`recon.Engine` and ``MultiTaskModule`` call this.

        A method that keeps something of each task makes it here (see :class:`StatefulMethod`), in time for the
        optimizer and the checkpoint; the others have nothing to do.
        """

    def end_epoch(self) -> None:
        """Learn that an epoch of training is over, for methods that go by epochs; most have nothing to do.

        ``MultiTaskModule`` calls this. In a training loop of your own, call it after each epoch.
        """

    def step(self, engine: Any, closure: Callable[..., Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> Any:
        """Make one training step; methods that evaluate the losses more than once override this.

        Args:
            engine: The :class:`recon.Engine` that turns losses into gradients.
            closure: Evaluates the batch at hand and returns task -> loss.
            optimizer: Steps along the gradients.

        Returns:
            What the engine's ``backward`` returns.
        """
        optimizer.zero_grad()
        info = engine.backward(closure())
        optimizer.step()
        return info

    def reseed(self, seed: int) -> None:
        """Start the method's randomness anew; a method without randomness has nothing to do."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the network, but keep the precision of buffers: sums over many steps would stall in bfloat16."""
        before = dict(self.named_buffers())
        self._doubles |= {name for name, buffer in before.items() if buffer.dtype == torch.float64}
        super()._apply(_as_the_device_allows(fn), recurse)
        for name, buffer in before.items():
            owner, _, own_name = name.rpartition(".")
            module = self.get_submodule(owner)
            moved = module.get_buffer(own_name)
            dtype = widest_dtype(moved.device) if name in self._doubles else buffer.dtype
            setattr(module, own_name, self._kept(buffer, moved, dtype))
        return self

    def _kept(self, buffer: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
        """What becomes of a buffer that has been moved and cast, and is to be of this dtype."""
        if moved.dtype == dtype or buffer.is_meta:
            return moved.to(dtype)
        return buffer.to(moved.device, dtype)

    def extra_repr(self) -> str:
        names = [name for name in inspect.signature(type(self)).parameters if hasattr(self, name)]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class RandomMethod(Method):
    """Mixin for methods that draw random numbers, from a generator of their own that the checkpoint carries.

    The generator lives on the CPU. Numbers on another device come from :meth:`generator_on`, which is seeded from it,
    so that one state says it all and a run can be resumed on any device.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError(f"{type(self).__name__}: seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def generator_on(self, device: torch.device) -> torch.Generator:
        """A fresh generator on the device, seeded with the next number of the method's own."""
        seed = torch.randint(2**63 - 1, (), generator=self.generator).item()
        return torch.Generator(device).manual_seed(int(seed))

    def get_extra_state(self) -> Tensor:
        """State of the generator, for ``state_dict``."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from the state in a ``state_dict``, whatever device that was mapped to."""
        self.generator.set_state(state.cpu())


class StatefulMethod(Method):
    """Mixin for methods that keep something of each task from step to step: subclasses write :meth:`make_state`.

    State loads from a checkpoint into a method that is bound to its tasks, or to none yet.

    Attributes:
        tasks: K, or ``None`` before the method is bound.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks: int | None = None

    @abstractmethod
    def make_state(self, tasks: int) -> None:
        """Register buffers and parameters, each a scalar or with the K tasks as its first dimension.

        A buffer of the Jacobian's shape is registered empty, (K, 0), and read by :meth:`tracked`.
        """

    def bind(self, tasks: int) -> None:
        """Make the state of K tasks.

        Raises:
            ValueError: The method already serves another number of tasks.
        """
        if self.tasks is None:
            self.make_state(tasks)
            self.tasks = tasks
        elif self.tasks != tasks:
            raise ValueError(f"{self} has the state of {self.tasks} tasks, got {tasks}; create a new method for these")

    def tracked(self, name: str, jacobian: Tensor) -> Tensor:
        """The buffer of this name in the shape of the (K, P) Jacobian; zeros when first read.

        Raises:
            ValueError: It already has another shape.
        """
        buffer = self.get_buffer(name)
        if buffer.numel() == 0:
            buffer = torch.zeros_like(jacobian)
        elif buffer.shape != jacobian.shape:
            raise ValueError(
                f"{self} tracks gradients of {buffer.shape[1]} parameters, got {jacobian.shape[1]}; "
                "create a new method when the shared parameters change"
            )
        setattr(self, name, buffer.to(jacobian))
        return self.get_buffer(name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        per_task = [value for key, value in saved.items() if not key.endswith("_extra_state") and value.ndim > 0]
        if self.tasks is None and per_task:
            self.bind(len(per_task[0]))
        for name, buffer in self.named_buffers(recurse=False):
            if name in saved and 0 in (buffer.numel(), saved[name].numel()):
                setattr(self, name, torch.zeros_like(saved[name], device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class GramianMethod(Method):
    """A method that needs only the inner products of the task gradients: subclasses write :meth:`weights`.

    It is solved on the CPU, and its buffers stay there: to read them from an accelerator would stall the step.

    Example:
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
            gramian: (K, K) inner products of the task gradients. A subclass receives it in float64 on the CPU.
            losses: (K,), for methods that need them. A subclass receives them in float64 on the CPU.

        Returns:
            (K,), float64, on the CPU; the update is ``weights @ jacobian``.

        Raises:
            ValueError: The Gramian or the losses are not of these shapes, or not finite.
        """

    def _kept(self, buffer: Tensor, moved: Tensor, dtype: torch.dtype) -> Tensor:
        return buffer

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,)."""
        check_jacobian(jacobian)
        with gradients_in(jacobian.dtype):
            weights = self.weights(gramian_of(jacobian), losses)
        return weights.to(jacobian) @ jacobian


class JacobianMethod(Method):
    """A method that needs the task gradients themselves: subclasses write :meth:`combine`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "combine" in cls.__dict__:
            cls.combine = _checked_combine(cls.combine)  # type: ignore[method-assign]


class LossMethod(Method):
    """A method that weights the losses and needs one backward: subclasses write :meth:`loss_weights`."""

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

        The weights count as constants in the losses. A method whose objective has more terms overrides this.
        """
        return (self.loss_weights(losses.detach()) * losses).sum()

    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        """The weighted sum of the rows of the (K, P) Jacobian, (P,)."""
        check_jacobian(jacobian)
        if losses is None:
            raise ValueError(f"{self} weights tasks by their losses; pass losses")
        check_losses(losses, tasks=jacobian.shape[0])
        return self.loss_weights(losses.detach()).detach().to(jacobian) @ jacobian


def _as_the_device_allows(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A move of a module's tensors that takes float64 to devices without it as float32."""

    def moved(tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float64:
            return fn(tensor)
        there = fn(tensor.new_empty(0, dtype=torch.float32)).device
        return fn(tensor.to(widest_dtype(there)))

    return moved


def _checked_weights(weights: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(weights)
    def checked(self: GramianMethod, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        computed_in = gramian.dtype
        gramian = check_gramian(gramian)
        self.bind(len(gramian))
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
        check_jacobian(jacobian)
        self.bind(len(jacobian))
        if losses is not None:
            check_losses(losses, tasks=jacobian.shape[0])
        result = combine(self, jacobian, losses)
        check_update(result, jacobian.shape[1], self)
        return result

    return checked


def _checked_loss_weights(loss_weights: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(loss_weights)
    def checked(self: LossMethod, losses: Tensor) -> Tensor:
        check_losses(losses)
        self.bind(len(losses))
        result = loss_weights(self, losses)
        check_weights(result, losses.shape[0], self)
        return result

    return checked
