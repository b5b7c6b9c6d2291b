"""The gradient: of each environment, with each baseline, and with more and more parameters."""

import numba
import pytest

import fastpg
from bench import features
from bench.policies import THETA_SEEDS, random_theta
from bench.references import yardstick
from bench.suites import CARTPOLE, EPISODES, LINEAR, measure

FEATURES = {"observation": None} | features.FEATURES


@pytest.mark.benchmark(group="gradient")
@pytest.mark.parametrize("id", THETA_SEEDS)
def test_environment(benchmark, id):
    """Two thousand trajectories of the linear policy, at the θ that the peers are compared at."""
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)
    theta = random_theta(env, policy, THETA_SEEDS[id])
    measure(benchmark, lambda: fastpg.policy_gradient(env, policy, theta, n_trajectories=2000), 5)


@pytest.mark.benchmark(group="gradient of CartPole-v1")
@pytest.mark.parametrize("episode", EPISODES)
def test_fastpg(benchmark, episode):
    """All sums for every baseline in one pass."""
    theta, n = EPISODES[episode]
    estimator = fastpg.REINFORCE("optimal")
    measure(
        benchmark, lambda: fastpg.policy_gradient(CARTPOLE, LINEAR, theta, estimator, n_trajectories=n), 5
    )


@pytest.mark.benchmark(group="gradient of CartPole-v1")
@pytest.mark.skipif(yardstick.compiler() is None, reason="the C yardstick needs gcc")
@pytest.mark.parametrize("episode", EPISODES)
def test_c(benchmark, episode):
    """The same work, by hand in C."""
    theta, n = EPISODES[episode]
    threads = numba.config.NUMBA_NUM_THREADS
    measure(benchmark, lambda: yardstick.gradient(theta, n, threads=threads), 5)


@pytest.mark.benchmark(group="gradient, baselines")
@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
def test_baseline(benchmark, baseline):
    """One kernel serves all baselines; they should cost the same."""
    theta, _ = EPISODES["22 steps"]
    estimator = fastpg.REINFORCE(baseline)
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(CARTPOLE, LINEAR, theta, estimator, n_trajectories=300_000),
        5,
    )


@pytest.mark.benchmark(group="gradient, number of parameters")
@pytest.mark.parametrize("name", FEATURES)
def test_features(benchmark, name):
    """A softmax policy in features, at θ = 0."""
    policy = fastpg.SoftmaxLinear.for_env(CARTPOLE, features=FEATURES[name])
    benchmark.extra_info["parameters"] = policy.n_parameters
    theta = policy.initial()
    measure(benchmark, lambda: fastpg.policy_gradient(CARTPOLE, policy, theta, n_trajectories=20_000), 7)
