"""Second moments of what trajectories contribute: the covariance of the estimate, and the Fisher information.

A second pass over the same trajectories, which their counter-based random numbers repeat. The term of
trajectory i is x_i = y_i (α D_i + β_g) with the sum of scores y_i that its accumulator leaves, the return
D_i, and numbers that the first pass has settled: α, and β_g for each group of trajectories and component; or
x_i = α A_i + β_g B_i if it leaves two (`fastpg.estimators.optimal`).

- Covariance of the estimate x̄: Σ_i (x_i - x̄)(x_i - x̄)ᵀ / (N (N - 1)); its diagonal is standard_error².
- Fisher information of the trajectories' distribution, F(θ) = E[s sᵀ] with s = Σ_t ∇log π_θ(a_t | s_t), which
  is Σ_t E[∇log π ∇log πᵀ] (Kakade 2002; Peters & Schaal 2008, §4.1): x_i = s_i, that is α = 0 and β = 1.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import moments
from fastpg.scores import is_paired, is_weighted


class SecondPass(NamedTuple):
    """Takes the trajectories as another accumulator does, for sums of its own; compiled into the lanes."""

    of: Any  # the other accumulator
    factor: float  # α
    numbers: np.ndarray  # what else the sums are made with

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return self.of.choose(policy, theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return self.of.start(score)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        return self.of.acted(trace, score, policy, theta, observation, action, time)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return self.of.rewarded(trace, reward)

    def term(self, trace):
        """Return the sum of scores that a finished trajectory leaves."""
        return self.of.term(trace)


class OuterProducts(SecondPass):
    """Accumulates Σ x xᵀ; the numbers are β, shape (groups · P,), for a power of two groups."""

    __slots__ = ()

    def finish(self, totals, trajectory, score):
        """Add a finished trajectory's outer product; `totals` is P² numbers and room for x."""
        n = moments.length(score)
        group = trajectory.number & (len(self.numbers) // n - 1)
        factor = self.factor * self.of.used_return(trajectory.trace)
        moments.add_outer(totals, score, factor, self.numbers, group * n)


class WeightedOuterProducts(OuterProducts):
    """The same for accumulators that weight every step's score."""

    __slots__ = ()

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step."""
        return self.of.mark(trace, observation, time)

    def with_value(self, mark, value):
        """Return the mark with a value in it."""
        return self.of.with_value(mark, value)

    def latest(self, trace):
        """Return what the last step needs to know."""
        return self.of.latest(trace)

    def weigh(self, policy, theta, trace, observation, factor, mark, later):
        """Return a recorded step's factor, weighted, and what the one before needs."""
        return self.of.weigh(policy, theta, trace, observation, factor, mark, later)


class PairedOuterProducts(WeightedOuterProducts):
    """The same for accumulators that leave two sums of scores."""

    __slots__ = ()

    def partner(self, trace):
        """Return the second one."""
        return self.of.partner(trace)

    def partner_weight(self, mark):
        """Return the weight in it of the score of a recorded step."""
        return self.of.partner_weight(mark)


def mean_outer_product(problem: Any, accumulator: Any, factor: float, offsets: np.ndarray) -> np.ndarray:
    """Return (1/N) Σ_i x_i x_iᵀ, shape (P, P), over the trajectories of a problem."""
    p = problem.policy.n_parameters
    sums = np.zeros(p * p)
    kind = WeightedOuterProducts if is_weighted(accumulator) else OuterProducts
    if is_paired(accumulator):
        kind = PairedOuterProducts
    for _, totals, _ in problem.sample(kind(accumulator, factor, offsets.reshape(-1)), (p * p + p,)):
        for chunk in totals:
            sums += chunk[: p * p]
    return sums.reshape(p, p) / problem.n_trajectories
