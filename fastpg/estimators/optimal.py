r"""The optimal constant baseline of each component, estimated from the same batch, without bias.

All estimators have terms x = A - b B with two sums of scores along a trajectory, a constant b, and E[B] = 0:

| estimator  | A                          | B              |
|------------|----------------------------|----------------|
| REINFORCE  | s R, with s = Σ_t g_t      | s              |
| GPOMDP     | Σ_t γ^t g_t ρ_t            | Σ_t γ^t g_t    |
| RewardToGo | Σ_t g_t ρ_t                | Σ_t g_t        |

where g_t = ∇log π_θ(a_t | s_t) and ρ_t = Σ_{k≥t} γ^{k-t} r_k. So E[x] = E[A] for every b that does not depend
on the trajectory, and for each component

    Var[x] = E[A²] - E[A]² - 2b E[AB] + b² E[B²]    is least for    b* = E[AB] / E[B²].

For REINFORCE that is E[s²R] / E[s²] (Greensmith, Bartlett & Baxter 2004, §4; Peters & Schaal 2008, eq. 14).
No other constant has less variance. (Peters & Schaal's own baseline for GPOMDP has a number for each step
too, the best of each step's term by itself.)

b* is estimated without the trajectory it is used on. Leaving out single trajectories would need
Σ_i B_i (ΣAB - A_i B_i) / (ΣB² - B_i²), which no fixed set of sums gives in one pass. So the trajectories are
dealt to GROUPS groups (a quarter of that for more than 256 parameters), number i to group i mod GROUPS, which
keep their own sums, and group g uses b_g = Σ_{i∉g} A_i B_i / Σ_{i∉g} B_i², or 0 if no other B is not: for
N ≤ GROUPS this leaves exactly one out, and it is unbiased for every N. With x_i = A_i - b_g B_i for i in g,

    Σx  = Σ_g (ΣA - b_g ΣB)_g
    Σx² = Σ_g (ΣA² - 2b_g ΣAB + b_g² ΣB²)_g.

Nothing may cancel where returns are large and alike: REINFORCE's A are of returns less the first one that
came in, those of the other two of rewards-to-go less the mean of a pilot batch, and b is what is left.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastpg import moments, vectors
from fastpg.dispatch import late_kernel
from fastpg.estimators.sums import COLUMNS, add_returns
from fastpg.running_sums import RunningSum
from fastpg.scores import is_neural

GROUPS = 16
MEAN, OPTIMAL = 1, 2  # as numbers for compiled code


def groups_for(n_parameters: int) -> int:
    """Return into how many groups trajectories are dealt: fewer where each is large."""
    return GROUPS if n_parameters <= 256 else GROUPS // 4


@late_kernel
def close(sums, baseline, n, result):
    """Write the estimate of ∇J and its standard error into two rows of `result`, from the sums.

    A row of sums for each group: ΣB, ΣA, ΣB², ΣAB, ΣA², each with a column for each of P components, and the
    returns' (`fastpg.estimators.sums`), whose reference c is what A has been diminished by, c · B.
    """
    p = result.shape[1]
    groups = sums.shape[0]
    reference = sums[0, 5 * p + 1]
    mean = 0.0
    for g in range(groups):
        mean += sums[g, 5 * p]
    mean /= n
    for k in range(p):
        x = x2 = 0.0
        for g in range(groups):
            s, sd, s2 = sums[g, k], sums[g, p + k], sums[g, 2 * p + k]
            s2d, s2d2 = sums[g, 3 * p + k], sums[g, 4 * p + k]
            b = -reference
            if baseline == MEAN:
                b = mean
            elif baseline == OPTIMAL:
                # Summed anew, not "all minus own": one score may be 1e8 times all the others.
                others, others_d = 0.0, 0.0
                for h in range(groups):
                    if h != g:
                        others += sums[h, 2 * p + k]
                        others_d += sums[h, 3 * p + k]
                # No other score: 0, of the return itself, for c may be this trajectory's own.
                b = others_d / others if others > 0.0 else -reference
            x += sd - b * s
            x2 += s2d2 - 2.0 * b * s2d + b * b * s2
        if baseline == MEAN:
            scale = n / (n - 1)
            x *= scale
            x2 *= scale * scale
        x /= n
        result[0, k] = x
        variance = x2 / n - x * x
        if variance < 0.0:  # rounding may leave less than nothing
            variance = 0.0
        result[1, k] = math.sqrt(variance / (n - 1)) if n > 1 else math.nan


def closed(sums: np.ndarray, baseline: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the estimate of ∇J and its standard error, shape (P,) each, from the sums."""
    result = np.empty((2, (sums.shape[1] - COLUMNS) // 5))
    close(sums, baseline, n, result)
    return result[0], result[1]


def optimal_levels(sums: np.ndarray) -> np.ndarray:
    """Return b_g, shape (groups, P), from the sums."""
    p = (sums.shape[1] - COLUMNS) // 5
    squares, products = sums[:, 2 * p : 3 * p], sums[:, 3 * p : 4 * p]
    others = 1.0 - np.eye(len(sums))
    seen = others @ squares
    reference = sums[0, -COLUMNS + 1]
    level = np.divide(others @ products, seen, out=np.full_like(seen, -reference), where=seen > 0)
    return level + reference


class PairTrace(NamedTuple):
    """Along a trajectory: the trace of A, and B."""

    of: Any
    scores: Any


class PairedTerms(NamedTuple):
    """Accumulates the sums that `close` takes, of A and B; compiled into the lanes."""

    of: Any  # the accumulator whose terms are A
    groups: int  # a power of two

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return self.of.choose(policy, theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return PairTrace(self.of.start(score), RunningSum(vectors.zeros_like(score)))

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        weighted = vectors.scale(score, self.of.score_weight(trace.of), 0.0)
        of = self.of.acted(trace.of, score, policy, theta, observation, action, time)
        return PairTrace(of, trace.scores.plus(weighted))

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return PairTrace(self.of.rewarded(trace.of, reward), trace.scores)

    def term(self, trace):
        """Return A of a finished trajectory."""
        return self.of.term(trace.of)

    def partner(self, trace):
        """Return B of a finished trajectory."""
        return trace.scores.total

    def partner_weight(self, mark):
        """Return the weight in B of the score of a recorded step."""
        return self.of.marked_weight(mark)

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step."""
        return self.of.mark(trace.of, observation, time)

    def latest(self, trace):
        """Return what the last step needs to know."""
        return self.of.latest(trace.of)

    def weigh(self, policy, theta, trace, observation, factor, mark, later):
        """Return a recorded step's factor, weighted, and what the one before needs."""
        return self.of.weigh(policy, theta, trace.of, observation, factor, mark, later)

    def used_return(self, trace):
        """Return what A is multiplied with besides."""
        return 1.0

    def finish(self, totals, trajectory, pair):
        """Add a finished trajectory to the sums."""
        row = totals[trajectory.number & (self.groups - 1)]
        total = trajectory.trace.of.total
        add_returns(row, 5 * moments.length(pair), 0.0, total, trajectory.time)
        moments.add_products(row, pair)


def check_pairs(policy: Any) -> None:
    """Raise ValueError if a policy does not give two sums of scores."""
    if is_neural(policy):
        name = type(policy).__name__
        raise ValueError(
            f"baseline='optimal': keeps two scores of a trajectory, a {name} has one; 'mean' is near"
        )
