"""How fast this machine is: environment steps a second, scaling over threads, cold and warm start."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space

from fastpg.estimators.gradient import policy_gradient
from fastpg.estimators.reinforce import REINFORCE

DEFAULT_HORIZON = 1000  # of gradients where an environment has no time limit


def gradient_timer(
    env: Any,
    policy: Any,
    theta: np.ndarray,
    seconds: float,
    *,
    estimator: Any = REINFORCE("mean"),  # noqa: B008
    horizon: int | None = None,
    threads: int | None = None,
) -> Callable[[], float]:
    """Return what measures M steps/s of one gradient, of as many trajectories as fill the time.

    The kernel is compiled, and the number of trajectories found, before this function returns.

    Parameters
    ----------
    env, policy, theta, estimator, horizon, threads
        As in `fastpg.policy_gradient`; without a horizon, 1,000 steps where an environment has no time limit.
    seconds : float
        Of each measurement, about.
    """
    horizon = horizon or env.horizon or DEFAULT_HORIZON

    def run(n):
        return policy_gradient(
            env, policy, theta, estimator, n_trajectories=n, horizon=horizon, threads=threads
        )

    run(2)  # compiles
    n, estimate = 1000, run(1000)
    while estimate.seconds < seconds / 4:
        n *= 4
        estimate = run(n)
    n = max(2, int(n * seconds / estimate.seconds))

    def speed() -> float:
        estimate = run(n)
        return estimate.n_steps / estimate.seconds / 1e6

    return speed


def random_actions(space: Any, num_envs: int) -> list[Any]:
    """Return 16 batches of random actions, drawn beforehand, so that stepping alone is timed."""
    batched = batch_space(space, num_envs)
    batched.seed(0)
    return [batched.sample() for _ in range(16)]


def stepping_timer(envs: Any, seconds: float) -> Callable[[], float]:
    """Return what measures M steps/s of a Gymnasium vector environment under random actions."""
    actions = random_actions(envs.single_action_space, envs.num_envs)
    envs.reset(seed=0)
    envs.step(actions[0])  # compiles

    def speed() -> float:
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            envs.step(actions[calls % len(actions)])
            calls += 1
        return calls * envs.num_envs / (time.perf_counter() - started) / 1e6

    return speed


START = """
import fastpg
env = fastpg.make("CartPole-v1")
policy = fastpg.policy_for(env)
fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=1000)
"""


def start_seconds(cache: str | Path | None = None) -> float:
    """Return the seconds of a fresh process that takes one gradient, from start to exit.

    Parameters
    ----------
    cache : path, optional
        Directory of its compiled kernels: an empty one for a cold start, one that a process has filled for a
        warm start. The usual one unless given.
    """
    environment = dict(os.environ) if cache is None else os.environ | {"FASTPG_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", START], env=environment, check=True)
    return time.perf_counter() - started


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4, … up to `most`, and `most`."""
    counts = [1]
    while counts[-1] < most:
        counts.append(min(2 * counts[-1], most))
    return counts
