"""Benchmarks of the gradient: ``pytest bench/ --benchmark-only``.

A column `steps_per_second` in millions stands in the extra information of each benchmark
(``--benchmark-json``). For ratios use ``python -m bench.speed``, which alternates what it compares.
"""

import numba
import pytest

import fastpg
from bench import yardstick
from bench.policies import BALANCING, UNIFORM

ENV = fastpg.make("CartPole-v1")
POLICY = fastpg.SoftmaxLinear.for_env(ENV)
THETAS = {"22 steps": (UNIFORM, 1_000_000), "410 steps": (BALANCING, 50_000)}
THREADS = [1, 2]

episodes = pytest.mark.parametrize("episode", THETAS)
threads_1_and_2 = pytest.mark.parametrize("threads", THREADS, ids=lambda n: f"{n} threads")


def skip_beyond_the_cores(threads):
    """Skip where the machine cannot run that many threads at once."""
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"needs {threads} cores")


def measure(benchmark, gradient, rounds):
    """Time a function that returns an estimate; keep its number of steps, and steps per second."""
    estimate = benchmark.pedantic(gradient, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["steps"] = estimate.n_steps
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["steps_per_second"] = estimate.n_steps / benchmark.stats.stats.median


@pytest.mark.benchmark(group="gradient, N=1e6 of 22 steps, N=5e4 of 410 steps")
@threads_1_and_2
@episodes
def test_fastpg(benchmark, episode, threads):
    """fastpg, all sums for every baseline in one pass."""
    skip_beyond_the_cores(threads)
    theta, n = THETAS[episode]
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(
            ENV, POLICY, theta, fastpg.REINFORCE("optimal"), n_trajectories=n, threads=threads
        ),
        rounds=5,
    )


@pytest.mark.benchmark(group="gradient, N=1e6 of 22 steps, N=5e4 of 410 steps")
@pytest.mark.skipif(yardstick.compiler() is None, reason="the C yardstick needs gcc")
@threads_1_and_2
@episodes
def test_c(benchmark, episode, threads):
    """The same work, by hand in C."""
    skip_beyond_the_cores(threads)
    theta, n = THETAS[episode]
    measure(benchmark, lambda: yardstick.gradient(theta, n, threads=threads), rounds=5)


@pytest.mark.benchmark(group="batch size")
@pytest.mark.parametrize("n", [100, 1_000, 10_000, 100_000, 1_000_000])
def test_batch_size(benchmark, n):
    """What the work outside the lanes costs: one call for N trajectories of 22 steps."""
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(ENV, POLICY, UNIFORM, n_trajectories=n),
        rounds=max(5, min(200, 1_000_000 // n)),
    )


@pytest.mark.benchmark(group="baseline")
@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
def test_baseline(benchmark, baseline):
    """One kernel serves all baselines; they should cost the same."""
    measure(
        benchmark,
        lambda: fastpg.policy_gradient(
            ENV, POLICY, UNIFORM, fastpg.REINFORCE(baseline), n_trajectories=300_000
        ),
        rounds=5,
    )
