r"""REINFORCE: the score of a whole trajectory times its return (Williams 1992).

For a trajectory τ_i with return R_i = Σ_t r_t and score s_i = Σ_t ∇log π_θ(a_t | s_t),

    ∇J(θ) = E[s R],    because E[s] = 0 also = E[s (R - b)] for every b that does not depend on τ.

One pass over N independent trajectories keeps the sums of s, sR, s², s²R and s²R² (s², s²R: per
component) together with those of R and R²; the three baselines follow from the sums alone. What is summed
is not R but R - c, with the first return that came in for c, so that nothing cancels where returns are large
and alike; sums with different c are brought to the same one before they are added. The last two baselines
do not notice c, and the first adds it back.

**none**, b = 0. The mean of x_i = s_i R_i; its standard error √(S²/N) from the sample variance
S² = (Σx² - (Σx)²/N) / (N - 1), where Σx = ΣsR and Σx² = Σs²R².

**mean**, leave one out: b_i = (Σ_j R_j - R_i) / (N - 1), so R_i - b_i = N/(N-1) (R_i - R̄), and with
x_i = s_i (R_i - b_i)

    Σx  = N/(N-1) (ΣsR - R̄ Σs)
    Σx² = N²/(N-1)² (Σs²R² - 2R̄ Σs²R + R̄² Σs²).

b_i is independent of τ_i, so the estimate is unbiased; with R̄ itself in place of b_i (the usual
shortcut) its expectation is (N-1)/N ∇J(θ). It is the sample covariance of s and R.

**optimal**: for each component the constant of least variance, b* = E[s²R] / E[s²] (Greensmith, Bartlett
& Baxter 2004, §4; Peters & Schaal 2008, eq. 14), estimated without the trajectory it is used on. Leaving
out single trajectories would need Σ_i s_i (A - s_i²R_i) / (B - s_i²), which no fixed set of sums gives
in one pass. So the trajectories are dealt to GROUPS groups, number i to group i mod GROUPS, which keep
their own sums, and group g uses b_g = Σ_{i∉g} s_i²R_i / Σ_{i∉g} s_i²: for N ≤ GROUPS this leaves exactly
one out, and it is unbiased for every N. With x_i = s_i (R_i - b_g) for i in g,

    Σx  = Σ_g (ΣsR - b_g Σs)_g
    Σx² = Σ_g (Σs²R² - 2b_g Σs²R + b_g² Σs²)_g.

The standard errors of the last two treat the x_i as independent; the coefficients tie them together only
in a term that vanishes as 1/N.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.dispatch import plain_kernel

GROUPS = 16
BASELINES = ("none", "mean", "optimal")


class Trace(NamedTuple):
    """Along a trajectory: the running score and the running return."""

    score: Any
    total: float


class ScoresAndReturns(NamedTuple):
    """Accumulates the sums above; compiled into the lanes.

    A row of `totals` for each group: sums of s, s(R - c), s², s²(R - c) and s²(R - c)², n columns each,
    then those of R - c, (R - c)² and the length, the number of trajectories, and the row's own c.
    """

    groups: int = GROUPS  # a power of two

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return Trace(vectors.zeros_like(score), 0.0)

    def acted(self, trace, score):
        """Return the trace after an action with this score."""
        return Trace(vectors.add(trace.score, score), trace.total)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return Trace(trace.score, trace.total + reward)

    def finish(self, totals, trajectory, score):
        """Add a finished trajectory to the sums."""
        group = totals[trajectory.number & (self.groups - 1)]
        n = vectors.length(score)
        if group[5 * n + 3] == 0.0:
            group[5 * n + 4] = trajectory.trace.total
        total = trajectory.trace.total - group[5 * n + 4]
        vectors.add_moments(group, score, total)
        group[5 * n] += total
        group[5 * n + 1] += total * total
        group[5 * n + 2] += trajectory.time
        group[5 * n + 3] += 1.0


@plain_kernel
def add_referred(sums, totals):
    """Add totals of chunks to `sums`, one after the other, each with its rows' c moved to that of `sums`."""
    p = (sums.shape[1] - 5) // 5
    for chunk in range(totals.shape[0]):
        for group in range(totals.shape[1]):
            row, total = totals[chunk, group], sums[group]
            count, reference = row[5 * p + 3], total[5 * p + 4]
            shift = row[5 * p + 4] - reference if count > 0.0 else 0.0
            for k in range(p):
                s, sd, s2 = row[k], row[p + k], row[2 * p + k]
                s2d, s2d2 = row[3 * p + k], row[4 * p + k]
                total[k] += s
                total[p + k] += sd + shift * s
                total[2 * p + k] += s2
                total[3 * p + k] += s2d + shift * s2
                total[4 * p + k] += s2d2 + shift * (2.0 * s2d + shift * s2)
            d, d2 = row[5 * p], row[5 * p + 1]
            total[5 * p] += d + shift * count
            total[5 * p + 1] += d2 + shift * (2.0 * d + shift * count)
            total[5 * p + 2] += row[5 * p + 2]
            total[5 * p + 3] += count


class REINFORCE(NamedTuple):
    """The seed estimator: ``∇J(θ) ≈ (1/N) Σ_i (Σ_t ∇log π_θ(a_it | s_it)) (R(τ_i) - b_i)``.

    Undiscounted total return R over the horizon. `baseline` is "none" (b = 0), "mean" (the mean return
    of the other trajectories) or "optimal" (per component the constant of least variance, estimated on
    other trajectories); all three are unbiased, see the derivation at the top of this module.
    """

    baseline: str = "none"

    def check(self, n_trajectories):
        """Raise ValueError unless the options are allowed for that many trajectories."""
        if self.baseline not in BASELINES:
            raise ValueError(f"baseline={self.baseline!r}: must be one of {', '.join(map(repr, BASELINES))}")
        if self.baseline != "none" and n_trajectories < 2:
            raise ValueError(
                f"n_trajectories={n_trajectories}: baseline={self.baseline!r} leaves one out and needs 2"
            )

    def accumulator(self, n_parameters):
        """Return what is compiled into the lanes; one kernel serves all baselines."""
        return ScoresAndReturns(self.totals_shape(n_parameters)[0])

    def totals_shape(self, n_parameters):
        """Return the shape of the totals: groups (fewer where each is large) by columns."""
        groups = GROUPS if n_parameters <= 256 else GROUPS // 4
        return (groups if self.baseline == "optimal" else 1), 5 * n_parameters + 5

    def merge(self, sums, totals):
        """Return `sums` (None at first) and the `totals` of further chunks, shape (chunks, *totals_shape).

        One after the other: the order of the additions must not depend on how chunks came together.
        """
        if sums is None:
            first = totals[0]
            sums = np.zeros(first.shape)
            sums[:, -1] = first[np.argmax(first[:, -2] > 0.0), -1]
        add_referred(sums, totals)
        return sums

    def gradient(self, totals, n):
        """Return the estimate of ∇J and its standard error, shape (n_parameters,) each, from the sums."""
        p = (totals.shape[1] - 5) // 5
        reference = totals[0, -1]
        sums = totals[:, : 5 * p].reshape(len(totals), 5, p)
        s, sd, s2, s2d, s2d2 = sums.sum(axis=0) if len(sums) > 1 else sums[0]
        if self.baseline == "none":
            x = sd + reference * s
            return _mean_and_error(x, s2d2 + 2 * reference * s2d + reference**2 * s2, n)
        if self.baseline == "mean":
            mean = totals[:, -5].sum() / n
            scale = n / (n - 1)
            x = scale * (sd - mean * s)
            x2 = scale**2 * (s2d2 - 2 * mean * s2d + mean**2 * s2)
            return _mean_and_error(x, x2, n)
        # Summed anew, not "all minus own": one score may be 1e8 times all the others.
        others = 1.0 - np.eye(len(totals))
        others_s2, others_s2d = (np.einsum("gh,hp->gp", others, sums[:, i]) for i in (2, 3))
        seen = others_s2 > 0  # where no other score is non-zero, any b will do
        b = np.divide(others_s2d, others_s2, out=np.zeros_like(others_s2), where=seen)
        x = (sums[:, 1] - b * sums[:, 0]).sum(axis=0)
        x2 = (sums[:, 4] - 2 * b * sums[:, 3] + b**2 * sums[:, 2]).sum(axis=0)
        return _mean_and_error(x, x2, n)

    def returns(self, totals, n):
        """Return the mean return, its standard error, and the mean length."""
        total, squares, length = totals[:, -5:-2].sum(axis=0)
        mean, error = _mean_and_error(total, squares, n)
        return float(totals[0, -1] + mean), float(error), float(length / n)


def _mean_and_error(total, squares, n):
    """The mean of n numbers and its standard error, from their sum and sum of squares; NaN if n = 1."""
    mean = total / n
    if n == 1:
        return mean, np.full_like(mean, np.nan)
    variance = np.maximum(squares / n - mean**2, 0.0) / (n - 1)  # rounding may leave less than nothing
    return mean, np.sqrt(variance)
