"""The linear Gaussian policy: density, draws and score, for each kind of log σ."""

import math
from typing import NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs import Pendulum
from gymnasium.spaces import Box, Discrete
from scipy import stats

import fastpg
from fastpg import GaussianLinear
from fastpg.random import Rng, normal

# Dimensions (F, m) and what log σ has: nothing, m numbers, m rows.
POLICIES = {
    f"F={f} m={m} {kind}": GaussianLinear(f, tuple(np.linspace(-0.5, 0.3, m).tolist()), count)
    for f, m in ((3, 1), (2, 3))
    for kind, count in (("fixed", 0), ("learned", m), ("state-dependent", m * (f + 1)))
}
ROUNDING = 1e-14

each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def some(policy, n=6, seed=60):
    """θ, observations and actions."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(0.0, 0.5, policy.n_parameters)
    return theta, rng.normal(size=(n, policy.n_observations)), rng.normal(size=(n, len(policy.log_std)))


def moments(policy, theta, observation):
    """Mean and standard deviation, written out."""
    m, f = len(policy.log_std), policy.n_observations
    x = np.append(observation, 1.0)
    rows = theta[: m * (f + 1)].reshape(m, f + 1)
    rest = theta[m * (f + 1) :]
    kinds = {0: lambda: np.array(policy.log_std), m: lambda: rest}
    log_std = kinds.get(len(rest), lambda: rest.reshape(m, f + 1) @ x)()
    return rows @ x, np.exp(log_std)


@numba.njit
def compiled_score(policy, theta, observation, action):
    return policy.score(theta, observation, action)


@numba.njit
def compiled_sample(policy, theta, observation, rng):
    return policy.sample(theta, observation, rng)


@numba.njit
def compiled_mode(policy, theta, observation):
    return policy.mode(theta, observation)


def tuples(*vectors):
    """Vectors as kernels have them; arrays where the jit is off."""
    return vectors if numba.config.DISABLE_JIT else tuple(tuple(vector.tolist()) for vector in vectors)


@each_policy
def test_density_is_the_normal_one(policy):
    theta, observations, actions = some(policy)
    for observation, action in zip(observations, actions, strict=True):
        mean, std = moments(policy, theta, observation)
        expected = stats.norm.logpdf(action, mean, std).sum()
        assert policy.log_prob(theta, observation, action) == pytest.approx(expected, rel=1e-13)


@each_policy
def test_score_is_the_derivative_of_log_prob(policy):
    """Central differences with h = 1e-5: truncation and rounding below 1e-8."""
    theta, observations, actions = some(policy)
    h = 1e-5
    for observation, action in zip(observations, actions, strict=True):
        differences = [
            policy.log_prob(theta + step, observation, action)
            - policy.log_prob(theta - step, observation, action)
            for step in h * np.eye(policy.n_parameters)
        ]
        score = policy.score(theta, observation, action)
        assert score.shape == (policy.n_parameters,)
        np.testing.assert_allclose(np.array(differences) / (2 * h), score, rtol=1e-7, atol=1e-7)


@each_policy
def test_expected_score_is_zero(policy):
    """By Gauss and Hermite's quadrature, exact for a score that is quadratic in the action."""
    theta, observations, _ = some(policy)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    m = len(policy.log_std)
    grid = np.stack(np.meshgrid(*[nodes] * m, indexing="ij"), axis=-1).reshape(-1, m)
    weight = math.prod(np.meshgrid(*[weights / weights.sum()] * m, indexing="ij")).reshape(-1)
    for observation in observations:
        mean, std = moments(policy, theta, observation)
        actions = mean + std * grid
        scores = policy.score(theta, np.broadcast_to(observation, (len(grid), len(observation))), actions)
        np.testing.assert_allclose(weight @ scores, 0.0, atol=1e-12 * np.abs(scores).max())
        assert np.abs(scores).max() > 0.1


@each_policy
def test_compiled_policy_is_the_python_one(policy):
    theta, observations, actions = some(policy, n=30)
    for i, (observation, action) in enumerate(zip(observations, actions, strict=True)):
        vectors = tuples(theta, observation)
        score = policy.score(theta, observation, action)
        tolerance = 20 * ROUNDING * max(1.0, np.abs(score).max())
        np.testing.assert_allclose(compiled_score(policy, *vectors, *tuples(action)), score, atol=tolerance)
        rng = Rng(np.uint64(77 + i), np.uint64(2**63 + 1))
        drawn = policy.sample(theta, observation, rng)
        np.testing.assert_allclose(compiled_sample(policy, *vectors, rng), drawn, rtol=1e-13, atol=ROUNDING)
        np.testing.assert_allclose(
            compiled_mode(policy, *vectors), policy.mode(theta, observation), atol=ROUNDING
        )


@each_policy
def test_sample_is_mean_plus_deviation_times_normal_draws(policy):
    """An Rng's normal draws 0 to m - 1; from a NumPy generator a sample that Kolmogorov accepts at 0.1 %."""
    theta, observations, _ = some(policy, n=1)
    mean, std = moments(policy, theta, observations[0])
    rng = Rng(np.uint64(5), np.uint64(2**63 + 11))
    draws = np.array([normal(rng, j) for j in range(len(mean))])
    np.testing.assert_allclose(policy.sample(theta, observations[0], rng), mean + std * draws, rtol=1e-13)
    batch = policy.sample(theta, np.repeat(observations, 5000, axis=0), np.random.default_rng(61))
    for k in range(len(mean)):
        assert stats.kstest((batch[:, k] - mean[k]) / std[k], "norm").pvalue > 1e-3
    if len(mean) > 1:
        assert abs(np.corrcoef(batch[:, 0], batch[:, 1])[0, 1]) < 4 / math.sqrt(5000)


@each_policy
def test_batch_axes_come_in_front(policy):
    theta, observations, actions = some(policy)
    batch, taken = observations.reshape(2, 3, -1), actions.reshape(2, 3, -1)
    scores, log_probs = policy.score(theta, batch, taken), policy.log_prob(theta, batch, taken)
    assert scores.shape == (2, 3, policy.n_parameters) and log_probs.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(scores[i, j], policy.score(theta, batch[i, j], taken[i, j]), rtol=1e-12)
        assert log_probs[i, j] == pytest.approx(policy.log_prob(theta, batch[i, j], taken[i, j]), rel=1e-12)


@each_policy
def test_initial_has_mean_zero_and_the_deviations_of_log_std(policy):
    mean, std = moments(policy, policy.initial(), np.ones(policy.n_observations))
    np.testing.assert_array_equal(mean, 0.0)
    np.testing.assert_allclose(std, np.exp(policy.log_std), rtol=1e-15)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
@pytest.mark.parametrize("log_std", ["learned", "state-dependent", -1.0])
def test_gradient_on_pendulum_is_that_of_the_plain_sum(log_std):
    """The engine's estimate from 40 trajectories, against the trajectories played in ordinary Python."""
    from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

    env = Pendulum()
    policy = GaussianLinear.for_env(env, log_std)
    theta = np.random.default_rng(62).normal(0.0, 0.3, policy.n_parameters)
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=40, seed=7, horizon=15)
    terms = []
    for number in range(40):
        rng = trajectory_rng(seed_key(7), number)
        state, score, total = env.reset(rng), 0.0, 0.0
        for _ in range(15):
            rng = next_step(rng)
            observation = np.array(env.observe(state))
            action = policy.sample(theta, observation, policy_rng(rng))
            score = score + policy.score(theta, observation, action)
            state, reward, _ = env.step(state, tuple(action.tolist()), rng)
            total += reward
        terms.append(score * total)
    np.testing.assert_allclose(estimate.gradient, np.mean(terms, axis=0), rtol=1e-9)
    error = np.std(terms, axis=0, ddof=1) / math.sqrt(40)
    np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-9)


class Spaces(NamedTuple):
    observation_space: object
    action_space: object


def test_for_env_takes_sizes_from_the_spaces():
    spaces = Spaces(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)))
    assert GaussianLinear.for_env(spaces) == GaussianLinear(3, (0.0, 0.0), 2)
    assert GaussianLinear.for_env(spaces, -0.7) == GaussianLinear(3, (-0.7, -0.7), 0)
    assert GaussianLinear.for_env(spaces, "state-dependent", 0.2) == GaussianLinear(3, (0.2, 0.2), 8)
    assert isinstance(fastpg.policy_for(Pendulum()), GaussianLinear)


@pytest.mark.parametrize(
    ("observations", "actions", "log_std", "message"),
    [
        (Discrete(4), Box(-1.0, 1.0, (2,)), "learned", r"env: .*Box observation.*Discrete\(4\)"),
        (Box(-1.0, 1.0, (3,)), Discrete(2), "learned", r"env: .*Box action.*Discrete\(2\)"),
        (Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)), "free", "log_std='free': must be 'learned'"),
        (Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)), math.inf, "log_std=inf: must be"),
    ],
)
def test_for_env_explains_what_it_needs(observations, actions, log_std, message):
    with pytest.raises(ValueError, match=message):
        GaussianLinear.for_env(Spaces(observations, actions), log_std)


def test_a_policy_for_other_sizes_is_refused():
    for policy, message in (
        (GaussianLinear(3, (0.0, 0.0)), "for other actions"),
        (GaussianLinear(2, (0.0,)), "observations of another length"),
    ):
        with pytest.raises(ValueError, match=message):
            fastpg.policy_gradient(Pendulum(), policy, policy.initial(), n_trajectories=2)
