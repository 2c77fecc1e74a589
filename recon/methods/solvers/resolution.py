"""How short a combination of unit task gradients can be before it is rounding: the floor of every
solver.

A gradient held in floating point is known to the unit roundoff u of its precision, relative to its
length. Weights up to 1/δ, which a solver needs to follow a direction in which unit gradients differ
by δ, turn that into an error of u/δ in the update; to take the difference for zero instead is to
change the gradients by δ. The two are equal at δ = √u, the resolution: 2e-4 for float32, 1e-8 for
float64.

A Gramian alone does not tell: it is solved in float64 whatever its gradients were. So whoever has
the gradients says in which precision they are, around the solution, and solvers ask here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import sqrt

import torch

# Relative errors of eigenvalues, in units of the precision's epsilon, of cosines that were
# themselves rounded to it.
_SUMMED = 8


def _of_gradients(dtype: torch.dtype) -> float:
    return sqrt(torch.finfo(dtype).eps / 2)


_FLOAT64 = _of_gradients(torch.float64)
_resolution: ContextVar[float] = ContextVar("resolution", default=_FLOAT64)


def resolution() -> float:
    """Length of a combination of unit gradients, relative to its weights, that cannot be told from
    zero.
    """
    return _resolution.get()


@contextmanager
def gradients_in(dtype: torch.dtype) -> Iterator[None]:
    """Solve for gradients of this precision in a ``with`` block, if none coarser surrounds it."""
    with _at_least(_of_gradients(dtype)):
        yield


@contextmanager
def products_in(dtype: torch.dtype) -> Iterator[None]:
    """The same for inner products that were computed in this precision, unless that is float64 or
    exact.
    """
    exact = dtype == torch.float64 or not dtype.is_floating_point
    with _at_least(0.0 if exact else sqrt(_SUMMED * torch.finfo(dtype).eps)):
        yield


@contextmanager
def _at_least(length: float) -> Iterator[None]:
    token = _resolution.set(max(length, _resolution.get()))
    try:
        yield
    finally:
        _resolution.reset(token)
