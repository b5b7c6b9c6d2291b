"""Stepping: random actions through the vector interface."""

import pytest

import fastpg
from bench.suites import measure
from fastpg.throughput import random_actions


@pytest.mark.benchmark(group="stepping")
@pytest.mark.parametrize("num_envs", [1024, 16384])
@pytest.mark.parametrize("id", fastpg.registry)
def test_stepping(benchmark, id, num_envs):
    """One step of all environments."""
    envs = fastpg.make_vec(id, num_envs)
    actions = random_actions(envs.single_action_space, num_envs)[0]
    envs.reset(seed=0)
    measure(benchmark, lambda: envs.step(actions), 50, num_envs)
