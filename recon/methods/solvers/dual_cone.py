"""Projection onto the dual cone of the task gradients, {d : g_i·d >= 0 for all i}.

UPGrad and DualProj share it. By Moreau's theorem the projection of x is x + J'v, where v minimises
|x + J'v| over v >= 0. Several x at once are projected by block principal pivoting (Kim & Park,
"Fast nonnegative matrix factorization: an active-set-like method and comparisons", SIAM J. Sci.
Comput. 2011):

* guess which multipliers are positive, and solve for these;
* exchange the multipliers that come out negative, and those of gradients that are still in
  conflict;
* repeat, for all x in one batch of small linear systems.
"""

import numpy as np
from numpy.typing import NDArray

from recon.methods.solvers.gramian import Array, least_squares

# Up to this number, vectors are projected faster one by one than in a batch.
_FEW = 10
_MAX_EXCHANGES = 100
# Number of exchanges of all wrong indices that may fail to lower their count. After that they are
# exchanged one by one.
_PATIENCE = 3
_ROUNDING = 1e-14
# Longer multipliers come from gradients so nearly dependent that half of the digits of their inner
# products are lost.
_LONG = 1e3


def lifts_into_dual_cone(directions: Array, vectors: Array) -> Array:
    """Multipliers v >= 0 such that ``vectors + directions v`` are the projections of the vectors.

    Args:
        directions: (D, K), unit vectors in columns. No member of the cone has a negative product
            with one of them.
        vectors: (D, N), at most about as long as 1.

    Returns:
        (K, N).

    Raises:
        RuntimeError: The active-set iteration did not end.
    """
    products = vectors.T @ directions
    multipliers = np.zeros_like(products)
    outside = np.flatnonzero(products.min(axis=1) < 0)
    if len(outside) > _FEW:
        multipliers[outside], solved = _pivot(directions.T @ directions, products[outside])
        outside = outside[~solved]
    for index in outside:
        multipliers[index] = lift_into_dual_cone(directions, vectors[:, index])
    return multipliers.T


def lift_into_dual_cone(directions: Array, vector: Array) -> Array:
    """The same for one vector (D,), by Lawson & Hanson's method, one index at a time, for any rank.

    Returns:
        (K,).

    Raises:
        RuntimeError: The iteration did not end.
    """
    return least_squares(directions, -vector)


def _pivot(cosines: Array, products: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Solve v >= 0, cosines v + products >= 0, orthogonal to each other, for each row of products.

    Returns:
        Multipliers (N, K), and whether each row of them is trusted (N,).
    """
    multipliers = np.zeros_like(products)
    solved = np.zeros(len(products), dtype=bool)
    positive = products < 0
    patience = np.full(len(products), _PATIENCE)
    fewest = np.full(len(products), products.shape[1] + 1)
    open_ = np.arange(len(products))
    for _ in range(_MAX_EXCHANGES):
        try:
            v = _solve_subsets(cosines, products[open_], positive[open_])
        except np.linalg.LinAlgError:
            break
        length = v.sum(axis=1, keepdims=True)
        slack = v @ cosines + products[open_]
        wrong = np.where(positive[open_], v < 0, slack < -_ROUNDING * (1 + np.abs(length)))
        count = wrong.sum(axis=1)
        done = count == 0
        multipliers[open_[done]] = v[done]
        solved[open_[done]] = length[done, 0] <= _LONG
        open_, wrong, count = open_[~done], wrong[~done], count[~done]
        if not len(open_):
            break
        fewer = count < fewest[open_]
        patience[open_] = np.where(fewer, _PATIENCE, patience[open_] - 1)
        fewest[open_] = np.minimum(fewest[open_], count)
        last = wrong & (wrong[:, ::-1].cumsum(axis=1)[:, ::-1] == 1)
        positive[open_] ^= np.where(patience[open_, None] >= 0, wrong, last)
    return multipliers, solved


def _solve_subsets(cosines: Array, products: Array, subsets: NDArray[np.bool_]) -> Array:
    """For each row: v with (cosines v + products) zero in the subset, and v zero outside it."""
    largest = subsets.sum(axis=1).max()
    order = np.argsort(~subsets, axis=1, kind="stable")[:, :largest]  # the subset first, then padding
    inside = np.take_along_axis(subsets, order, axis=1)
    systems = cosines[order[:, :, None], order[:, None, :]] * (inside[:, :, None] & inside[:, None, :])
    diagonal = np.arange(largest)
    systems[:, diagonal, diagonal] += ~inside
    right = np.where(inside, -np.take_along_axis(products, order, axis=1), 0.0)
    v = np.zeros_like(products)
    np.put_along_axis(v, order, np.linalg.solve(systems, right[:, :, None])[:, :, 0], axis=1)
    return v
