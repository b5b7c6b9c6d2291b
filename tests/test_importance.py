"""Importance weights: gradients at θ from trajectories of another θ."""

import math

import numba
import numpy as np
import oracles
import pytest
from test_gpomdp import MDP, terms

from fastpg import GPOMDP, REINFORCE, GaussianLinear, RewardToGo, SoftmaxTabular, exact, make, policy_gradient
from fastpg.estimators.baselines import Constant

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")
HORIZON, N = (30, 300) if not numba.config.DISABLE_JIT else (12, 20)


@pytest.mark.parametrize("estimator", [GPOMDP(0.9), RewardToGo(0.9)])
def test_weighted_batch_is_the_mean_over_trajectories(env, policy, theta, estimator):
    """Against NumPy, one at a time: trajectories of θ_b, scores at θ, ratios of probabilities."""
    behavior = 0.8 * theta
    estimate = policy_gradient(
        env, policy, theta, estimator, n_trajectories=N, seed=7, horizon=HORIZON, behavior=behavior
    )
    x, weights = [], []
    for g, observations, rewards in oracles.simulate(behavior, N, 7, HORIZON).steps:
        scores, log_weight = [], 0.0
        for step, o in zip(g, observations, strict=True):
            before = oracles.probabilities(behavior, o)
            # The score at θ_b tells the action: its bias components are 1{a} - π_b(a).
            action = int(np.argmax(step.reshape(2, -1)[:, -1] + before))
            now = oracles.probabilities(theta, o)
            scores.append(oracles.score(o, action, now))
            log_weight += math.log(now[action]) - math.log(before[action])
        x.append(terms([(np.array(scores), observations, rewards)], estimator, Constant(0.0))[0])
        weights.append(math.exp(log_weight))
    weights = np.array(weights)
    gradient, error = oracles.mean_and_error(weights[:, None] * np.array(x))
    np.testing.assert_allclose(estimate.gradient, gradient, rtol=1e-9, atol=1e-10 * np.abs(gradient).max())
    np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-9)
    size = weights.sum() ** 2 / (weights**2).sum()
    assert estimate.effective_sample_size == pytest.approx(size, rel=1e-10)
    assert 1 < size < 0.99 * N


@pytest.mark.parametrize("estimator", [GPOMDP(0.9, "time"), RewardToGo(0.9)])
def test_own_trajectories_have_weight_one(env, policy, theta, estimator):
    """θ_b = θ: the estimate bit for bit, and an effective sample of all."""
    settings = {"n_trajectories": N, "seed": 3, "horizon": HORIZON}
    plain = policy_gradient(env, policy, theta, estimator, **settings)
    weighted = policy_gradient(env, policy, theta, estimator, behavior=theta, **settings)
    assert plain.effective_sample_size is None and weighted.effective_sample_size == N
    assert plain.gradient.tobytes() == weighted.gradient.tobytes()
    assert plain.standard_error.tobytes() == weighted.standard_error.tobytes()


@needs_jit
@pytest.mark.parametrize("estimator", [GPOMDP(0.8, "time"), GPOMDP(0.8, entropy=0.0)][:1])
def test_weighted_estimate_is_the_exact_gradient(estimator):
    """A tabular policy, N = 400,000; each component within 4.5 standard errors, covariance and all."""
    policy = SoftmaxTabular.for_env(MDP)
    rng = np.random.default_rng(2)
    theta, step = rng.normal(size=(2, policy.n_parameters))
    behavior = theta + 0.2 * step
    estimate = policy_gradient(
        MDP, policy, theta, estimator, n_trajectories=400_000, behavior=behavior, covariance=True
    )
    truth = exact.policy_gradient(MDP, policy, theta, discount=0.8).gradient
    other = exact.policy_gradient(MDP, policy, behavior, discount=0.8).gradient
    assert (np.abs(estimate.gradient - truth) < 4.5 * estimate.standard_error).all()
    assert (np.abs(estimate.gradient - other) > 10 * estimate.standard_error).any()
    np.testing.assert_allclose(np.diag(estimate.covariance), estimate.standard_error**2, rtol=1e-9)


@needs_jit
def test_weighted_gaussian_is_the_plain_one():
    """Two estimates of the same gradient, within 4.5 standard errors of their difference."""
    env = make("Pendulum-v1")
    policy = GaussianLinear.for_env(env)
    theta = policy.initial()
    settings = {"n_trajectories": 200_000, "horizon": 5}
    plain = policy_gradient(env, policy, theta, GPOMDP(), seed=1, **settings)
    behavior = theta + [0.1, -0.1, 0.02, 0.1, 0.1]
    weighted = policy_gradient(env, policy, theta, GPOMDP(), seed=2, behavior=behavior, **settings)
    error = np.hypot(plain.standard_error, weighted.standard_error)
    assert (np.abs(plain.gradient - weighted.gradient) < 4.5 * error).all()
    assert weighted.effective_sample_size < 190_000


def test_bad_behaviour_policies_are_refused(env, policy, theta):
    def run(estimator, behavior):
        policy_gradient(env, policy, theta, estimator, n_trajectories=10, behavior=behavior)

    with pytest.raises(ValueError, match="behavior: can be given with GPOMDP and RewardToGo"):
        run(REINFORCE(), theta)
    with pytest.raises(ValueError, match=r"behavior: has shape \(3,\), must have \(10,\)"):
        run(GPOMDP(), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"behavior: must be finite, but behavior\[0\] is nan"):
        run(GPOMDP(), np.full(10, np.nan))
