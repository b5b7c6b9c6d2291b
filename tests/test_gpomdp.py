"""GPOMDP and RewardToGo: against NumPy trajectory by trajectory, and against exact answers."""

from typing import NamedTuple

import numba
import numpy as np
import oracles
import pytest
from fastpg.envs import FiniteMDP

import fastpg
from fastpg import GPOMDP, REINFORCE, RewardToGo, SoftmaxMLP, SoftmaxTabular, exact, policy_gradient, simd
from fastpg.estimators import baselines, gpomdp, reinforce
from fastpg.estimators.baselines import BASELINES, Constant, LinearValue, TimeTable
from fastpg.estimators.problem import Problem
from fastpg.random import categorical, uniform
from fastpg.vectors import softmax

JIT = not numba.config.DISABLE_JIT
needs_jit = pytest.mark.skipif(not JIT, reason="needs compiled kernels")
HORIZON = 40 if JIT else 12
N = 500 if JIT else 10


def problem(env, policy, theta, n, seed=7, horizon=HORIZON):
    return Problem(env, policy, theta, n, horizon, seed, 0, None, [])


def terms(steps, estimator, baseline):
    """Every trajectory's term by its definition: each score times the rewards from then on."""
    keeps = isinstance(estimator, GPOMDP)
    gamma = estimator.discount
    x = []
    for g, observations, rewards in steps:
        term = np.zeros(g.shape[1])
        for t in range(len(g)):
            to_go = sum(gamma ** (k - t) * rewards[k] for k in range(t, len(g)))
            level = baseline.value(observations[t], t)
            term += (gamma**t if keeps else 1.0) * g[t] * (to_go - level)
        x.append(term)
    return np.array(x)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("kind", [GPOMDP, RewardToGo])
@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("n", [1, 7, 300] if JIT else [1, 7])
def test_batch_is_the_mean_over_trajectories(env, policy, theta, kind, discount, baseline, n):
    """With the baseline that the pilot batch gave: gradient and standard error to 1e-10."""
    estimator = kind(discount=discount, baseline=baseline)
    estimate = policy_gradient(env, policy, theta, estimator, n_trajectories=n, seed=7, horizon=HORIZON)
    steps = oracles.simulate(theta, n, 7, HORIZON).steps
    fitted = estimator.accumulator(problem(env, policy, theta, n)).baseline
    gradient, error = oracles.mean_and_error(terms(steps, estimator, fitted))
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=1e-10, atol=1e-10 * scale)
    np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-9)


@pytest.mark.parametrize("kind", [GPOMDP, RewardToGo])
@pytest.mark.parametrize("n", [2, 21, 300] if JIT else [2, 21])
def test_optimal_constant_is_that_of_other_trajectories(env, policy, theta, kind, n):
    """Σ AB / ΣB² over the other groups: gradient and standard error, one trajectory at a time."""
    estimator = kind(discount=0.9, baseline="optimal")
    estimate = policy_gradient(env, policy, theta, estimator, n_trajectories=n, seed=7, horizon=HORIZON)
    level = estimator.accumulator(problem(env, policy, theta, n)).of.baseline
    steps = oracles.simulate(theta, n, 7, HORIZON).steps
    a = terms(steps, estimator, level)
    powers = 0.9 if kind is GPOMDP else 1.0
    b = np.array([(powers ** np.arange(len(g))) @ g for g, _, _ in steps])
    x = np.empty_like(a)
    for i in range(n):
        others = np.arange(n) % oracles.GROUPS != i % oracles.GROUPS
        x[i] = a[i] - (a * b)[others].sum(axis=0) / (b**2)[others].sum(axis=0) * b[i]
    gradient, error = oracles.mean_and_error(x)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-8, atol=1e-9 * scale)


def test_pilot_batch_records_its_trajectories(env, policy, theta):
    """Observations and rewards are those of the pilot's own stream, whatever the chunks."""
    from fastpg.estimators import problem as module

    batch = problem(env, policy, theta, 1000, seed=3).pilot(observed=True)
    assert len(batch.lengths) == 128
    steps = oracles.simulate(theta, 128, (3 + module._PILOT) % 2**64, HORIZON).steps
    for i, (_, observations, rewards) in enumerate(steps):
        n = len(rewards)
        assert batch.lengths[i] == n
        np.testing.assert_allclose(batch.observations[i, :n], observations, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(batch.rewards[i, :n], rewards)
        assert not batch.observations[i, n:].any() and not batch.rewards[i, n:].any()


def test_baselines_are_the_least_squares_fits(env, policy, theta):
    """Each against a fit by hand on the same batch."""
    asked = problem(env, policy, theta, 2000)
    batch = asked.pilot(observed=True)
    to_go, alive = batch.rewards_to_go(0.9), batch.alive
    by_hand = np.zeros_like(to_go)
    for i, n in enumerate(batch.lengths):
        for t in range(n):
            by_hand[i, t] = sum(0.9 ** (k - t) * batch.rewards[i, k] for k in range(t, n))
    np.testing.assert_allclose(to_go, by_hand, rtol=1e-13)
    assert baselines.fit("mean", asked, 0.9).level == pytest.approx(by_hand[alive].mean(), rel=1e-12)
    table = baselines.fit("time", asked, 0.9).values
    assert table.shape == (HORIZON,)
    for t in range(to_go.shape[1]):
        assert table[t] == pytest.approx(by_hand[alive[:, t], t].mean(), rel=1e-12)
    value = baselines.fit("value", asked, 0.9)
    o = batch.observations[alive]
    tau = np.nonzero(alive)[1] / HORIZON
    x = np.column_stack([o, o**2, tau, tau**2, tau**3, np.ones_like(tau)])
    weights = np.linalg.lstsq(x, by_hand[alive], rcond=None)[0]
    fitted = [value.value(o[i], np.nonzero(alive)[1][i]) for i in range(0, len(o), 97)]
    np.testing.assert_allclose(fitted, (x @ weights)[::97], rtol=1e-6)


def test_without_discount_both_are_the_same(env, policy, theta):
    """To rounding."""
    settings = {"n_trajectories": N, "seed": 1, "horizon": HORIZON}
    for baseline in BASELINES:
        kept = policy_gradient(env, policy, theta, GPOMDP(baseline=baseline), **settings)
        dropped = policy_gradient(env, policy, theta, RewardToGo(1.0, baseline), **settings)
        np.testing.assert_allclose(kept.gradient, dropped.gradient, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(kept.standard_error, dropped.standard_error, rtol=1e-9)


ZEROS = {
    "mean": Constant(0.0),
    "time": TimeTable(np.zeros(HORIZON)),
    "value": LinearValue((0.0,) * 9, (0.0,) * 3, HORIZON, float(HORIZON)),
}


@pytest.mark.parametrize("baseline", ZEROS)
@pytest.mark.parametrize("entropy", [0.0, 0.1])
@pytest.mark.parametrize("kind", [REINFORCE, GPOMDP, RewardToGo])
def test_a_baseline_of_zeros_is_none_bit_for_bit(env, policy, theta, monkeypatch, kind, entropy, baseline):
    if kind is REINFORCE and baseline == "mean" and not entropy:
        pytest.skip("leaves one out of the batch itself: nothing is fitted")
    settings = {"n_trajectories": N, "seed": 1, "horizon": HORIZON}
    without = policy_gradient(env, policy, theta, kind(discount=0.9, entropy=entropy), **settings)
    for module in (gpomdp, reinforce):
        monkeypatch.setattr(module, "fit", lambda *arguments, **how: ZEROS[baseline])
    zeros = policy_gradient(
        env, policy, theta, kind(discount=0.9, entropy=entropy, baseline=baseline), **settings
    )
    assert without.gradient.tobytes() == zeros.gradient.tobytes()
    assert without.standard_error.tobytes() == zeros.standard_error.tobytes()


@needs_jit
def test_where_no_reward_was_seen_a_fitted_baseline_is_none_bit_for_bit():
    """Nor a table of states, nor under a policy whose trajectories are recorded; the pilot batch is real."""
    env, seen = fastpg.make("FrozenLake-v1"), []
    tabular = SoftmaxTabular.for_env(env)
    asked = {"n_trajectories": 4096, "horizon": 6}
    for baseline in ("none", "time", "value"):
        estimate = policy_gradient(env, tabular, tabular.initial(), REINFORCE(baseline), seed=2, **asked)
        seen.append((estimate.gradient.tobytes(), estimate.standard_error.tobytes()))
    assert np.any(estimate.gradient)
    assert seen[0] == seen[1] == seen[2]


# --- exact answers ---


class Logistic(NamedTuple):
    """Two actions, π(1 | s) = σ(θ₀ + θ₁ s + θ₂ s²), as a user would write it."""

    n_parameters = 3

    def _chance(self, theta, observation):
        return 1.0 / (1.0 + simd.exp(-(theta[0] + theta[1] * observation + theta[2] * observation**2)))

    def probabilities(self, theta, observation):
        p = self._chance(theta, observation)
        return np.array([1.0 - p, p])

    def sample(self, theta, observation, rng):
        return 1 if uniform(rng, 0) < self._chance(theta, observation) else 0

    def score(self, theta, observation, action):
        error = action - self._chance(theta, observation)
        return error, error * observation, error * observation**2


def random_mdp(seed=5, n_states=4, horizon=12):
    rng = np.random.default_rng(seed)
    shape = n_states, 2, 3
    probability = rng.dirichlet(np.ones(3), shape[:2])
    successor, ends = rng.integers(0, n_states, shape), rng.random(shape) < 0.1
    start, rewards = rng.dirichlet(np.ones(n_states)), rng.normal(0.5, 1.0, shape)
    return FiniteMDP.from_outcomes(probability, successor, rewards, ends, start, horizon=horizon)


MDP, THETA = random_mdp(), np.array([0.3, -0.8, 0.2])


@needs_jit
@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("baseline", BASELINES)
def test_gpomdp_is_the_exact_gradient_with_the_exact_error(baseline, discount):
    """N = 400,000: each component within 4.5 standard errors; their squares within 3 % of the exact ones."""
    n = 400_000
    estimate = policy_gradient(MDP, Logistic(), THETA, GPOMDP(discount, baseline), n_trajectories=n, seed=11)
    asked = Problem(MDP, Logistic(), THETA, n, MDP.horizon, 11, 0, None, [])
    truth = exact.policy_gradient(MDP, Logistic(), THETA, discount=discount)
    assert (np.abs(estimate.gradient - truth.gradient) < 4.5 * estimate.standard_error).all()
    fitted = GPOMDP(discount, baseline).accumulator(asked).baseline
    if baseline == "value":  # no exact counterpart: at least, it learnt something
        assert np.ptp(fitted.values) > 0.3
        return
    level = fitted.level if baseline == "mean" else baseline
    covariance = exact.gpomdp_covariance(MDP, Logistic(), THETA, baseline=level, discount=discount)
    np.testing.assert_allclose(n * estimate.standard_error**2, np.diag(covariance), rtol=0.03)


@needs_jit
def test_reinforce_with_a_discount_is_the_exact_gradient():
    for baseline in ("none", "mean", "optimal"):
        estimator = REINFORCE(baseline, discount=0.8)
        estimate = policy_gradient(MDP, Logistic(), THETA, estimator, n_trajectories=400_000, seed=12)
        truth = exact.policy_gradient(MDP, Logistic(), THETA, discount=0.8, covariance=True)
        assert (np.abs(estimate.gradient - truth.gradient) < 4.5 * estimate.standard_error).all()
        variance = 400_000 * estimate.standard_error**2
        np.testing.assert_allclose(variance, truth.variance(baseline), rtol=0.03)


@needs_jit
@pytest.mark.parametrize("baseline", ["time", "value"])
def test_reinforce_with_a_baseline_for_each_step_is_the_exact_gradient(baseline):
    """N = 400,000: within 4.5 standard errors; and of less variance than without."""
    settings = {"n_trajectories": 400_000, "seed": 12}
    estimate = policy_gradient(MDP, Logistic(), THETA, REINFORCE(baseline, 0.8), **settings)
    truth = exact.policy_gradient(MDP, Logistic(), THETA, discount=0.8, covariance=True)
    assert (np.abs(estimate.gradient - truth.gradient) < 4.5 * estimate.standard_error).all()
    assert (400_000 * estimate.standard_error**2 < truth.variance("none")).all()


def reward_to_go_expectation(mdp, policy, theta, discount, horizon):
    """Σ_t Σ_s d_t(s) Σ_a π ∇log π Q_t, with no γ^t: forward and backward in plain NumPy, from outcomes."""
    probability, successor, reward, ends = mdp.outcomes
    pi = np.array([policy.probabilities(theta, s) for s in range(mdp.n_states)])
    scores = np.array([[policy.score(theta, s, a) for a in (0, 1)] for s in range(mdp.n_states)])
    values, q = np.zeros(mdp.n_states), []
    for _ in range(horizon):
        q.insert(0, (probability * (reward + discount * ~ends * values[successor])).sum(axis=2))
        values = (pi * q[0]).sum(axis=1)
    alive, total = mdp.start.copy(), 0.0
    for t in range(horizon):
        total = total + np.einsum("s,sa,sa,sap->p", alive, pi, q[t], scores)
        flow = (alive[:, None] * pi)[..., None] * probability * ~ends
        alive = np.bincount(successor.ravel(), flow.ravel(), minlength=mdp.n_states)
    return total


@needs_jit
@pytest.mark.parametrize("baseline", BASELINES)
def test_reward_to_go_is_what_its_definition_says(baseline):
    """And that is not the gradient of the discounted objective."""
    estimate = policy_gradient(
        MDP, Logistic(), THETA, RewardToGo(0.8, baseline), n_trajectories=400_000, seed=13
    )
    expected = reward_to_go_expectation(MDP, Logistic(), THETA, 0.8, MDP.horizon)
    assert (np.abs(estimate.gradient - expected) < 4.5 * estimate.standard_error).all()
    truth = exact.policy_gradient(MDP, Logistic(), THETA, discount=0.8).gradient
    assert (np.abs(estimate.gradient - truth) > 10 * estimate.standard_error).any()


@needs_jit
@pytest.mark.parametrize("estimator", [GPOMDP(0.9, "time"), GPOMDP(0.9, "value"), RewardToGo(0.9, "value")])
def test_bitwise_the_same_for_any_number_of_threads(env, policy, theta, estimator):
    one, two = (
        policy_gradient(env, policy, theta, estimator, n_trajectories=3000, seed=3, threads=threads)
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS))
    )
    assert one.gradient.tobytes() == two.gradient.tobytes()
    assert one.standard_error.tobytes() == two.standard_error.tobytes()


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (GPOMDP(baseline="best"), ValueError, "baseline='best': .*there are none, mean, optimal"),
        (REINFORCE(baseline="maen"), ValueError, "baseline='maen': .*did you mean mean"),
        (GPOMDP(discount=1.5), ValueError, "discount=1.5: must be between 0 and 1"),
        (RewardToGo(discount="0.9"), TypeError, "discount='0.9': must be a number"),
        (RewardToGo(discount=float("nan")), ValueError, "discount=nan: must be between 0 and 1"),
        (REINFORCE(discount=-0.1), ValueError, "discount=-0.1: must be between 0 and 1"),
    ],
)
def test_bad_options_are_refused(env, policy, theta, estimator, error, message):
    with pytest.raises(error, match=message):
        policy_gradient(env, policy, theta, estimator, n_trajectories=10)


def test_what_the_optimal_constant_cannot_be_asked(env, policy, theta):
    with pytest.raises(ValueError, match="n_trajectories=1: baseline='optimal' leaves one out and needs 2"):
        policy_gradient(env, policy, theta, GPOMDP(baseline="optimal"), n_trajectories=1)
    with pytest.raises(ValueError, match="behavior: .*not with baseline='optimal'"):
        policy_gradient(
            env, policy, theta, GPOMDP(baseline="optimal"), n_trajectories=9, behavior=0.5 * theta
        )
    neural = SoftmaxMLP.for_env(env, hidden=(4,))
    with pytest.raises(ValueError, match="baseline='optimal': keeps two scores.*SoftmaxMLP"):
        policy_gradient(env, neural, neural.initial(), GPOMDP(baseline="optimal"), n_trajectories=9)


@needs_jit
@pytest.mark.parametrize(
    "estimator",
    [REINFORCE("time", 0.8), GPOMDP(0.8), GPOMDP(0.8, "time"), RewardToGo(0.8), RewardToGo(1.0, "value")],
)
def test_recorded_trajectories_give_what_carried_ones_do(estimator):
    """The same policy written both ways: a row of θ for each state, as a tuple, and as a table."""
    table = SoftmaxTabular.for_env(MDP)
    theta = np.random.default_rng(6).normal(size=table.n_parameters)
    settings = {"n_trajectories": 5000, "seed": 8, "covariance": True}
    recorded = policy_gradient(MDP, table, theta, estimator, **settings)
    carried = policy_gradient(MDP, CarriedTable(), theta, estimator, **settings)
    scale = np.abs(carried.gradient).max()
    np.testing.assert_allclose(recorded.gradient, carried.gradient, atol=1e-10 * scale)
    np.testing.assert_allclose(recorded.standard_error, carried.standard_error, rtol=1e-8)
    scale = np.abs(carried.covariance).max()
    np.testing.assert_allclose(recorded.covariance, carried.covariance, atol=1e-9 * scale)


class CarriedTable(NamedTuple):
    """A tabular softmax over 4 states and 2 actions that carries its whole score along."""

    n_parameters = 8

    def probabilities(self, theta, observation):
        first = second = 0.0
        for s in range(4):
            first = theta[2 * s] if s == observation else first
            second = theta[2 * s + 1] if s == observation else second
        return softmax((first, second))

    def sample(self, theta, observation, rng):
        return categorical(rng, 0, self.probabilities(theta, observation))

    def score(self, theta, observation, action):
        p = self.probabilities(theta, observation)
        e = (1.0 if action == 0 else 0.0) - p[0]
        zero, one = (e if observation == 0 else 0.0), (e if observation == 1 else 0.0)
        two, three = (e if observation == 2 else 0.0), (e if observation == 3 else 0.0)
        return zero, -zero, one, -one, two, -two, three, -three


@needs_jit
def test_the_mean_return_counts_each_trajectory_once(env, policy):
    """With an entropy bonus it comes from a pilot batch, whose long trajectories have more steps."""
    asked = Problem(env, policy, policy.initial(), 1000, 500, 0, 0, None, [])
    level = REINFORCE("mean", entropy=0.1).accumulator(asked).baseline.level
    batch = asked.pilot(observed=False)
    assert level == pytest.approx(batch.rewards_to_go(1.0)[:, 0].mean(), rel=1e-12)
    assert level < 0.9 * batch.rewards_to_go(1.0)[:, :1].repeat(batch.alive.shape[1], 1)[batch.alive].mean()
