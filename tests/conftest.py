"""One kernel cache for the whole run, and what most tests share."""

import atexit
import os
import shutil
import tempfile

# Before anything imports fastpg, and inherited by the processes that tests start.
os.environ["MPLBACKEND"] = "Agg"
if not os.environ.get("FASTPG_CACHE_DIR"):
    os.environ["FASTPG_CACHE_DIR"] = tempfile.mkdtemp(prefix="fastpg-tests-")
    atexit.register(shutil.rmtree, os.environ["FASTPG_CACHE_DIR"], ignore_errors=True)

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import fastpg  # noqa: E402


@pytest.fixture(scope="session")
def env():
    return fastpg.make("CartPole-v1")


@pytest.fixture(scope="session")
def policy(env):
    return fastpg.SoftmaxLinear.for_env(env)


@pytest.fixture(scope="session")
def theta(policy):
    """A policy that is neither uniform nor deterministic, under which episodes last some 36 steps."""
    theta = np.random.default_rng(1).normal(0.0, 0.5, policy.n_parameters)
    theta.setflags(write=False)
    return theta
