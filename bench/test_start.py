"""Cold and warm start: what a user waits for in a fresh process."""

import pytest

from bench.measuring import run_fresh
from fastpg.throughput import start_seconds


@pytest.mark.benchmark(group="cold and warm start")
@pytest.mark.parametrize("package", ["numba", "fastpg"])
def test_import(benchmark, package):
    """A process that imports; fastpg imports Numba."""
    benchmark.pedantic(run_fresh, ("-c", f"import {package}"), rounds=9, warmup_rounds=1)


@pytest.mark.benchmark(group="cold and warm start")
def test_cold(benchmark, tmp_path):
    """A process with one gradient, nothing compiled before."""
    caches = iter(tmp_path / str(i) for i in range(100))

    benchmark.pedantic(start_seconds, setup=lambda: ((next(caches),), {}), rounds=3)


@pytest.mark.benchmark(group="cold and warm start")
def test_warm(benchmark, tmp_path):
    """The same with its kernel on the disk."""
    benchmark.pedantic(start_seconds, (tmp_path,), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="cold and warm start")
def test_command_line(benchmark, tmp_path):
    """``fastpg train CartPole-v1``, evaluation and picture included, kernels on the disk."""
    out = iter(str(tmp_path / f"run-{i}") for i in range(100))

    def setup():
        arguments = "-m", "fastpg.cli", "train", "CartPole-v1", "--out", next(out)
        return arguments, {"cache": tmp_path / "kernels"}

    benchmark.pedantic(run_fresh, setup=setup, rounds=4)  # the first compiles: see the median
