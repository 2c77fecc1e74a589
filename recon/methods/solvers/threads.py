"""One thread for the small dense problems of the solvers.

NumPy and SciPy bring an OpenBLAS each, whose threads share even a 40 x 40 factorisation. Beside
other work on the machine (data workers, a second run) one of these threads is soon scheduled away
while the others wait for it. A fraction of a millisecond in one thread then takes tens of
milliseconds.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from scipy.linalg import lapack  # noqa: F401  # loads the second library
from threadpoolctl import ThreadpoolController

# Problems up to this size are never shared; asking would cost more than solving them.
_ALONE = 4


def one_thread(tasks: int) -> AbstractContextManager[Any]:
    """A context in which NumPy and SciPy solve K x K problems with one thread.

    The threads of torch stay.
    """
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1) if tasks > _ALONE else nullcontext()
    return limited


@cache
def _libraries() -> Any:
    """The OpenBLAS libraries of the process; looking for them takes a tenth of a second."""
    return ThreadpoolController().select(internal_api="openblas")
