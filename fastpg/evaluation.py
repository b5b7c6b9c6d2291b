"""Playing a policy without differentiating it."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastpg.arguments import (
    MAX_TRAJECTORIES,
    check_environment,
    check_horizon,
    check_integer,
    check_policy,
    check_seed,
    check_theta,
    check_threads,
)
from fastpg.random import MAX_SEED
from fastpg.sampling import chunk_size, sample

# Evaluation draws from streams of its own: the same seed must not replay the trajectories trained on.
_EVALUATION = 0x5DEECE66D1234567


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The returns of a policy.

    Attributes
    ----------
    returns : float64 array, shape (N,)
        Undiscounted, in the order of the trajectories' numbers.
    lengths : int64 array, shape (N,)
        Steps.
    seconds : float
    """

    returns: np.ndarray
    lengths: np.ndarray
    seconds: float

    def __repr__(self) -> str:
        """A line."""
        mean = f"{self.mean_return:.5g} ± {self.return_standard_error:.2g}"
        return f"<Evaluation of {len(self.returns):,} trajectories: mean return {mean}>"

    @property
    def mean_return(self) -> float:
        """The mean of the returns."""
        return float(self.returns.mean())

    @property
    def return_standard_error(self) -> float:
        """The standard error of the mean return; NaN for one trajectory."""
        n = len(self.returns)
        return float(self.returns.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")

    @property
    def mean_length(self) -> float:
        """Steps a trajectory."""
        return float(self.lengths.mean())


class Total(NamedTuple):
    """Along a trajectory: the running return."""

    value: float


class ReturnsAndLengths(NamedTuple):
    """Accumulates the return and length of each trajectory; compiled into the lanes."""

    rows: int  # a power of two, so that the row of a number is a mask away

    def choose(self, policy, theta, observation, rng):
        """Return the action to take."""
        return policy.sample(theta, observation, rng)

    def start(self, score):
        """Return the trace of a trajectory that has not begun."""
        return Total(0.0)

    def rewarded(self, trace, reward):
        """Return the trace after a reward."""
        return Total(trace.value + reward)

    def finish(self, totals, trajectory, score):
        """Write a finished trajectory's return and length into its row."""
        row = trajectory.number & (self.rows - 1)
        totals[row, 0] = trajectory.trace.value
        totals[row, 1] = trajectory.time


class ReturnsOfMode(ReturnsAndLengths):
    """The same for the policy that always takes the most probable action."""

    __slots__ = ()

    def choose(self, policy, theta, observation, rng):
        """Return the most probable action."""
        return policy.mode(theta, observation)


def evaluate(
    env: Any,
    policy: Any,
    theta: Any,
    *,
    n_trajectories: int,
    seed: int = 0,
    horizon: int | None = None,
    deterministic: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Simulate a policy and return what each trajectory earned.

    Parameters are those of `fastpg.policy_gradient`; in addition

    deterministic : bool
        Take the most probable action (``policy.mode``) in place of a random one.

    The random numbers are not those of `policy_gradient` or `train` under the same seed, so start
    states do not depend on what a policy was trained on.

    Returns
    -------
    Evaluation
    """
    started = time.perf_counter()
    check_environment(env)
    check_policy(policy, env)
    theta = check_theta(policy, theta)
    n = check_integer("n_trajectories", n_trajectories, 1, MAX_TRAJECTORIES)
    horizon = check_horizon(env, horizon)
    size = chunk_size(n, horizon)
    rows = 1 << (size - 1).bit_length()
    outcomes = np.empty((n, 2))
    first = 0
    for done, totals, _ in sample(
        env,
        policy,
        theta,
        ReturnsOfMode(rows) if deterministic else ReturnsAndLengths(rows),
        (rows, 2),
        n_trajectories=n,
        horizon=horizon,
        seed=(check_seed(seed) + _EVALUATION) & MAX_SEED,
        threads=check_threads(threads),
    ):
        numbers = np.arange(first, done)
        outcomes[first:done] = totals[(numbers - first) // size, numbers & (rows - 1)]
        first = done
    seconds = time.perf_counter() - started
    return Evaluation(outcomes[:, 0].copy(), outcomes[:, 1].astype(np.int64), seconds)
