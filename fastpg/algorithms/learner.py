"""The loop that all algorithms share: record a segment, estimate advantages, improve policy and critic."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from fastpg.algorithms.checks import check_neural
from fastpg.algorithms.gae import estimate_advantages
from fastpg.algorithms.minibatches import (
    Ascent,
    Batch,
    Memory,
    Statistics,
    ascend,
    memory_for,
    shard_size,
)
from fastpg.blas import single_threaded_blas
from fastpg.dispatch import distinct
from fastpg.optimizers import learning_rate_at
from fastpg.pace import Pace
from fastpg.parallel import kernel_threads
from fastpg.random import MAX_SEED
from fastpg.segments import Segments

# The order of rows in minibatches comes from a stream of its own.
_SHUFFLING = 0x2545F4914F6CDD1D
_ADAM = 0.9, 0.999, 1e-8


class Improvement(NamedTuple):
    """What an update was."""

    n_steps: int
    seconds: float
    mean_return: float  # of the episodes that ended in it; NaN if there was none
    return_standard_error: float


class Learner:
    """An algorithm at work on a policy and its critic.

    Parameters
    ----------
    env, policy, algorithm : NamedTuple
    horizon, seed : int
    threads : int, optional
    """

    def __init__(self, env, policy, algorithm, horizon, seed, threads=None):
        self.policy, self.algorithm, self.threads = policy, algorithm, threads
        check_neural(policy)
        self.critic = critic = policy.network.with_outputs(1)
        dtype, n_policy = policy.network.dtype, policy.n_parameters
        width = int(np.prod(env.action_space.shape))
        self.like_action = (0.0,) * width if env.action_space.shape else 0
        zeros = np.zeros(n_policy + critic.n_parameters, dtype)
        initial_values = critic.initial(np.random.default_rng((seed, _SHUFFLING)))
        self.initial_state = initial_values, zeros, zeros, np.zeros(1, np.int64)
        n_envs, n_steps = algorithm.n_envs, algorithm.n_steps
        self.segments = Segments(env, policy, n_envs, n_steps, horizon, seed, dtype, critic, threads)
        self._seed = np.uint64((seed + _SHUFFLING) & MAX_SEED)
        self._n_policy = n_policy
        self._advantages = np.zeros((n_steps, n_envs), dtype)
        self._order = np.arange(n_envs * n_steps)
        self._memories: dict[int, Memory] = {}
        several = (numba.get_num_threads() if threads is None else threads) > 1
        self._recording, self._ascending = (Pace() if several else None for _ in range(2))
        self._ascent = Ascent(zeros.copy(), zeros.copy(), zeros.copy(), np.zeros(1, np.int64))

    def step(self, theta, state, update) -> tuple[np.ndarray, tuple[np.ndarray, ...], "Improvement", dict]:
        """Return θ and the state after an update, what it was, and the columns of its row."""
        started = time.perf_counter()
        value_parameters, first, second, n_adam, *lanes = state
        n = self._n_policy
        self._ascent.parameters[:n] = theta
        self._ascent.parameters[n:] = value_parameters
        for mine, given in zip(self._ascent[1:], (first, second, n_adam), strict=True):
            mine[...] = given
        if lanes:
            self.segments.restore(*lanes)
        theta, values = self._ascent.parameters[:n], self._ascent.parameters[n:]
        episodes = self._paced(self._recording, lambda threads: self.segments.record(theta, values, threads))
        self.batch = self._batch()
        rate = learning_rate_at(self.algorithm.learning_rate, update)
        statistics = self.algorithm.improve(self, update, rate)
        parameters, first, second, n_adam = (array.copy() for array in self._ascent)
        state = parameters[n:], first, second, n_adam, *self.segments.state()
        seconds = time.perf_counter() - started
        columns = episodes._asdict() | statistics._asdict() | {"learning_rate": rate}
        theta = parameters[:n].astype(np.float64)
        return theta, state, Improvement(self._order.size, seconds, *episodes[1:3]), columns

    @property
    def theta(self) -> np.ndarray:
        """The policy's parameters, to be changed in place."""
        return self._ascent.parameters[: self._n_policy]

    def ascend(self, surrogate, weights, minibatch, rate, epoch) -> Statistics:
        """Make an epoch of minibatch ascent; see `fastpg.algorithms.minibatches`."""
        n_minibatches = max(1, round(self._order.size / minibatch))
        largest = -(-self._order.size // n_minibatches)
        if largest not in self._memories:
            dtype = self._advantages.dtype
            self._memories[largest] = memory_for(
                self.policy, self.critic, self.batch.observations, largest, dtype
            )
        statistics = np.zeros(len(Statistics._fields))
        arguments = (
            distinct(self.policy),
            self._n_policy,
            self.like_action,
            distinct(self.critic),
            surrogate,
            weights,
            self.batch,
            self._order,
            n_minibatches,
            shard_size(largest),
            self._seed,
            epoch,
            self._ascent,
            self._memories[largest],
            rate,
            _ADAM,
            statistics,
        )

        def on(threads):
            with kernel_threads(threads), single_threaded_blas():
                ascend(*arguments)

        self._paced(self._ascending, on)
        return Statistics(*statistics.tolist())

    def _paced(self, pace: Pace | None, call: Callable[[int | None], Any]) -> Any:
        """Return what a call returns that is given a number of threads: one or several, by the clock.

        Minibatches are so small that all threads wait for one whose core is busy.
        """
        if pace is None:
            return call(self.threads)
        parallel, started = pace.parallel(), time.perf_counter()
        result = call(self.threads if parallel else 1)
        pace.note(parallel, time.perf_counter() - started)
        return result

    def _batch(self):
        """The segment as rows, with advantages and targets."""
        algorithm, segment = self.algorithm, self.segments.segment
        advantages = self._advantages
        estimate_advantages(
            segment.rewards,
            segment.values,
            segment.next_values,
            segment.terminated,
            segment.truncated,
            float(algorithm.discount),
            float(algorithm.trace_decay),
            float(algorithm.reward_scale),
            advantages,
        )
        targets = (advantages + segment.values).reshape(-1)
        if algorithm.normalize_advantages:
            advantages -= advantages.mean()
            advantages /= advantages.std() + 1e-8
        return Batch(
            segment.observations[:-1].reshape(self._order.size, -1),
            segment.actions.reshape(-1),
            segment.log_probs.reshape(-1),
            advantages.reshape(-1),
            segment.values.reshape(-1),
            targets,
        )
