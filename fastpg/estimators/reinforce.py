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

**optimal**: for each component the constant of least variance, b* = E[s²R] / E[s²], estimated without the
trajectory it is used on (`fastpg.estimators.optimal`).

**time** and **value**: a number b_t for each time step, or a function b(s_t, t), in Σ_t g_t (R - b_t) with
g_t = ∇log π_θ(a_t | s_t). E[g_t b_t | s_t] = 0, so this too is unbiased. They are fitted to the returns of
a pilot batch (`fastpg.estimators.baselines`), as is "mean" with an entropy bonus
(`fastpg.estimators.entropy`), for which R is the return with the bonus, and a trajectory's term has
β Σ_t γ^t ∇H_t besides.

The standard errors of "mean" and "optimal" treat the x_i as independent; the coefficients tie them together
only in a term that vanishes as 1/N.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import moments, vectors
from fastpg.arguments import check_baseline, check_discount, check_number
from fastpg.estimators.baselines import Constant, fit, is_zero
from fastpg.estimators.entropy import bonus_for
from fastpg.estimators.gpomdp import WholeReturnTerms
from fastpg.estimators.optimal import GROUPS, closed, groups_for, optimal_levels
from fastpg.estimators.sums import COLUMNS, add_returns, mean_term
from fastpg.running_sums import RunningSum

BASELINES = ("none", "mean", "optimal", "time", "value")


class Trace(NamedTuple):
    """Along a trajectory: the running score and the running return."""

    score: Any
    total: float


class DiscountedTrace(NamedTuple):
    """The same with the discounted return, and γ^t."""

    score: Any
    total: float
    discounted: float
    weight: float


class ScoresAndReturns(NamedTuple):
    """Accumulates the sums above; compiled into the lanes.

    A row of `totals` for each group: sums of s, s(R - c), s², s²(R - c) and s²(R - c)², n columns each, then
    the returns' (`fastpg.estimators.sums`).
    """

    groups: int = GROUPS  # a power of two

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return Trace(RunningSum(vectors.zeros_like(score)), 0.0)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        return Trace(trace.score.plus(score), trace.total)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return Trace(trace.score, trace.total + reward)

    def term(self, trace):
        """Return the sum of scores that a finished trajectory leaves."""
        return trace.score.total

    def used_return(self, trace):
        """Return the return that is used: the undiscounted."""
        return trace.total

    def finish(self, totals, trajectory, score):
        """Add a finished trajectory to the sums."""
        group = totals[trajectory.number & (self.groups - 1)]
        n = moments.length(score)
        total = trajectory.trace.total
        moments.add_moments(group, score, add_returns(group, 5 * n, total, total, trajectory.time))


class DiscountedScoresAndReturns(NamedTuple):
    """The same sums, with the discounted return Σ_t γ^t r_t for R."""

    groups: int
    discount: float

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return DiscountedTrace(RunningSum(vectors.zeros_like(score)), 0.0, 0.0, 1.0)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        return DiscountedTrace(trace.score.plus(score), trace.total, trace.discounted, trace.weight)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        discounted = trace.discounted + trace.weight * reward
        return DiscountedTrace(trace.score, trace.total + reward, discounted, trace.weight * self.discount)

    def term(self, trace):
        """Return the sum of scores that a finished trajectory leaves."""
        return trace.score.total

    def used_return(self, trace):
        """Return the return that is used: the discounted."""
        return trace.discounted

    def finish(self, totals, trajectory, score):
        """Add a finished trajectory to the sums."""
        group = totals[trajectory.number & (self.groups - 1)]
        n = moments.length(score)
        trace = trajectory.trace
        used = add_returns(group, 5 * n, trace.discounted, trace.total, trajectory.time)
        moments.add_moments(group, score, used)


class REINFORCE(NamedTuple):
    """The seed estimator: ``∇J(θ) ≈ (1/N) Σ_i (Σ_t ∇log π_θ(a_it | s_it)) (R(τ_i) - b_i)``.

    R = Σ_t γ^t r_t over the horizon, with γ the `discount`. `baseline` is "none" (b = 0), "mean" (the mean
    return of the other trajectories), "optimal" (per component the constant of least variance, estimated on
    other trajectories), "time" or "value" (a number for each step, or a linear function of state and time,
    fitted on a pilot batch); all are unbiased, see the derivation at the top of this module. `entropy` is the
    coefficient β of a bonus, with every baseline but "optimal".
    """

    baseline: str = "none"
    discount: float = 1.0
    entropy: float = 0.0

    @property
    def complete_terms(self) -> bool:
        """Whether what a trajectory leaves is its term, and not a score that is yet to be multiplied."""
        return self.baseline in ("time", "value") or self.entropy != 0.0

    def check(self, n_trajectories):
        """Raise ValueError or TypeError unless the options are allowed for that many trajectories."""
        check_baseline(self.baseline, BASELINES)
        check_discount(self.discount)
        check_number("entropy", self.entropy)
        if self.complete_terms:
            if self.baseline == "optimal":
                raise ValueError("baseline='optimal': is for the return alone, without an entropy bonus")
            return
        if self.baseline != "none" and n_trajectories < 2:
            raise ValueError(
                f"n_trajectories={n_trajectories}: baseline={self.baseline!r} leaves one out and needs 2"
            )

    def accumulator(self, problem):
        """Return what is compiled into the lanes; one kernel serves all baselines but those for each step."""
        if self.complete_terms:
            gamma, bonus = float(self.discount), bonus_for(self.entropy, problem.policy)
            none = self.baseline == "none"
            baseline = Constant(0.0) if none else fit(self.baseline, problem, gamma, whole=True)
            return WholeReturnTerms(baseline, bonus, gamma)
        groups = self._groups(problem.policy.n_parameters)
        if self.discount == 1.0:
            return ScoresAndReturns(groups)
        return DiscountedScoresAndReturns(groups, float(self.discount))

    def _groups(self, n_parameters):
        return groups_for(n_parameters) if self.baseline == "optimal" else 1

    def totals_shape(self, n_parameters):
        """Return the shape of the totals of a chunk: groups by columns."""
        if self.complete_terms:
            return 1, 2 * n_parameters + COLUMNS
        return self._groups(n_parameters), 5 * n_parameters + COLUMNS

    def terms(self, sums, n):
        """Return α and β, shape (groups, n_parameters), of the terms x_i = s_i (α D_i + β_g)."""
        if self.complete_terms:
            return 0.0, np.ones((1, (sums.shape[1] - COLUMNS) // 2))
        p = (sums.shape[1] - COLUMNS) // 5
        if self.baseline == "none":
            return 1.0, np.zeros((1, p))
        if self.baseline == "mean":
            scale = n / (n - 1)
            mean = sums[0, -COLUMNS + 1] + sums[0, -COLUMNS] / n
            return scale, np.full((1, p), -scale * mean)
        return 1.0, -optimal_levels(sums)

    def gradient(self, sums, n):
        """Return the estimate of ∇J and its standard error, shape (n_parameters,) each, from the sums."""
        if self.complete_terms:
            return mean_term(sums, n)
        return closed(sums, BASELINES.index(self.baseline), n)


def without_zeros(estimator: Any, accumulator: Any, problem: Any) -> tuple[Any, Any]:
    """Return an estimator and its accumulator, REINFORCE's without a baseline where the fitted one is 0.

    The terms are the same, but would be summed in another order: now the estimate is that of "none", bit for
    bit.
    """
    if isinstance(estimator, REINFORCE) and estimator.complete_terms and is_zero(accumulator.baseline):
        estimator = estimator._replace(baseline="none")
        return estimator, estimator.accumulator(problem)
    return estimator, accumulator
