"""TorchJD's methods as methods of ours, and ours as TorchJD's.

Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024; https://torchjd.org.
TorchJD is an optional extra: ``pip install -e '.[torchjd]'`` in Recon's checkout. It is imported
when first used.

Needs the Gramian if TorchJD's object does, else the Jacobian. ``SDMGradWeighting`` and
``MoDoWeighting``, made for J_1 J_2' of two independent batches, get the Gramian of the batch at
hand. An object that holds floating-point tensors, such as a preference, is called in the dtype of
these tensors; others get the Gramian in float64.

The checkpoint holds the state that TorchJD's ``state_dict`` holds. Random methods of TorchJD draw
from torch's global generator, which may differ between processes: they work in one process only.
Objects with state, or with a number for each task such as a preference, need all tasks in every
step: TorchJD starts their state anew for another number of rows.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recon.errors import unknown_name
from recon.methods.base.kinds import GramianMethod, JacobianMethod, LossMethod
from recon.methods.base.method import Method
from recon.methods.base.registry import register_method
from recon.plugins import needs


@register_method("torchjd")
class TorchJD(Method):
    """A method of TorchJD.

    Args:
        aggregator: An ``Aggregator`` of ``torchjd.aggregation``, or a ``Weighting`` of the Gramian
            or the Jacobian; or the name of one that needs no arguments.
        scale: The combination of K equal task gradients g: about K g (``"sum"``: ``Sum``,
            ``PCGrad``, ``GradDrop``, ``ConFIG``, ...) or about g (``"mean"``: ``Mean``, ``UPGrad``,
            ``MGDA``, ...). Only the factor that ``update_scale`` asks for depends on it.

    Raises:
        ImportError: TorchJD is not installed.
        TypeError: The object is neither kind, or the named one cannot be made without arguments.

    Example:
        >>> import torch
        >>> from torchjd.aggregation import UPGrad
        >>> from recon import create_method
        >>> method = create_method("torchjd", aggregator=UPGrad())
        >>> method.combine(torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]))
        tensor([0.2929, 1.9004, 1.9004])
    """

    aggregator: nn.Module

    def __new__(cls, aggregator: object = "UPGrad", scale: str = "mean") -> "TorchJD":
        """Choose the class by what the object needs: the Gramian or the Jacobian."""
        if cls is not TorchJD:
            return super().__new__(cls)
        return super().__new__(_TorchJDGramian if _needs_gramian(_resolved(aggregator)) else _TorchJDJacobian)

    def __init__(self, aggregator: object = "UPGrad", scale: Literal["sum", "mean"] = "mean") -> None:
        super().__init__()
        if scale not in ("sum", "mean"):
            raise ValueError(f"torchjd: scale must be 'sum' or 'mean', got {scale!r}")
        self.aggregator = _resolved(aggregator)
        self.scale = scale  # type: ignore[misc]  # elsewhere a constant of the class
        self.needs_all_tasks = _keeps_something_of_tasks(self.aggregator)  # type: ignore[misc]
        self.needs_one_process = _draws(self.aggregator)  # type: ignore[misc]

    def extra_repr(self) -> str:
        return f"scale={self.scale!r}"  # the object is a module, and is shown as such

    def _check_processes(self) -> None:
        """Refuse several processes to an object that draws random numbers."""
        distributed = torch.distributed
        if self.needs_one_process and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise ValueError(
                f"torchjd: {type(self.aggregator).__name__} draws from torch's global generator, which may differ "
                "between processes; take a method of recon's own, or one process"
            )


class _TorchJDGramian(TorchJD, GramianMethod):
    def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
        self._check_processes()
        with torch.no_grad():
            weighting = getattr(self.aggregator, "gramian_weighting", self.aggregator)
            return weighting(gramian.to(_dtype(weighting, otherwise=torch.float64)))

    def bind_groups(self, groups: int) -> None:
        """Refuse groups of layers to an object of TorchJD that keeps a state of its own.

        Raises:
            ValueError: It does.
        """
        with needs("torchjd", extra="torchjd"):
            import torchjd
        if any(isinstance(module, torchjd.Stateful) for module in self.aggregator.modules()):
            raise ValueError(
                f"torchjd: {type(self.aggregator).__name__} remembers one Gramian of all layers, and groups of layers "
                "need a state each; take a method of recon's own, or granularity='network'"
            )
        super().bind_groups(groups)


class _TorchJDJacobian(TorchJD, JacobianMethod):
    def combine(self, jacobian: Tensor, losses: Tensor | None = None) -> Tensor:
        self._check_processes()
        with torch.no_grad():
            result = self.aggregator(jacobian.to(_dtype(self.aggregator, otherwise=jacobian.dtype))).to(jacobian)
            return result @ jacobian if isinstance(self.aggregator, _torchjd().Weighting) else result


def to_torchjd(method: Method) -> Any:
    """Wrap a method as an object of TorchJD's API.

    TorchJD passes no losses on, which some methods need. Weights and updates have no graph: a
    backward through them is refused, as with TorchJD's own methods that solve a problem.

    Args:
        method: The method; its state and its learned parameters stay in it.

    Returns:
        A Gramian method as ``GramianWeightedAggregator``, whose ``gramian_weighting`` serves
        ``torchjd.autogram``; a Jacobian method as ``Aggregator``; a loss method as
        ``torchjd.scalarization.Scalarizer`` of the method's objective.

    Raises:
        ImportError: TorchJD is not installed.
        TypeError: The method is of none of these kinds, or works through :meth:`recon.Method.step`,
            which evaluates the losses again; TorchJD has no such step.

    Example:
        >>> import torch
        >>> from recon import create_method
        >>> aggregator = to_torchjd(create_method("mgda"))
        >>> aggregator(torch.tensor([[4.0, 0.0], [-1.0, 2.0]]))
        tensor([0.5517, 1.3793])
    """
    _torchjd()
    from recon.methods.torchjd import adapters

    if type(method).step is not Method.step:
        raise TypeError(
            f"{method!r} works by a step of its own, which evaluates the losses again and which TorchJD does not call; "
            "train with recon.Engine.step"
        )
    if isinstance(method, GramianMethod):
        return adapters.ReconAggregator(method)
    if isinstance(method, JacobianMethod):
        return adapters.ReconJacobianAggregator(method)
    if isinstance(method, LossMethod):
        return adapters.ReconScalarizer(method)
    raise TypeError(f"{method!r} is neither a loss, a Gramian nor a Jacobian method")


def _torchjd() -> Any:
    with needs("torchjd", extra="torchjd"):
        import torchjd.aggregation
    return torchjd.aggregation


def _resolved(aggregator: object) -> nn.Module:
    """The object itself, or the object of that name, made without arguments."""
    torchjd = _torchjd()
    if isinstance(aggregator, str):
        if aggregator not in torchjd.__all__:
            raise unknown_name("aggregator", aggregator, torchjd.__all__, where="torchjd.aggregation")
        aggregator = _made_without_arguments(aggregator)
    if not isinstance(aggregator, torchjd.Aggregator | torchjd.Weighting):
        raise TypeError(
            f"torchjd: aggregator must be an Aggregator or Weighting of torchjd.aggregation, or the name of one, "
            f"got {aggregator!r}"
        )
    assert isinstance(aggregator, nn.Module)
    return aggregator


def _made_without_arguments(name: str) -> object:
    try:
        return getattr(_torchjd(), name)()
    except TypeError as error:
        raise TypeError(
            f"torchjd: aggregator {name!r} cannot be made without arguments ({error}); pass the object itself, "
            f"aggregator=torchjd.aggregation.{name}(...)"
        ) from error


def _dtype(aggregator: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    """The dtype of the floating-point tensors that a TorchJD object holds, if it holds any."""
    return next((tensor.dtype for tensor in _tensors(aggregator) if tensor.is_floating_point()), otherwise)


def _tensors(aggregator: nn.Module) -> Iterator[Tensor]:
    for module in aggregator.modules():
        for value in chain(vars(module).values(), module.buffers(recurse=False)):
            if isinstance(value, Tensor):
                yield value


def _keeps_something_of_tasks(aggregator: nn.Module) -> bool:
    """Whether a TorchJD object holds state, or numbers that are those of each task."""
    from torchjd import Stateful

    stateful = any(isinstance(module, Stateful) for module in aggregator.modules())
    return stateful or any(tensor.ndim > 0 for tensor in _tensors(aggregator))


def _draws(aggregator: nn.Module) -> bool:
    """Whether a TorchJD object draws random numbers, as far as we know it."""
    known = _torchjd()
    random = (known.GradDrop, known.GradVacWeighting, known.PCGradWeighting, known.RandomWeighting)
    return any(isinstance(module, random) for module in aggregator.modules())


def _needs_gramian(aggregator: nn.Module) -> bool:
    torchjd = _torchjd()
    if isinstance(aggregator, torchjd.SDMGradWeighting | torchjd.MoDoWeighting):
        return True  # of the general K x K matrices that they are written for, the one at hand
    if isinstance(aggregator, torchjd.Aggregator):
        return isinstance(aggregator, torchjd.GramianWeightedAggregator)
    if isinstance(aggregator, torchjd.CRMOGMWeighting):
        return _needs_gramian(aggregator.weighting)
    from torchjd.aggregation import _weighting_bases as bases

    # A composition takes the argument of its inner function: `weighting << compute_gramian` takes
    # the Jacobian.
    return not isinstance(aggregator, bases._MatrixWeighting | bases._Composition)
