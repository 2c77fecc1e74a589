"""One thread for the small dense problems of the solvers.

NumPy and SciPy bring an OpenBLAS each, whose threads share even a 40 x 40 factorisation. Beside
other work on the machine (data workers, a second run) one of them is soon scheduled away while the
others wait for it: tens of milliseconds for what takes one thread a fraction of one.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from scipy.linalg import lapack  # noqa: F401  # with it, both libraries are there to be found
from threadpoolctl import ThreadpoolController

# Problems up to this size are never shared; asking would cost more than they do.
_ALONE = 4


def one_thread(tasks: int) -> AbstractContextManager[Any]:
    """A context in which NumPy and SciPy solve K x K problems with one thread; torch's own threads
    stay.
    """
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1) if tasks > _ALONE else nullcontext()
    return limited


@cache
def _libraries() -> Any:
    """The OpenBLAS libraries of the process; to look for them takes a tenth of a second, so once."""
    return ThreadpoolController().select(internal_api="openblas")
