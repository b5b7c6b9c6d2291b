"""Gradients of policies that are linear in features, dense and sparse, of few parameters and many."""

import numba
import numpy as np
import oracles
import pytest

import fastpg
from fastpg import GPOMDP, REINFORCE
from fastpg.features import Fourier, Polynomial, RadialBasis, TileCoding
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
    "features",
    [
        Fourier(0),
        Fourier(1),
        Fourier((0, 0, 0, 4)),
        Fourier((3, 3, 1, 1)),
        Fourier((4, 4, 4, 3)),
        TileCoding(4, 2),
    ],
    ids=repr,
)
def test_gradient_is_the_oracle_s(env, features, baseline):
    """P = 2, 32, 10, 128, 1000, and a sparse one of 648; bit for bit the same on one thread and on two."""
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


WEIGHTED = GPOMDP(0.9, entropy=0.2)
KINDS = [
    ("Pendulum-v1", Polynomial(1), {"log_std": "learned"}),
    ("Pendulum-v1", Fourier(1), {"log_std": "state-dependent"}),
    ("Pendulum-v1", RadialBasis((3, 2, 2), normalised=True), {"log_std": -0.3}),
    ("Pendulum-v1", TileCoding(2, 2), {"log_std": "learned"}),
    ("CartPole-v1", RadialBasis((2, 2, 3, 2)), {}),
    ("CartPole-v1", TileCoding(2, 2), {}),
    ("CartPole-v1", Polynomial(1), {}),
    ("MountainCar-v0", RadialBasis((2, 3), normalised=True), {}),  # carried rows of two actions
    ("CartPole-v1", Fourier((2, 0, 1, 3)), {}),
]


CASES = [(*kind, estimator) for kind, estimator in zip(KINDS, [REINFORCE(), WEIGHTED] * 5, strict=False)]
CASES += [(*KINDS[3], REINFORCE()), (*KINDS[6], WEIGHTED)]


@pytest.mark.parametrize(("id", "features", "options", "estimator"), CASES, ids=repr)
def test_gradient_is_that_of_ordinary_python(id, features, options, estimator):
    """Of a few trajectories, step by step, with the same random numbers, by the definition."""
    env = fastpg.make(id)
    kind = GaussianLinear if id == "Pendulum-v1" else SoftmaxLinear
    policy = kind.for_env(env, features=features, **options)
    theta = policy.initial() + np.random.default_rng(7).normal(0.0, 0.1, policy.n_parameters)
    n, horizon = 5, 30 if COMPILED else 5
    estimate = fastpg.policy_gradient(
        env, policy, theta, estimator, n_trajectories=n, seed=8, horizon=horizon
    )
    terms = []
    for trajectory in range(n):
        observations, actions, rewards = play(env, policy, theta, 8, trajectory, horizon)
        scores = [policy.score(theta, o, a) for o, a in zip(observations, actions, strict=True)]
        if isinstance(estimator, REINFORCE):
            terms.append(np.sum(scores, axis=0) * sum(rewards))
            continue
        gamma, beta = estimator.discount, estimator.entropy
        entropies = [policy.entropy(theta, o) for o in observations]
        term = np.zeros(len(theta))
        for t, (o, score) in enumerate(zip(observations, scores, strict=True)):
            later = sum(gamma**k * rewards[k] for k in range(t, len(rewards)))
            later += sum(gamma**k * beta * entropies[k] for k in range(t + 1, len(rewards)))
            policy.spread(term, o, policy.entropy_factor(theta, o), beta * gamma**t)
            term += later * score
        terms.append(term)
    expected = np.mean(terms, axis=0)
    np.testing.assert_allclose(estimate.gradient, expected, rtol=0, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize(("id", "features", "options"), KINDS[1:5], ids=repr)
def test_entropy_factor_makes_the_derivative_of_the_entropy(id, features, options):
    """Central differences, to 1e-8."""
    env = fastpg.make(id)
    kind = GaussianLinear if id == "Pendulum-v1" else SoftmaxLinear
    policy = kind.for_env(env, features=features, **options)
    rng = np.random.default_rng(9)
    theta = rng.normal(0.0, 0.5, policy.n_parameters)
    o, h = rng.normal(0.0, 0.5, policy.n_observations), 1e-5
    slope = np.zeros(len(theta))
    policy.spread(slope, o, policy.entropy_factor(theta, o), 1.0)
    differences = [
        (policy.entropy(theta + h * e, o) - policy.entropy(theta - h * e, o)) / (2 * h)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(slope, differences, atol=1e-8)


def play(env, policy, theta, seed, trajectory, horizon):
    """The observations, actions and rewards of a trajectory, in ordinary Python."""
    rng = trajectory_rng(seed_key(seed), trajectory)
    state = env.reset(rng)
    observations, actions, rewards = [], [], []
    for _ in range(horizon):
        rng = next_step(rng)
        observations.append(np.array(env.observe(state)))
        action = policy.sample(theta, observations[-1], policy_rng(rng))
        actions.append(action)
        action = action if isinstance(action, int) else tuple(action.tolist())
        state, reward, terminated = env.step(state, action, rng)
        rewards.append(float(reward))
        if terminated:
            break
    return observations, actions, rewards
