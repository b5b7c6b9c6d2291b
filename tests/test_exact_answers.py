"""Every estimator, policy and baseline against the exact answers: on finite processes, and on LQR.

Of a million trajectories each component is within 4 standard errors of the exact one, and the exact variance
is within an interval around the estimated one, by Student's t over twenty independent parts. A kernel
compiles for each combination of types: here tabular policies meet every estimator and baseline, and the
others every estimator; FASTPG_WHOLE_MATRIX=1 runs all of them.
"""

import os
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs import FiniteMDP, FrozenLake, LinearQuadratic
from gymnasium.spaces import Box
from scipy import stats

import fastpg
from fastpg import GPOMDP, REINFORCE, GaussianLinear, RewardToGo, SoftmaxLinear, SoftmaxTabular, exact
from fastpg.estimators.problem import Problem
from fastpg.features import Fourier, Polynomial, RadialBasis, TileCoding
from fastpg.tables import lookup

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")

WHOLE = bool(os.environ.get("FASTPG_WHOLE_MATRIX"))
N, PARTS, SEED = 1_000_000, 20, 3
GAMMA = 0.9


def random_mdp(n_states, horizon, seed):
    """Four actions, three outcomes each; any may end the episode."""
    rng = np.random.default_rng(seed)
    shape = n_states, 4, 3
    return FiniteMDP.from_outcomes(
        rng.dirichlet(np.ones(3), shape[:2]),
        rng.integers(0, n_states, shape),
        rng.normal(0.5, 1.0, shape),
        rng.random(shape) < 0.1,
        rng.dirichlet(np.ones(n_states)),
        horizon=horizon,
    )


MDPS = {
    "2 states": random_mdp(2, 3, seed=1),
    "20 states": random_mdp(20, 15, seed=2),
    "FrozenLake": FiniteMDP.from_gymnasium(FrozenLake.make().gymnasium_twin(), horizon=30),
}


class Seen(NamedTuple):
    """A finite process whose states are seen as points of a square."""

    mdp: FiniteMDP
    points: np.ndarray  # (S, 2)

    observation_space = Box(-1.0, 1.0, (2,))

    @property
    def horizon(self):
        return self.mdp.horizon

    @property
    def action_space(self):
        return self.mdp.action_space

    def reset(self, rng):
        return self.mdp.reset(rng)

    def observe(self, state):
        return lookup(self.points, state.s, 0), lookup(self.points, state.s, 1)

    def step(self, state, action, rng):
        return self.mdp.step(state, action, rng)


class AtStates(NamedTuple):
    """A policy of points, or a baseline, as the exact recursions ask it: about numbers of states."""

    of: Any
    points: np.ndarray

    @property
    def n_parameters(self):
        return self.of.n_parameters

    def probabilities(self, theta, observation):
        return self.of.probabilities(theta, self.points[observation])

    def score(self, theta, observation, action):
        return self.of.score(theta, self.points[observation], action)

    def sample(self, theta, observation, rng):
        return self.of.sample(theta, self.points[observation], rng)

    def value(self, observation, time):
        return self.of.value(self.points[observation], time)


POLICIES = {
    "tabular": None,
    "linear": lambda env: SoftmaxLinear.for_env(env),
    "few features": lambda env: SoftmaxLinear.for_env(env, features=Polynomial(1)),
    "features": lambda env: SoftmaxLinear.for_env(env, features=Fourier(4)),
    "radial": lambda env: SoftmaxLinear.for_env(env, features=RadialBasis(3, normalised=True)),
    "tiles": lambda env: SoftmaxLinear.for_env(env, features=TileCoding(2, 2)),
}


class Case(NamedTuple):
    env: Any
    policy: Any
    theta: np.ndarray
    points: Any  # of states, if policies see them

    @property
    def mdp(self):
        return self.env if self.points is None else self.env.mdp

    def at_states(self, of):
        return of if self.points is None else AtStates(of, self.points)


@cache
def case_of(policy, mdp):
    process, rng = MDPS[mdp], np.random.default_rng(70)
    if policy == "tabular":
        env, points, made = process, None, SoftmaxTabular.for_env(process)
    else:
        points = rng.uniform(-1.0, 1.0, (process.n_states, 2))
        env = Seen(process, points)
        made = POLICIES[policy](env)
    return Case(env, made, 0.5 * rng.normal(size=made.n_parameters), points)


@cache
def truth_of(policy, mdp):
    case = case_of(policy, mdp)
    return exact.policy_gradient(
        case.mdp, case.at_states(case.policy), case.theta, discount=GAMMA, covariance=True
    )


BASELINES = "none", "mean", "optimal", "time", "value"
EVERYTHING = [(kind, baseline) for kind in (REINFORCE, GPOMDP, RewardToGo) for baseline in BASELINES]
CHOSEN = {
    "tabular": EVERYTHING,
    "linear": [
        *((REINFORCE, baseline) for baseline in ("none", "mean", "optimal")),
        (GPOMDP, "optimal"),
        (RewardToGo, "value"),
    ],
    "few features": [(REINFORCE, "time"), (GPOMDP, "value"), (RewardToGo, "optimal")],
    "features": [
        *((REINFORCE, baseline) for baseline in ("none", "mean", "optimal")),
        (GPOMDP, "optimal"),
        (RewardToGo, "time"),
    ],
    "radial": [(REINFORCE, "mean"), (GPOMDP, "time"), (RewardToGo, "optimal")],
    "tiles": [(REINFORCE, "optimal"), (GPOMDP, "mean"), (RewardToGo, "time")],
}


def estimator_of(kind, baseline):
    return kind(baseline=baseline, discount=GAMMA)


class Fitted(NamedTuple):
    """An estimator whose baseline has been fitted: the same one for all parts of a batch."""

    estimator: Any
    fitted: Any  # the accumulator

    @property
    def complete_terms(self):
        return self.estimator.complete_terms

    def check(self, n_trajectories):
        self.estimator.check(n_trajectories)

    def accumulator(self, problem):
        return self.fitted

    def totals_shape(self, n_parameters):
        return self.estimator.totals_shape(n_parameters)

    def gradient(self, sums, n):
        return self.estimator.gradient(sums, n)

    def terms(self, sums, n):
        return self.estimator.terms(sums, n)


def in_parts(env, policy, theta, estimator, seed=SEED, behavior=None):
    """The gradients and variances of a trajectory that parts of a batch tell: shapes (PARTS, P)."""
    horizon, size = env.horizon, N // PARTS
    asked = Problem(env, policy, theta, N, horizon, seed, 0, None, [])
    accumulator = estimator.accumulator(asked)
    parts = [
        fastpg.policy_gradient(
            env,
            policy,
            theta,
            Fitted(estimator, accumulator),
            n_trajectories=size,
            seed=seed,
            first_trajectory=part * size,
            behavior=behavior,
        )
        for part in range(PARTS)
    ]
    gradients = np.array([part.gradient for part in parts])
    return gradients, size * np.array([part.standard_error**2 for part in parts]), accumulator


def exactly(policy, mdp, kind, baseline, accumulator):
    """Mean and variance of a trajectory's term."""
    case, truth = case_of(policy, mdp), truth_of(policy, mdp)
    if kind is REINFORCE and baseline in ("none", "mean", "optimal"):
        return truth.gradient, truth.variance(baseline)
    level = baseline
    if baseline == "mean":
        level = accumulator.baseline.level
    elif baseline == "time":
        level = accumulator.baseline
    elif baseline == "value":
        level = case.at_states(accumulator.baseline)
    arguments = case.mdp, case.at_states(case.policy), case.theta
    options = {"baseline": level, "discount": GAMMA}
    if kind is REINFORCE:
        return truth.gradient, np.diag(exact.reinforce_covariance(*arguments, **options))
    if kind is GPOMDP:
        return truth.gradient, np.diag(exact.gpomdp_covariance(*arguments, **options))
    mean, covariance = exact.reward_to_go_moments(*arguments, **options)
    return mean, np.diag(covariance)


def assert_variances(variances, variance):
    """The exact variances are in the intervals of the estimated ones, of shape (PARTS, P)."""
    often = variance > 1e-3 * variance.max()  # of a rare state even a million trajectories tell little
    # At one level for all components together (Bonferroni): there are thousands of them in this matrix.
    level = stats.norm.sf(4) / often.sum()
    spread = stats.t.isf(level, PARTS - 1) * variances.std(axis=0, ddof=1) / np.sqrt(PARTS)
    assert often.any()
    assert (np.abs(variances.mean(axis=0) - variance) <= spread + 1e-9 * variance)[often].all()


def cells():
    found = []
    for policy in POLICIES:
        for kind, baseline in EVERYTHING if WHOLE else CHOSEN[policy]:
            found.append(pytest.param(policy, kind, baseline, id=f"{policy}-{kind.__name__}-{baseline}"))
    return found


@pytest.mark.parametrize("mdp", MDPS)
@pytest.mark.parametrize(("policy", "kind", "baseline"), cells())
def test_mean_and_variance_are_the_exact_ones(policy, kind, baseline, mdp):
    """Each component within 4 standard errors; variances that matter in intervals of that level together."""
    case = case_of(policy, mdp)
    gradients, variances, accumulator = in_parts(
        case.env, case.policy, case.theta, estimator_of(kind, baseline)
    )
    mean, variance = exactly(policy, mdp, kind, baseline, accumulator)
    error = np.sqrt(variance / N)
    assert (np.abs(gradients.mean(axis=0) - mean) <= 4 * error + 1e-12).all()
    assert_variances(variances, variance)


@pytest.mark.parametrize(
    ("policy", "kind", "baseline"),
    [("linear", GPOMDP, "optimal"), ("features", REINFORCE, "mean")],
)
def test_covariance_is_the_exact_one(policy, kind, baseline):
    """Of two states and three steps, whose oracle is enumeration; to 2 % of the largest, N = 400,000."""
    case, n = case_of(policy, "2 states"), 400_000
    estimator = estimator_of(kind, baseline)
    estimate = fastpg.policy_gradient(
        case.env, case.policy, case.theta, estimator, n_trajectories=n, seed=SEED, covariance=True
    )
    np.testing.assert_allclose(np.diag(estimate.covariance), estimate.standard_error**2, rtol=1e-9)
    if kind is REINFORCE:
        expected = truth_of(policy, "2 states").baseline_covariance(baseline)
    else:
        expected = exact.gpomdp_covariance(
            case.mdp, case.at_states(case.policy), case.theta, baseline=baseline, discount=GAMMA
        )
    np.testing.assert_allclose(n * estimate.covariance, expected, rtol=0, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("mdp", MDPS)
@pytest.mark.parametrize("kind", [REINFORCE, GPOMDP, RewardToGo])
def test_the_optimal_constant_is_the_best_of_the_estimated(kind, mdp):
    """No variance of a component is larger than that with no baseline or the mean, up to its own interval."""
    case = case_of("tabular", mdp)
    best, *others = (
        in_parts(case.env, case.policy, case.theta, estimator_of(kind, baseline))[1]
        for baseline in ("optimal", "none", "mean")
    )
    for other in others:
        difference = best - other  # of the same trajectories
        spread = stats.t.isf(stats.norm.sf(4), PARTS - 1) * difference.std(axis=0, ddof=1) / np.sqrt(PARTS)
        assert (difference.mean(axis=0) <= spread + 1e-3 * other.mean(axis=0)).all()
    assert (best.mean(axis=0) < 0.9 * others[0].mean(axis=0)).any()


# --- LQR ---


def plant():
    rng = np.random.default_rng(4)
    A, B = np.array([[0.9, 0.2], [-0.1, 0.8]]), rng.normal(size=(2, 2))
    return LinearQuadratic.from_matrices(
        A,
        B,
        np.diag([1.0, 0.5]),
        0.2 * np.eye(2),
        noise=0.05,
        start_mean=[1.0, -0.5],
        start_covariance=0.3,
        horizon=12,
    )


LQR_CHOSEN = [
    *((REINFORCE, baseline) for baseline in ("none", "mean", "optimal")),
    (GPOMDP, "optimal"),
    (GPOMDP, "value"),
    (RewardToGo, "none"),
    (RewardToGo, "mean"),
]


@pytest.mark.parametrize(("kind", "baseline"), EVERYTHING if WHOLE else LQR_CHOSEN)
def test_lqr_mean_and_variance_are_the_exact_ones(kind, baseline):
    """Two actions, learned log σ; RewardToGo without a discount, where its mean is the gradient."""
    env, discount = plant(), 1.0 if kind is RewardToGo else GAMMA
    policy = GaussianLinear.for_env(env)
    theta = np.concatenate([0.1 * np.random.default_rng(5).normal(size=6), [-0.6, -0.3]])
    estimator = kind(baseline=baseline, discount=discount)
    gradients, variances, accumulator = in_parts(env, policy, theta, estimator)
    # What was fitted on a pilot batch is what it is; other baselines are known.
    fitted = None if baseline in ("none", "optimal") else getattr(accumulator, "baseline", None)
    covariance = exact.lqr_covariance(env, policy, theta, estimator, baseline=fitted)
    variance = np.diag(covariance)
    truth = exact.lqr_gradient(env, policy, theta, discount=discount)
    assert (np.abs(gradients.mean(axis=0) - truth.gradient) <= 4 * np.sqrt(variance / N)).all()
    assert_variances(variances, variance)
    plain = exact.lqr_gradient(env, policy, theta)
    evaluation = fastpg.evaluate(env, policy, theta, n_trajectories=N, seed=SEED)
    assert abs(evaluation.mean_return - plain.expected_return) <= 4 * evaluation.return_standard_error
