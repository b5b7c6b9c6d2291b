"""What the suites of this directory share: ``pytest bench/ --benchmark-only``.

They measure fastpg by itself, grouped by what they measure: stepping, gradient, training to solved, thread
scaling, batch size, cold and warm start, memory. Beside its peers: `bench.compare`, which alternates.
"""

import numba

import fastpg
from bench.policies import BALANCING, UNIFORM
from fastpg.throughput import thread_counts

CARTPOLE = fastpg.make("CartPole-v1")
LINEAR = fastpg.SoftmaxLinear.for_env(CARTPOLE)
EPISODES = {"22 steps": (UNIFORM, 1_000_000), "410 steps": (BALANCING, 50_000)}
THREADS = thread_counts(numba.config.NUMBA_NUM_THREADS)


def measure(benchmark, run, rounds, n_steps=None):
    """Time a function; note steps a second, of the `n_steps` of what it returns or those given."""
    result = benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
    n_steps = result.n_steps if n_steps is None else n_steps
    benchmark.extra_info["steps"] = n_steps
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["steps_per_second"] = n_steps / benchmark.stats.stats.median
    return result
