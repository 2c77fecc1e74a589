"""Gramians of two tasks in many groups of layers, where a formula serves."""

import numpy as np
from numpy.typing import NDArray

from recon.methods.solvers.gramian import Array
from recon.methods.solvers.resolution import resolution

# Formulas lose up to three digits at this distance of a cosine from -1 or 1. Nearer ones are left
# to the solvers, which know what cannot be told from dependent gradients.
_NEARLY_PARALLEL = 1e-3


def regular_pairs(gramians: Array) -> tuple[NDArray[np.bool_], Array, Array]:
    """The groups in which two gradients are not zero and not nearly parallel.

    Args:
        gramians: (G, 2, 2).

    Returns:
        Which groups these are, (G,); and the norms (N, 2) and cosines (N,) in these.

    Example:
        >>> usual, one_is_zero = [[4.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]
        >>> regular_pairs(np.array([usual, one_is_zero]))
        (array([ True, False]), array([[2., 1.]]), array([0.5]))
    """
    squares = np.diagonal(gramians, axis1=1, axis2=2)
    regular = np.all(squares > 0, axis=1)
    norms = np.sqrt(np.where(regular[:, None], squares, 1.0))
    cosines = gramians[:, 0, 1] / norms[:, 0] / norms[:, 1]
    regular &= 1 - np.abs(cosines) > max(_NEARLY_PARALLEL, 4 * resolution() ** 2)
    return regular, norms[regular], cosines[regular]
