"""Memory: the peak of a process, in MiB, does not grow with the number of trajectories."""

import sys

import pytest

from bench.measuring import run_fresh

PEAK = """
import fastpg
from bench.measuring import peak_mebibytes
env = fastpg.make("CartPole-v1")
policy = fastpg.SoftmaxLinear.for_env(env)
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories={n})
print(peak_mebibytes())
"""


@pytest.mark.benchmark(group="memory")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
@pytest.mark.parametrize("n", [10_000, 1_000_000, 10_000_000])
def test_memory(benchmark, n):
    """A gradient of N trajectories; the peak is in the extra information."""
    _, told = benchmark.pedantic(run_fresh, ("-c", PEAK.format(n=n)), rounds=1, warmup_rounds=1)
    benchmark.extra_info["peak_mebibytes"] = float(told)
