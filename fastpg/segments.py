"""Segments: a fixed number of steps of environments that go on from one segment to the next.

The lanes of `fastpg.lanes` again, with actions from a policy, but kept between calls as those of
`fastpg.stepping` are; what happens is recorded, and an episode that ends is followed by the next in the same
step. Environment i of a seed has in its first episode the random numbers of trajectory i of that seed, and
in episode e those of trajectory e · 2³² + i. A thread takes some environments through the whole segment, and
which ones go together is decided by their number alone: a segment is bitwise the same for any number of
threads.

A neural policy sees all lanes at once: their observations are the rows of a matrix, its outputs are computed
by matrix products, and the loop over lanes draws from a row of outputs what other policies draw from θ.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from fastpg import vectors
from fastpg.blas import single_threaded_blas
from fastpg.compiler_errors import readable_errors
from fastpg.dispatch import compiled_form, distinct, inline, inner, kernel, outline
from fastpg.environment import some_state
from fastpg.lane_arrays import words_of
from fastpg.lane_loop import for_each_lane, keep_apart, widest_vectors
from fastpg.lane_memory import VECTOR, lanes_for, put, take, words_for, zero
from fastpg.lanes import as_observation
from fastpg.nests import leaves_of
from fastpg.neural_lanes import row_at
from fastpg.parallel import in_parallel, kernel_threads, pack, unpack
from fastpg.random import Rng, next_step, policy_rng, seed_key, trajectory_rng
from fastpg.sampling import as_parameters, as_policy
from fastpg.scores import is_neural
from fastpg.stepping import EPISODE_BITS, TERMINATED, TRUNCATED, write_observation

_CHUNKS = 8  # if that leaves lanes enough
_FEW_LANES = 16
_ROWS = 128  # that a critic sees at a time


class Lane(NamedTuple):
    """What a lane holds: an environment under way, and what its last step was."""

    state: Any
    rng: Rng  # of the next step
    time: int
    earned: float  # since the episode began
    observation: Any
    action: Any
    log_prob: float
    reward: float
    outcome: int  # TERMINATED | TRUNCATED


class Segment(NamedTuple):
    """What is recorded of T steps of N environments; memory that the next segment is written over."""

    observations: np.ndarray  # (T + 1, N, ...): the last row is what the next segment begins with
    final_observations: np.ndarray  # (T, N, ...): where an episode ended, what its last step led to
    actions: np.ndarray  # (T, N) or (T, N, m)
    log_probs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    values: np.ndarray  # V(s_t); without a value network (0, 0)
    next_values: np.ndarray  # V(s_{t+1}) of the state that the step led to; of a terminated step no matter


def parameters_at(policy, theta, outputs, i):
    """Return what the policy's methods take for θ: row i of its outputs if it is neural, else θ itself."""
    return row_at(outputs, i, policy.row()) if is_neural(policy) else theta


@compiled_form(parameters_at)
def _(policy, theta, outputs, i):
    if is_neural(policy.instance_class):
        return lambda policy, theta, outputs, i: row_at(outputs, i, policy.row())
    return lambda policy, theta, outputs, i: theta


def _like_parameters(policy, theta):
    """Return something of the type of `parameters_at`."""


@compiled_form(_like_parameters)
def _(policy, theta):
    if is_neural(policy.instance_class):
        return lambda policy, theta: policy.row()
    return lambda policy, theta: theta


def workspaces(network, n, batch, theta):
    """Return memory for `n` batches of up to that many rows at once: what `workspace` gives, of n rows each.

    A network's workspace is an array, or a tuple of them, whose lengths are proportional to the batch.
    """
    memory = network.workspace(n * batch, theta)
    return (
        memory.reshape(n, -1) if isinstance(memory, np.ndarray) else tuple(a.reshape(n, -1) for a in memory)
    )


def workspace_at(memory, k):
    """Return workspace k of some `workspaces`."""
    return memory[k] if isinstance(memory, np.ndarray) else tuple(array[k] for array in memory)


@compiled_form(workspace_at)
def _(memory, k):
    if isinstance(memory, types.NoneType):
        return lambda memory, k: None
    if isinstance(memory, types.Array):
        return lambda memory, k: memory[k]
    if len(memory) == 1:
        return lambda memory, k: (memory[0][k],)
    return lambda memory, k: (memory[0][k], *workspace_at(memory[1:], k))


@inner
def rows_of(observations, first, n):
    """Return observations `first` to `first + n - 1` as the rows of a matrix."""
    rows = observations[first : first + n]
    return rows.reshape(n, rows.size // n)


def _outputs(policy, theta, observations, t, first, n, work):
    """Return a neural policy's outputs for environments `first` to `first + n - 1`; else nothing."""


@compiled_form(_outputs)
def _(policy, theta, observations, t, first, n, work):
    if is_neural(policy.instance_class):

        def outputs(policy, theta, observations, t, first, n, work):
            return policy.forward(theta, rows_of(observations[t], first, n), work)

        return outputs
    return lambda policy, theta, observations, t, first, n, work: None


def _appraise(critic, parameters, segment, first, n, rows, work):
    """Write the values of a chunk's states, and of those that its steps led to, if there is a critic."""


@compiled_form(_appraise)
def _(critic, parameters, segment, first, n, rows, work):
    if isinstance(critic, types.NoneType):
        return lambda critic, parameters, segment, first, n, rows, work: None
    return lambda critic, parameters, segment, first, n, rows, work: _appraise_all(
        critic, parameters, segment, first, n, rows, work
    )


@outline
def _appraise_all(critic, parameters, segment, first, n, rows, work):
    """The same, with as many steps at a time as `rows` has room for."""
    observations, final, _, _, _, terminated, truncated, values, next_values = segment
    n_steps, n_envs = values.shape
    flat = observations.reshape(observations.size)
    width = len(flat) // ((n_steps + 1) * n_envs)
    at_once = len(rows) // (n * width)
    for start in range(0, n_steps + 1, at_once):
        count = min(at_once, n_steps + 1 - start)
        for k in range(count):
            place = ((start + k) * n_envs + first) * width
            rows[k * n * width : (k + 1) * n * width] = flat[place : place + n * width]
        x = rows[: count * n * width].reshape((count * n, width))
        outputs = critic.forward(parameters, x, work)
        for k in range(count):
            t = start + k
            for lane in range(n):
                value = outputs[k * n + lane, 0]
                if t < n_steps:
                    values[t, first + lane] = value
                if t > 0:
                    next_values[t - 1, first + lane] = value
    for t in range(n_steps):
        for i in range(first, first + n):
            if truncated[t, i] & (not terminated[t, i]):
                next_values[t, i] = critic.forward(parameters, rows_of(final[t], i, 1), work)[0, 0]


@inline
def _begin(env, policy, parameters, key, number):
    """Return an environment at the start of the episode with that number."""
    rng = trajectory_rng(key, number)
    state = env.reset(rng)
    rng = next_step(rng)
    observation = as_observation(env.observe(state))
    action = zero(policy.sample(parameters, observation, policy_rng(rng)))
    return Lane(state, rng, 0, 0.0, observation, action, 0.0, 0.0, 0)


@inner
def _step_in_lane(lane, env, policy, theta, outputs, horizon, memory, like):
    before = take(memory, lane, like)
    parameters = parameters_at(policy, theta, outputs, lane)
    action = policy.sample(parameters, before.observation, policy_rng(before.rng))
    log_prob = policy.log_prob(parameters, before.observation, action)
    state, reward, terminated = env.step(before.state, action, before.rng)
    reward = reward * 1.0
    time = before.time + 1
    outcome = (TERMINATED if terminated else 0) | (TRUNCATED if time >= horizon else 0)
    observation = as_observation(env.observe(state))
    rng, earned = next_step(before.rng), before.earned + reward
    after = Lane(state, rng, time, earned, observation, action, log_prob, reward, outcome)
    put(memory, lane, after, like)


@outline
def step_lanes(env, policy, theta, outputs, horizon, memory, n_lanes, like):
    """Let the policy act and the environment answer, in the first `n_lanes` lanes."""
    widest_vectors()
    for_each_lane(_step_in_lane, n_lanes, (env, policy, theta, outputs, horizon, memory, like))


@outline
def _put_at_start(env, policy, parameters, memory, lane, key, number, like):
    """Put an environment into a lane at the start of an episode."""
    keep_apart()
    put(memory, lane, _begin(env, policy, parameters, key, number), like)


@outline
def record_chunk(parcel, chunk):
    """Take a chunk's environments through a segment."""
    call, all_memory, numbers, segment, (policy_work, critic_work, rows), totals = unpack(parcel)
    env, policy, theta, critic, value_parameters, lanes, horizon, key, beginning = call
    observations, final, actions, log_probs, rewards, terminated, truncated, _, _ = segment
    memory = all_memory[chunk]
    policy_work, critic_work = workspace_at(policy_work, chunk), workspace_at(critic_work, chunk)
    rows = workspace_at(rows, chunk)
    n_steps, n_envs = rewards.shape
    first = chunk * lanes
    n = min(lanes, n_envs - first)
    like_parameters = _like_parameters(policy, theta)
    like = _begin(env, policy, like_parameters, key, 0)
    for lane in range(n):
        if beginning:
            _put_at_start(env, policy, like_parameters, memory, lane, key, numbers[first + lane], like)
        write_observation(observations, first + lane, take(memory, lane, like).observation)
    n_episodes, total, squares, length = 0.0, 0.0, 0.0, 0.0
    for t in range(n_steps):
        outputs = _outputs(policy, theta, observations, t, first, n, policy_work)
        step_lanes(env, policy, theta, outputs, horizon, memory, n, like)
        row = t * n_envs + first
        for lane in range(n):
            i = first + lane
            after = take(memory, lane, like)
            vectors.store(actions, (row + lane) * vectors.n_components(after.action), after.action)
            log_probs[t, i] = after.log_prob
            rewards[t, i] = after.reward
            terminated[t, i] = (after.outcome & TERMINATED) != 0
            truncated[t, i] = (after.outcome & TRUNCATED) != 0
            if after.outcome != 0:
                write_observation(final, row + lane, after.observation)
                n_episodes += 1.0
                total += after.earned
                squares += after.earned * after.earned
                length += after.time
                numbers[i] += 1 << EPISODE_BITS
                _put_at_start(env, policy, like_parameters, memory, lane, key, numbers[i], like)
            write_observation(observations, row + n_envs + lane, take(memory, lane, like).observation)
    _appraise(critic, value_parameters, segment, first, n, rows, critic_work)
    totals[chunk, 0] = n_episodes
    totals[chunk, 1] = total
    totals[chunk, 2] = squares
    totals[chunk, 3] = length


@kernel
def record_segment(
    env,
    policy,
    theta,
    critic,
    value_parameters,
    lanes,
    horizon,
    seed,
    beginning,
    memory,
    numbers,
    segment,
    work,
    totals,
):
    """Record a segment of all environments, which begin their first episodes if `beginning`."""
    call = env, policy, theta, critic, value_parameters, lanes, horizon, seed_key(seed), beginning
    parcel = pack((call, memory, numbers, segment, work, totals))
    in_parallel(record_chunk, parcel, memory.shape[0])


class Episodes(NamedTuple):
    """The episodes that ended in a segment."""

    n_episodes: int
    mean_return: float  # NaN if there was none
    return_standard_error: float  # NaN if there were less than two
    mean_length: float


class Segments:
    """N environments of one kind under one policy, and the memory that their segments are recorded in.

    Parameters
    ----------
    env, policy : NamedTuple
    n_envs, n_steps : int
        N and T.
    horizon : int
        Steps after which an episode is truncated.
    seed : int
    dtype : dtype
        Of what is recorded, but for integers, booleans, and observations that are arrays.
    critic : NamedTuple, optional
        A value network.
    threads : int, optional
    """

    def __init__(self, env, policy, n_envs, n_steps, horizon, seed, dtype, critic=None, threads=None):
        if numba.config.DISABLE_JIT:
            raise RuntimeError("NUMBA_DISABLE_JIT: segments are recorded by compiled code only")
        policy = as_policy(policy)
        self.env, self.policy, self.horizon, self.seed, self.threads = env, policy, horizon, seed, threads
        self.critic = critic
        self._beginning = True
        space = env.action_space
        width = int(np.prod(space.shape)) if space.shape else 0
        state = some_state(env)
        observation = as_observation(env.observe(state))
        action = (0.0,) * width if width else 0
        rng = Rng(np.uint64(0), np.uint64(0))
        lane = Lane(state, rng, 0, 0.0, env.observe(state), action, 0.0, 0.0, 0)
        held = leaves_of(lane)
        arrays = [leaf for leaf in held if np.ndim(leaf)]
        n_rows = len(held) - len(arrays)
        most = lanes_for(n_rows)
        few = -(-n_envs // _CHUNKS // VECTOR) * VECTOR
        self._lanes = min(most, max(_FEW_LANES, few))
        n_chunks = -(-n_envs // self._lanes)
        words = words_for(n_rows, most, words_of(arrays))
        buffer = np.zeros(n_chunks * words + VECTOR)
        start = (-(buffer.ctypes.data >> 3)) % VECTOR
        self.memory = buffer[start : start + n_chunks * words].reshape(n_chunks, words)
        self.numbers = np.arange(n_envs, dtype=np.int64)
        self._totals = np.zeros((n_chunks, 4))
        like_theta = np.empty(0, dtype)
        n_rows = max(self._lanes, _ROWS)
        self._work = (
            workspaces(policy, n_chunks, self._lanes, like_theta) if is_neural(policy) else None,
            None if critic is None else workspaces(critic, n_chunks, n_rows, like_theta),
            None if critic is None else np.zeros((n_chunks, n_rows * critic.n_inputs), dtype),
        )
        seen = _recorded_type(env, policy, env.observe(state), dtype)
        shown = np.shape(observation)
        steps = n_steps, n_envs
        self.segment = Segment(
            np.zeros((n_steps + 1, n_envs, *shown), seen),
            np.zeros((*steps, *shown), seen),
            np.zeros((*steps, width), dtype) if width else np.zeros(steps, np.int64),
            np.zeros(steps, dtype),
            np.zeros(steps, dtype),
            np.zeros(steps, np.bool_),
            np.zeros(steps, np.bool_),
            np.zeros(steps if critic is not None else (0, 0), dtype),
            np.zeros(steps if critic is not None else (0, 0), dtype),
        )

    def record(self, theta, value_parameters=None, threads=None) -> Episodes:
        """Record the next segment into `segment`, and return what the episodes that ended in it earned.

        On its own number of threads unless another is given.
        """
        policy = self.policy
        threads = self.threads if threads is None else threads
        arguments = (
            distinct(self.env),
            distinct(policy),
            as_parameters(policy, theta),
            self.critic if self.critic is None else distinct(self.critic),
            value_parameters,
            self._lanes,
            self.horizon,
            np.uint64(self.seed),
            self._beginning,
            self.memory,
            self.numbers,
            self.segment,
            self._work,
            self._totals,
        )
        neural = policy if self.critic is None else None
        with kernel_threads(threads), single_threaded_blas(neural):
            try:
                record_segment(*arguments)
            except Exception:
                with readable_errors(self.env, policy):
                    raise
        self._beginning = False
        return _episodes(*self._totals.sum(axis=0))

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of what the next segment depends on, apart from θ."""
        return self.memory.copy(), self.numbers.copy()

    def restore(self, memory: np.ndarray, numbers: np.ndarray) -> None:
        """Go on from a `state`."""
        self.memory[...], self.numbers[...] = memory, numbers
        self._beginning = False


def _recorded_type(env, policy, observation, dtype):
    """The type that observations are recorded in: an image's own, which networks convert batch by batch."""
    if isinstance(observation, np.ndarray):
        return observation.dtype
    kind = env.observation_space.dtype
    whole = not is_neural(policy) and (kind is None or kind.kind in "iu")
    return np.int64 if whole else dtype


def _episodes(count, total, squares, length):
    if count == 0:
        return Episodes(0, *[float("nan")] * 3)
    mean = total / count
    variance = max(squares - count * mean**2, 0.0) / (count - 1) if count > 1 else float("nan")
    return Episodes(int(count), mean, float(np.sqrt(variance / count)), length / count)
