r"""Importance weights: the gradient at θ from trajectories of another θ, the behaviour policy's.

    ∇J(θ) = E_{τ~θ_b}[w(τ) x(τ)],    w = Π_t π_θ(a_t|s_t) / π_{θ_b}(a_t|s_t),

for every x with E_{τ~θ}[x] = ∇J(θ): the terms of GPOMDP and RewardToGo (Precup, Sutton & Singh 2000; Jie &
Abbeel 2010). Unbiased, but the further θ is from θ_b and the longer the trajectories, the fewer of them carry
all the weight: as many as the effective sample size (Σw)² / Σw² (Kong 1992) says, and standard errors are to
be trusted no more if that is small. The logarithm of w is added up along a trajectory.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import moments
from fastpg.estimators.sums import COLUMNS, add_returns
from fastpg.neural_lanes import behavior_in_lane
from fastpg.precision import widened
from fastpg.sampling import as_parameters


class WeightedTrace(NamedTuple):
    """Along a trajectory: the trace of the terms, and log w."""

    of: Any
    log_weight: float


class WeightedTerms(NamedTuple):
    """Accumulates Σ wx and Σ (wx)², Σw and Σw², and the returns; compiled into the lanes."""

    of: Any  # the accumulator whose terms they are
    behavior: Any  # θ_b, as the kernel has θ

    def choose(self, policy, theta, observation, rng):
        """Return the action to take: the behaviour policy's."""
        return policy.sample(behavior_in_lane(theta, self.behavior), observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        return WeightedTrace(self.of.start(score), 0.0)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        behavior = behavior_in_lane(theta, self.behavior)
        ratio = policy.log_prob(theta, observation, action) - policy.log_prob(behavior, observation, action)
        of = self.of.acted(trace.of, score, policy, theta, observation, action, time)
        return WeightedTrace(of, trace.log_weight + widened(ratio))

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return WeightedTrace(self.of.rewarded(trace.of, reward), trace.log_weight)

    def term(self, trace):
        """Return what a finished trajectory contributes, but for its weight."""
        return self.of.term(trace.of)

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step."""
        return self.of.mark(trace.of, observation, time)

    def with_value(self, mark, value):
        """Return the mark with a value in it."""
        return self.of.with_value(mark, value)

    def latest(self, trace):
        """Return what the last step needs to know."""
        return self.of.latest(trace.of)

    def weigh(self, policy, theta, trace, observation, factor, mark, later):
        """Return a recorded step's factor, weighted, and what the one before needs."""
        return self.of.weigh(policy, theta, trace.of, observation, factor, mark, later)

    def used_return(self, trace):
        """Return what terms are multiplied with besides an offset, here the weight."""
        return np.exp(trace.log_weight)

    def finish(self, totals, trajectory, term):
        """Add a finished trajectory to the sums."""
        row = totals[0]
        n = moments.length(term)
        trace = trajectory.trace
        weight = np.exp(trace.log_weight)
        total = trace.of.total
        add_returns(row, 2 * n + 2, total, total, trajectory.time)
        row[2 * n] += weight
        row[2 * n + 1] += weight * weight
        moments.add_powers(row, term, weight)


def check_behavior(policy: Any, estimator: Any) -> None:
    """Raise unless trajectories of another θ can be weighted."""
    if not getattr(estimator, "complete_terms", False):
        raise ValueError(
            "behavior: can be given with GPOMDP and RewardToGo, and REINFORCE with 'time' or 'value'; "
            "not with baseline='optimal'"
        )
    if not hasattr(policy, "log_prob"):
        raise TypeError(f"behavior: {type(policy).__name__} lacks log_prob")


def weighted(
    accumulator: Any, shape: tuple, policy: Any, behavior: np.ndarray
) -> tuple[WeightedTerms, tuple]:
    """Return the accumulator for trajectories of another θ, and the shape of its totals."""
    groups, columns = shape
    return WeightedTerms(accumulator, as_parameters(policy, behavior)), (groups, columns + 2)


def without_weights(sums: np.ndarray) -> np.ndarray:
    """Return the sums as they are without weights."""
    return np.delete(sums, (-COLUMNS - 2, -COLUMNS - 1), axis=1)


def effective_sample_size(sums: np.ndarray) -> float:
    """Return (Σw)² / Σw², from the sums; NaN if all weights are 0."""
    total, squares = sums[0, -COLUMNS - 2], sums[0, -COLUMNS - 1]
    return float(total**2 / squares) if squares > 0 else float("nan")
