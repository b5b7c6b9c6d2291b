r"""The natural gradient: the gradient in the metric of the Fisher information.

    F(θ) ∇̃J(θ) = ∇J(θ),    F(θ) = E[s sᵀ],    s = Σ_t ∇log π_θ(a_t | s_t)

(Kakade 2002; Peters & Schaal 2008, §4.1). Where F is singular, as for every softmax with a row of parameters
for each action, of all solutions the shortest. For many parameters F is never formed: conjugate gradients
(Hestenes & Stiefel 1952) need only F v = E[s (sᵀ v)], one more pass over the trajectories for an iteration.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fastpg import moments
from fastpg.arguments import check_number
from fastpg.estimators.reinforce import REINFORCE, ScoresAndReturns
from fastpg.estimators.second_moments import SecondPass

MAX_DENSE = 512  # parameters of a matrix that is formed: 2 MiB a chunk
_MAX_ITERATIONS = 50
_RESIDUAL = 1e-6  # of the right-hand side's norm
_RANK = 1e-10  # of the largest eigenvalue: those below count as zero


class FisherVectorProducts(SecondPass):
    """Accumulates Σ s (sᵀ v); the numbers are v."""

    __slots__ = ()

    def finish(self, totals, trajectory, score):
        """Add a finished trajectory's product; `totals` is P numbers and room for its score."""
        n = len(self.numbers)
        moments.move_out(totals, n, score)
        product = 0.0
        for k in range(n):
            product += totals[n + k] * self.numbers[k]
        for k in range(n):
            totals[k] += product * totals[n + k]


def fisher_vector_product(problem: Any, vector: np.ndarray) -> np.ndarray:
    """Return F(θ) v, estimated from the trajectories of a problem."""
    n = len(vector)
    product = np.zeros(n)
    accumulator = FisherVectorProducts(ScoresAndReturns(1), 1.0, np.ascontiguousarray(vector))
    for _, totals, _ in problem.sample(accumulator, (2 * n,)):
        for chunk in totals:
            product += chunk[:n]
    return product / problem.n_trajectories


class FisherInformation:
    """The Fisher information of a policy, from the trajectories of a problem, never formed as a matrix."""

    def __init__(self, problem: Any):
        self.problem = problem

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """Return F v, shape (n_parameters,)."""
        return fisher_vector_product(self.problem, vector)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Its diagonal, E[s²], shape (n_parameters,)."""
        p, one_group = self.problem.policy.n_parameters, REINFORCE()
        squares = np.zeros(p)
        for _, totals, _ in self.problem.sample(ScoresAndReturns(1), one_group.totals_shape(p)):
            squares += totals[:, 0, 2 * p : 3 * p].sum(axis=0)
        return squares / self.problem.n_trajectories


def natural_gradient(
    gradient: np.ndarray,
    fisher: np.ndarray | Callable[[np.ndarray], np.ndarray],
    damping: float = 0.0,
    iterations: int = _MAX_ITERATIONS,
) -> np.ndarray:
    """Return the shortest solution of (F + λI) x = ∇J, shape (n_parameters,).

    By conjugate gradients it is approximate: at most `iterations` steps, which end at a residual of 1e-6 of
    the gradient's norm. A gradient that F does not reach has no solution; then x is what was nearest to one.

    Parameters
    ----------
    gradient : array, shape (n_parameters,)
        ∇J.
    fisher : array, shape (n_parameters, n_parameters), or a function
        F, solved by its eigenvalues, those below 1e-10 of the largest left out; or what returns F v for a
        vector v, solved by conjugate gradients.
    damping : float
        λ, at least 0.
    iterations : int
        At most so many of conjugate gradients.
    """
    gradient = np.asarray(gradient, dtype=np.float64)
    if check_number("damping", damping) < 0.0:
        raise ValueError(f"damping={damping!r}: must be at least 0")
    if callable(fisher):
        return _conjugate_gradients(lambda v: fisher(v) + damping * v, gradient, iterations)
    n = len(gradient)
    if gradient.shape != (n,) or np.shape(fisher) != (n, n):
        raise ValueError(f"fisher: has shape {np.shape(fisher)}, must have ({n}, {n}), as gradient has {n}")
    values, basis = np.linalg.eigh(fisher)
    values = np.maximum(values, 0.0) + damping
    kept = values > _RANK * values[-1]
    along = basis.T @ gradient
    return basis @ np.where(kept, along / np.where(kept, values, 1.0), 0.0)


def _conjugate_gradients(product, b, iterations):
    """Solve for b, from 0, so that nothing is added that the matrix does not see; NaN if something is.

    The last iterate is the best in the norm of the matrix. Of a singular matrix and a b that it does not
    reach (of fewer trajectories than parameters, say) the directions end where it sees next to nothing, and a
    step there would be endless: then the iterate of the least residual.
    """
    x, residual = np.zeros_like(b), b.copy()
    direction, square = residual.copy(), residual @ residual
    best, least, largest = x, np.inf, 0.0
    enough = (_RESIDUAL**2) * square
    for _ in range(min(iterations, len(b))):
        if square <= enough:
            break
        image = product(direction)
        curvature, length = direction @ image, direction @ direction
        if not np.isfinite(curvature):
            return np.full_like(b, np.nan)
        largest = max(largest, curvature / length)
        if curvature <= _RANK * largest * length:  # nothing left but rounding
            return best
        step = square / curvature
        x = x + step * direction
        residual -= step * image
        square, before = residual @ residual, square
        if square < least:
            best, least = x, square
        direction = residual + square / before * direction
    return x if np.isfinite(square) else np.full_like(b, np.nan)
