r"""GPOMDP: every score times the rewards that come after it.

With g_t = ∇log π_θ(a_t | s_t), the discounted objective J(θ) = E[Σ_t γ^t r_t] has the gradient

    ∇J(θ) = E[Σ_t g_t (Σ_{k≥t} γ^k r_k - γ^t V_t)],

because E[g_t r_k] = 0 for k < t: the terms that REINFORCE has beyond these only add variance (Baxter &
Bartlett 2001; Peters & Schaal 2008, §3.2). V_t may depend on s_t and t (`fastpg.estimators.baselines`). With
the return D = Σ_t γ^t r_t and what has been earned before step t, C_t = Σ_{k<t} γ^k r_k, the sum is

    D Σ_t g_t - Σ_t g_t (C_t + γ^t V_t),

which is REINFORCE with one more baseline, and streams: a lane carries two sums of scores, and no trajectory
is stored.

**RewardToGo** drops γ^t, as most implementations do:

    E[Σ_t g_t (Σ_{k≥t} γ^{k-t} r_k - V_t)] = E[Σ_t (r_t z_t - V_t g_t)],    z_t = γ z_{t-1} + g_t.

Here a lane carries the eligibility trace z_t. That is ∇J(θ) for γ = 1. For γ < 1 it is the gradient of no
function (Nota & Thomas 2020, "Is the policy gradient a gradient?"): late states count as much as early ones,
which J discounts. It is what Baxter & Bartlett (2001) defined under the name of GPOMDP, as a biased estimate
of the gradient of the average reward.

The estimate is the mean of the terms x_i of N trajectories, its standard error √(S²/N) with their sample
variance S². The baseline, but for "optimal" (`fastpg.estimators.optimal`), comes from a pilot batch of its
own random stream, an eighth of N (128 to 1024 trajectories, fewer for very long horizons), so the x_i are
independent and the estimate unbiased for every N.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import moments, vectors
from fastpg.arguments import check_baseline, check_discount, check_number
from fastpg.estimators.baselines import Constant, fit
from fastpg.estimators.entropy import bonus_for
from fastpg.estimators.optimal import (
    OPTIMAL,
    PairedTerms,
    check_pairs,
    closed,
    groups_for,
    optimal_levels,
)
from fastpg.estimators.sums import COLUMNS, add_returns, mean_term
from fastpg.running_sums import RunningSum

ALLOWED = ("none", "mean", "optimal", "time", "value", "network")


class CausalTrace(NamedTuple):
    """Along a trajectory."""

    score: Any  # Σ g_t
    past: Any  # Σ g_t (C_t + γ^t V_t)
    earned: float  # C_t
    weight: float  # γ^t
    total: float  # the undiscounted return


class EligibilityTrace(NamedTuple):
    """Along a trajectory."""

    term: Any  # the sum so far
    eligibility: Any  # z
    total: float


class Terms(NamedTuple):
    """What the accumulators of both estimators share; compiled into the lanes."""

    baseline: Any
    bonus: Any
    discount: float

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def finish(self, totals, trajectory, term):
        """Add a finished trajectory to the sums of its term x, of x², and of the returns."""
        row = totals[0]
        total = trajectory.trace.total
        add_returns(row, 2 * moments.length(term), total, total, trajectory.time)
        moments.add_powers(row, term, 1.0)

    def used_return(self, trace):
        """Return the return that terms are multiplied with: none, they are complete."""
        return 0.0

    def weigh(self, policy, theta, trace, observation, factor, mark, later):
        """Return a recorded step's factor, weighted and with its entropy's, and what the one before needs."""
        level = self.bonus.level(policy, theta, observation)
        weight, coefficient, later = self.weights(trace, mark, later, level)
        return self.bonus.factor(policy, theta, observation, factor, weight, coefficient), later


class CausalTerms(Terms):
    """Accumulates GPOMDP's terms; compiled into the lanes."""

    __slots__ = ()

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        zero = RunningSum(vectors.zeros_like(score))
        return CausalTrace(zero, zero, 0.0, 1.0, 0.0)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        earned = trace.earned + trace.weight * self.bonus.level(policy, theta, observation)
        expected = earned + trace.weight * self.baseline.value(observation, time)
        past = trace.past.plus(vectors.scale(score, expected, 0.0))
        past = self.bonus.push(past, -trace.weight, policy, theta, observation)
        return CausalTrace(trace.score.plus(score), past, earned, trace.weight, trace.total)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        earned, weight = trace.earned + trace.weight * reward, trace.weight * self.discount
        return CausalTrace(trace.score, trace.past, earned, weight, trace.total + reward)

    def term(self, trace):
        """Return what a finished trajectory contributes."""
        return vectors.subtract(vectors.scale(trace.score.total, trace.earned, 0.0), trace.past.total)

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step: C_t + γ^t V_t, and γ^t."""
        return trace.earned + trace.weight * self.baseline.value(observation, time), trace.weight

    def score_weight(self, trace):
        """Return the weight γ^t of a step's score in what a constant baseline is multiplied with."""
        return trace.weight

    def marked_weight(self, mark):
        """Return the same of a recorded step."""
        return mark[1]

    def with_value(self, mark, value):
        """Return the mark with V_t that was not known when it was recorded."""
        return mark[0] + mark[1] * value, mark[1]

    def latest(self, trace):
        """Return what the last step needs to know: nothing."""
        return 0.0, 0.0

    def weights(self, trace, mark, later, level):
        """Return a recorded step's weights, of its score and its entropy, and what the one before needs."""
        return trace.earned - mark[0], mark[1], later


class WholeReturnTerms(CausalTerms):
    """Accumulates Σ_t g_t (D - V_t), REINFORCE's terms with a baseline for each step, D with the bonus."""

    __slots__ = ()

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        earned = trace.earned + trace.weight * self.bonus.level(policy, theta, observation)
        past = trace.past.plus(vectors.scale(score, self.baseline.value(observation, time), 0.0))
        past = self.bonus.push(past, -trace.weight, policy, theta, observation)
        return CausalTrace(trace.score.plus(score), past, earned, trace.weight, trace.total)

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step: V_t, and γ^t."""
        return self.baseline.value(observation, time), trace.weight


class EligibilityTerms(Terms):
    """Accumulates RewardToGo's terms; compiled into the lanes."""

    __slots__ = ()

    def start(self, score):
        """Return the trace of a trajectory that has not begun, from a score of any value."""
        zero = vectors.zeros_like(score)
        return EligibilityTrace(RunningSum(zero), zero, 0.0)

    def acted(self, trace, score, policy, theta, observation, action, time):
        """Return the trace after an action with this score."""
        decayed = vectors.scale(trace.eligibility, self.discount, 0.0)
        level = self.baseline.value(observation, time)
        term = trace.term.plus(vectors.scale(score, -level, 0.0))
        term = term.plus(vectors.scale(decayed, self.bonus.level(policy, theta, observation), 0.0))
        term = self.bonus.push(term, 1.0, policy, theta, observation)
        return EligibilityTrace(term, vectors.add(decayed, score), trace.total)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        term = trace.term.plus(vectors.scale(trace.eligibility, reward, 0.0))
        return EligibilityTrace(term, trace.eligibility, trace.total + reward)

    def term(self, trace):
        """Return what a finished trajectory contributes."""
        return trace.term.total

    def mark(self, trace, observation, time):
        """Return what is to be recorded of a step: what was earned before, and V_t."""
        return trace.total, self.baseline.value(observation, time)

    def score_weight(self, trace):
        """Return the weight of a step's score in what a constant baseline is multiplied with: 1."""
        return 1.0

    def marked_weight(self, mark):
        """Return the same of a recorded step."""
        return 1.0

    def with_value(self, mark, value):
        """Return the mark with V_t that was not known when it was recorded."""
        return mark[0], mark[1] + value

    def latest(self, trace):
        """Return what the last step needs to know: all that was earned, and that nothing follows."""
        return trace.total, 0.0

    def weights(self, trace, mark, later, level):
        """Return a recorded step's weights, of its score and its entropy, and what the one before needs."""
        to_go = later[0] - mark[0] + self.discount * later[1]
        return to_go - mark[1], 1.0, (mark[0], to_go + level)


class _RewardsToGo(NamedTuple):
    """What both estimators share: their options, and what they make of the sums."""

    discount: float = 1.0
    baseline: str = "none"
    entropy: float = 0.0

    @property
    def complete_terms(self) -> bool:
        """Whether what a trajectory leaves is its term, which may be weighted."""
        return self.baseline != "optimal"

    def check(self, n_trajectories):
        """Raise ValueError or TypeError unless the options are allowed."""
        check_baseline(self.baseline, ALLOWED)
        check_discount(self.discount)
        check_number("entropy", self.entropy)
        if self.baseline == "optimal" and n_trajectories < 2:
            raise ValueError(
                f"n_trajectories={n_trajectories}: baseline='optimal' leaves one out and needs 2"
            )

    def totals_shape(self, n_parameters):
        """Return the shape of the totals of a chunk: groups by columns."""
        if self.baseline == "optimal":
            return groups_for(n_parameters), 5 * n_parameters + COLUMNS
        return 1, 2 * n_parameters + COLUMNS

    def gradient(self, sums, n):
        """Return the estimate and its standard error, shape (n_parameters,) each, from the sums."""
        return closed(sums, OPTIMAL, n) if self.baseline == "optimal" else mean_term(sums, n)

    def terms(self, sums, n):
        """Return α and β (`second_moments`): what trajectories leave are the terms, or A and B of A - b B."""
        if self.baseline == "optimal":
            return 1.0, -optimal_levels(sums)
        return 0.0, np.ones((1, (sums.shape[1] - COLUMNS) // 2))

    def parts(self, problem):
        """Return the baseline, the bonus and the discount."""
        bonus, gamma = bonus_for(self.entropy, problem.policy), float(self.discount)
        if self.baseline == "none":
            return Constant(0.0), bonus, gamma
        kind = self.baseline
        if kind == "optimal":
            check_pairs(problem.policy)
            kind = "mean"
        return fit(kind, problem, gamma), bonus, gamma

    def whole(self, terms, problem):
        """Return what is compiled into the lanes, from what accumulates terms with a fitted baseline."""
        if self.baseline != "optimal":
            return terms
        return PairedTerms(terms, groups_for(problem.policy.n_parameters))


class GPOMDP(_RewardsToGo):
    """``∇J(θ) ≈ (1/N) Σ_i Σ_t γ^t ∇log π_θ(a_it | s_it) (Σ_{k≥t} γ^{k-t} r_ik - V_it)``.

    The exact gradient of the discounted objective, in expectation; γ is the `discount`. `baseline` is
    "none" (V = 0), "mean" (one number), "time" (one for each step), "value" (a linear function of state and
    time) or "network" (a neural one, for neural policies), fitted on a pilot batch, or "optimal" (the number
    of least variance for each component, estimated on other trajectories); all are unbiased, see the
    derivation at the top of this module.
    `entropy` is the coefficient β of a bonus (`fastpg.estimators.entropy`).
    """

    __slots__ = ()

    def accumulator(self, problem):
        """Return what is compiled into the lanes."""
        return self.whole(CausalTerms(*self.parts(problem)), problem)


class RewardToGo(_RewardsToGo):
    """``(1/N) Σ_i Σ_t ∇log π_θ(a_it | s_it) (Σ_{k≥t} γ^{k-t} r_ik - V_it)``: without the factor γ^t.

    What is commonly implemented as the discounted policy gradient. For γ < 1 it is not the gradient of the
    discounted objective, nor of any other (Nota & Thomas 2020); `GPOMDP` is. The options are the same.
    """

    __slots__ = ()

    def __new__(cls, discount: float = 0.99, baseline: str = "none", entropy: float = 0.0):
        """Return the estimator with these options."""
        return super().__new__(cls, discount, baseline, entropy)

    def accumulator(self, problem):
        """Return what is compiled into the lanes."""
        return self.whole(EligibilityTerms(*self.parts(problem)), problem)


RewardToGo._field_defaults = RewardToGo._field_defaults | {"discount": 0.99}  # as `__new__` has it
