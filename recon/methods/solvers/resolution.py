"""The length below which a combination of unit task gradients is rounding, for every solver.

A gradient in floating point is known to the unit roundoff u of its precision, relative to its
length. A solver that follows a direction in which unit gradients differ by δ needs weights up to
1/δ, which turn the roundoff into an error of u/δ in the update. A solver that takes the difference
for zero changes the gradients by δ. Both errors are equal at δ = √u, the resolution: 2e-4 for
float32, 1e-8 for float64.

A Gramian is solved in float64 whatever the precision of its gradients. The owner of the gradients
therefore states their precision around the solution, and solvers ask for it here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import sqrt

import torch

# Relative error of eigenvalues of rounded cosines, in units of the precision's epsilon.
_SUMMED = 8


def _of_gradients(dtype: torch.dtype) -> float:
    return sqrt(torch.finfo(dtype).eps / 2)


_FLOAT64 = _of_gradients(torch.float64)
_resolution: ContextVar[float] = ContextVar("resolution", default=_FLOAT64)


def resolution() -> float:
    """Length of a combination of unit gradients, relative to its weights, that counts as zero."""
    return _resolution.get()


@contextmanager
def gradients_in(dtype: torch.dtype) -> Iterator[None]:
    """Solve for gradients of this precision in a ``with`` block, or of a coarser one around it."""
    with _at_least(_of_gradients(dtype)):
        yield


@contextmanager
def products_in(dtype: torch.dtype) -> Iterator[None]:
    """Solve for inner products computed in this precision, unless it is float64 or exact."""
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
