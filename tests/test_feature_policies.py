"""Gradients of policies that are linear in features, dense and sparse, of few parameters and many."""

import numba
import numpy as np
import oracles
import pytest

import fastpg
from fastpg.features import Fourier, Polynomial, TileCoding
from fastpg.policies.gaussian_linear import GaussianLinear
from fastpg.policies.softmax_linear import SoftmaxLinear
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

COMPILED = not numba.config.DISABLE_JIT
N, HORIZON = (300, 60) if COMPILED else (6, 12)


def oracle(policy, theta, baseline):
    """REINFORCE on CartPole, trajectory by trajectory: the oracle's, with φ(o) in place of (o, 1)."""
    cartpole, rows = oracles.CartPole(), theta.reshape(policy.n_actions, -1)
    scores, returns = [], []
    for i in range(N):
        stream = oracles.Stream(4, i)
        state = cartpole.reset(stream)
        total, summed = 0.0, np.zeros(len(theta))
        for t in range(1, HORIZON + 1):
            x = policy.features(np.array(state))
            pi = oracles.softmax((rows @ x).tolist())
            action = oracles.choose(stream.uniform(t, 0, policy=True), pi)
            summed += np.concatenate([((a == action) - p) * x for a, p in enumerate(pi)])
            state, reward, failed = cartpole.step(state, action)
            total += reward
            if failed:
                break
        scores.append(summed)
        returns.append(total)
    return oracles.mean_and_error(oracles.terms(np.array(scores), np.array(returns), baseline))


@pytest.mark.parametrize("baseline", ["none", "mean"])
@pytest.mark.parametrize(
    "features", [Fourier(1), Fourier((3, 3, 1, 1)), Fourier((4, 4, 4, 3)), TileCoding(4, 2)], ids=repr
)
def test_gradient_is_the_oracle_s(env, features, baseline):
    """P = 32, 128, 1000, and a sparse one of 648; bit for bit the same on one thread and on two."""
    policy = SoftmaxLinear.for_env(env, features=features)
    theta = np.random.default_rng(6).normal(0.0, 0.3, policy.n_parameters)
    settings = {"n_trajectories": N, "seed": 4, "horizon": HORIZON}
    estimator = fastpg.REINFORCE(baseline=baseline)
    one, two = (
        fastpg.policy_gradient(env, policy, theta, estimator, threads=threads, **settings)
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS))
    )
    gradient, error = oracle(policy, theta, baseline)
    scale = abs(gradient).max()
    np.testing.assert_allclose(one.gradient, gradient, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(one.standard_error, error, rtol=0, atol=1e-10 * scale)
    np.testing.assert_array_equal(one.gradient, two.gradient)
    np.testing.assert_array_equal(one.standard_error, two.standard_error)


@pytest.mark.parametrize(("features", "log_std"), [(Polynomial(1), "learned")], ids=repr)
def test_gaussian_gradient_is_that_of_ordinary_python(features, log_std):
    """On Pendulum, of single trajectories: ordinary Python, step by step, with the same random numbers."""
    env = fastpg.make("Pendulum-v1")
    policy = GaussianLinear.for_env(env, log_std=log_std, features=features)
    theta = policy.initial() + np.random.default_rng(7).normal(0.0, 0.1, policy.n_parameters)
    horizon = 30 if COMPILED else 5
    for trajectory in range(3):
        estimate = fastpg.policy_gradient(
            env, policy, theta, n_trajectories=1, seed=8, horizon=horizon, first_trajectory=trajectory
        )
        score, total = _play(env, policy, theta, 8, trajectory, horizon)
        scale = abs(score * total).max()
        np.testing.assert_allclose(estimate.gradient, score * total, rtol=0, atol=1e-10 * scale)


def _play(env, policy, theta, seed, trajectory, horizon):
    rng = trajectory_rng(seed_key(seed), trajectory)
    state = env.reset(rng)
    score, total = np.zeros(len(theta)), 0.0
    for _ in range(horizon):
        rng = next_step(rng)
        observation = np.array(env.observe(state))
        action = policy.sample(theta, observation, policy_rng(rng))
        score += policy.score(theta, observation, action)
        state, reward, _ = env.step(state, tuple(action.tolist()), rng)
        total += reward
    return score, total
