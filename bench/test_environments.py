"""Benchmarks of every environment: ``pytest bench/test_environments.py --benchmark-only``.

Millions of steps a second are in the extra information (``--benchmark-json``). For ratios to peers use
``python -m bench.environments``, which alternates what it compares.
"""

import pytest

import fastpg
from bench.environments import ESTIMATOR, THETA_SEEDS, random_actions, random_theta


@pytest.mark.benchmark(group="gradient of the linear policy")
@pytest.mark.parametrize("id", THETA_SEEDS)
def test_gradient(benchmark, id):
    """Two thousand trajectories at the θ that gymnax is compared at."""
    env = fastpg.make(id)
    policy = fastpg.policy_for(env)
    theta = random_theta(env, policy, THETA_SEEDS[id])

    def gradient():
        return fastpg.policy_gradient(env, policy, theta, ESTIMATOR, n_trajectories=2000)

    n_steps = benchmark.pedantic(gradient, rounds=5, warmup_rounds=1).n_steps
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["steps_per_second"] = n_steps / benchmark.stats.stats.median


@pytest.mark.benchmark(group="vector interface")
@pytest.mark.parametrize("num_envs", [1024, 16384])
@pytest.mark.parametrize("id", fastpg.registry)
def test_stepping(benchmark, id, num_envs):
    """One step of all environments."""
    envs = fastpg.make_vec(id, num_envs)
    actions = random_actions(envs.single_action_space, num_envs)[0]
    envs.reset(seed=0)
    benchmark.pedantic(envs.step, (actions,), rounds=50, warmup_rounds=5)
    if benchmark.stats is not None:
        benchmark.extra_info["steps_per_second"] = num_envs / benchmark.stats.stats.median
