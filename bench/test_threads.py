"""Thread scaling: the same gradient on 1, 2, 4, … threads, as many as there are cores."""

import pytest

import fastpg
from bench.suites import CARTPOLE, EPISODES, LINEAR, THREADS, measure


@pytest.mark.benchmark(group="thread scaling")
@pytest.mark.parametrize("threads", THREADS, ids=lambda n: f"{n} threads")
@pytest.mark.parametrize("episode", EPISODES)
def test_threads(benchmark, episode, threads):
    """Bitwise the same result, sooner."""
    theta, n = EPISODES[episode]
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(CARTPOLE, LINEAR, theta, n_trajectories=n, threads=threads),
        7,
    )
