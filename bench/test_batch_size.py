"""Batch-size scaling: what the work outside the lanes costs, in one call for N trajectories of 22 steps."""

import pytest

import fastpg
from bench.policies import UNIFORM
from bench.suites import CARTPOLE, LINEAR, measure


@pytest.mark.benchmark(group="batch size")
@pytest.mark.parametrize("n", [100, 1_000, 10_000, 100_000, 1_000_000])
def test_batch_size(benchmark, n):
    """Steps a second should not fall much with N."""
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(CARTPOLE, LINEAR, UNIFORM, n_trajectories=n),
        max(5, min(200, 1_000_000 // n)),
    )
