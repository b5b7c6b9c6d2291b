"""Many copies of one environment, stepped together with actions from outside.

The lanes of `fastpg.lanes`, kept between calls and told what to do: the engine below the Gymnasium
interfaces. Environment i of a seed has in its first episode the random numbers of trajectory i of that
seed, and in episode e those of trajectory e · 2³² + i.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types

from fastpg.compiler_errors import readable_errors
from fastpg.dispatch import distinct, inline, inner, lowered, outline, plain_kernel
from fastpg.lane_arrays import slot_views, words_of
from fastpg.lane_memory import (
    VECTOR,
    filled,
    for_each_lane,
    keep_apart,
    lanes_for,
    last_flag,
    leaf_types,
    leaves_of,
    put,
    take,
    widest_vectors,
    words_for,
    write,
)
from fastpg.lanes import as_observation
from fastpg.parallel import in_parallel, kernel_threads, pack, unpack
from fastpg.random import Rng, next_step, trajectory_rng
from fastpg.tables import load_from_table, lookup
from fastpg.vectors import store_record

EPISODE_BITS = 32
_LANES_A_THREAD = 2048  # fewer are done before another thread has woken up


TERMINATED, TRUNCATED, BEGUN = 1, 2, 4  # the bits of an outcome
_EACH = np.uint64(0x0101010101010101)  # the lowest bit of eight bytes
_EIGHT_BEGUN, _BYTE, _ONE = np.uint64(BEGUN * 0x0101010101010101), np.uint64(255), np.uint64(1)


class Seat(NamedTuple):
    """What a lane holds: an environment, and what it shows."""

    state: Any
    rng: Rng  # of the next step
    time: int
    observation: Any


def action_at(actions, i, like):
    """Return action i of a batch: an integer, or as many numbers as `like` has."""


@lowered(action_at)
def _(typing, actions, i, like):
    result = like if isinstance(like, types.BaseTuple) else actions.dtype

    def codegen(context, builder, signature, args):
        data = context.make_array(actions)(context, builder, args[0]).data

        def load(index):
            number = load_from_table(builder, builder.gep(data, [index], inbounds=True))
            return context.cast(builder, number, actions.dtype, like[0])

        if not isinstance(like, types.BaseTuple):
            return load_from_table(builder, builder.gep(data, [args[1]], inbounds=True))
        width = ir.Constant(ir.IntType(64), len(like))
        start = builder.mul(args[1], width, flags=("nsw",))
        values = [
            load(builder.add(start, ir.Constant(start.type, k), flags=("nsw",))) for k in range(len(like))
        ]
        return context.make_tuple(builder, like, values)

    return result(actions, types.intp, like), codegen


def write_observation(observations, i, observation):
    """Write an observation into row i of a batch, in the batch's type."""


@lowered(write_observation)
def _(typing, observations, i, observation):
    def codegen(context, builder, signature, args):
        store_record(context, builder, observations, args[0], args[1], observation, args[2])
        return context.get_dummy_value()

    return types.void(observations, types.intp, observation), codegen


def write_kinds(kinds, like):
    """Write into an array what each number in a state is: 0 a boolean, 1 an integer, 2 a float."""


@lowered(write_kinds)
def _(typing, kinds, like):
    def codegen(context, builder, signature, args):
        data = context.make_array(kinds)(context, builder, args[0]).data
        for i, ty in enumerate(leaf_types(like)):
            kind = 2 if isinstance(ty, types.Float) else 0 if isinstance(ty, types.Boolean) else 1
            builder.store(
                ir.Constant(ir.IntType(8), kind), builder.gep(data, [ir.Constant(ir.IntType(64), i)])
            )
        return context.get_dummy_value()

    return types.void(kinds, like), codegen


class Keep(NamedTuple):
    """What is kept between steps, an element for each environment."""

    keys: np.ndarray
    numbers: np.ndarray  # of the next episode
    over: np.ndarray  # whose episode has ended
    over_by_eight: np.ndarray  # the same memory
    outcomes: np.ndarray  # a byte each: TERMINATED | TRUNCATED, or BEGUN
    outcomes_by_eight: np.ndarray
    kinds: np.ndarray  # of the numbers in a state


class Output(NamedTuple):
    """What comes out of a step, for each environment; the last two a byte each, by eight."""

    observations: np.ndarray
    final_observations: np.ndarray  # of who has ended, if the last step of an episode begins the next
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


@inline
def _sit(env, key, number):
    """Return an environment at the start of the episode with that number."""
    rng = trajectory_rng(key, number)
    state = env.reset(rng)
    return Seat(state, next_step(rng), 0, as_observation(env.observe(state)))


@inline
def _step_seat(lane, env, memory, actions, restart, rewards, outcomes, first, horizon, like, like_action):
    seat = take(memory, lane, like)
    begins = lookup(restart, first + lane)
    # Who begins an episode is stepped with the others, but from a state that has a step, and not for good.
    state = like.state if begins else seat.state
    action = action_at(actions, first + lane, like_action)
    state, reward, terminated = env.step(state, action, seat.rng)
    time = seat.time + 1
    put(memory, lane, Seat(state, next_step(seat.rng), time, as_observation(env.observe(state))), like)
    outcome = (TERMINATED if terminated else 0) | (TRUNCATED if time >= horizon else 0)
    write(rewards, first + lane, 0.0 if begins else reward * 1.0, like)
    write(outcomes, first + lane, BEGUN if begins else outcome, like)


@outline
def step_seats(env, memory, actions, restart, rewards, outcomes, first, n_lanes, horizon, like, like_action):
    """Step the first `n_lanes` lanes, which are environments number `first` on."""
    widest_vectors()
    arguments = (env, memory, actions, restart, rewards, outcomes, first, horizon, like, like_action)
    for_each_lane(_step_seat, n_lanes, arguments)


@outline
def _put_at_start(env, memory, lane, key, number, like):
    """Put an environment into a lane at the start of an episode."""
    keep_apart()
    put(memory, lane, _sit(env, key, number), like)


@outline
def _drive_lanes(parcel, chunk):
    (env, like_action, all_memory, lanes, stepping, same_step, horizon), (actions, restart), keep, output = (
        unpack(parcel)
    )
    # By name, once: every access to an array within a tuple counts a reference.
    keys, numbers, over, over_by_eight, outcomes, outcomes_by_eight, _ = keep
    observations, final, rewards, terminated, truncated = output
    memory = all_memory[chunk]
    first = chunk * lanes
    n_lanes = lanes if lanes < len(over) - first else len(over) - first
    like = _sit(env, keys[0], 0)
    if stepping:
        step_seats(
            env, memory, actions, restart, rewards, outcomes, first, n_lanes, horizon, like, like_action
        )
        for lane in range(n_lanes):
            write_observation(observations, first + lane, take(memory, lane, like).observation)
    else:
        for lane in range(n_lanes):
            begins = restart[first + lane]
            outcomes[first + lane] = BEGUN if begins else 0
            over[first + lane] &= not begins
            # A state may have been set from outside.
            observation = as_observation(env.observe(take(memory, lane, like).state))
            write_observation(observations, first + lane, observation)
    for eight in range(n_lanes >> 3):  # at a glance
        word = (first >> 3) + eight
        bits = outcomes_by_eight[word]
        if stepping:
            terminated[word] = bits & _EACH
            truncated[word] = (bits >> _ONE) & _EACH
            over_by_eight[word] = (bits | (bits >> _ONE)) & _EACH
        starting = bits if same_step else bits & _EIGHT_BEGUN
        while starting != 0:
            position = last_flag(starting)
            starting &= ~(_BYTE << np.uint64(8 * position))
            lane, i = 8 * eight + position, 8 * word + position
            if outcomes[i] != BEGUN:
                write_observation(final, i, take(memory, lane, like).observation)
            _put_at_start(env, memory, lane, keys[i], numbers[i], like)
            numbers[i] += 1 << EPISODE_BITS
            write_observation(observations, i, take(memory, lane, like).observation)


@inner
def _are_allowed(actions, lowest, highest):
    """Whether all actions are within bounds, which a NaN is not."""
    allowed = True
    for action in actions:
        allowed &= (action >= lowest) & (action <= highest)
    return allowed


@plain_kernel
def drive(
    env,
    like_action,
    memory,
    lanes,
    keep,
    output,
    actions,
    bounds,
    restart,
    stepping,
    same_step,
    horizon,
    parallel,
):
    """Step all environments, or none, and begin a new episode where `restart` says so instead.

    With `same_step` those whose episode is over begin the next at once. Returns whether all actions are
    within `bounds`; if not, nothing is done.
    """
    if stepping and not _are_allowed(actions, bounds[0], bounds[1]):
        return False
    write_kinds(keep.kinds, _sit(env, keep.keys[0], 0).state)
    settings = env, like_action, memory, lanes, stepping, same_step, horizon
    parcel = pack((settings, (actions, restart), keep, output))
    if parallel:
        in_parallel(_drive_lanes, parcel, memory.shape[0])
    else:
        for chunk in range(memory.shape[0]):
            _drive_lanes(parcel, chunk)
    return True


class Simulator:
    """n environments of one kind.

    Parameters
    ----------
    env : NamedTuple
        The environment.
    n : int
        How many.
    horizon : int
        Steps after which an episode is truncated.
    observation_dtype : dtype
        What observations are rounded to.
    same_step : bool
        Whether an episode's last step also begins the next.
    threads : int, optional

    Attributes
    ----------
    over : bool array, shape (n,)
        Whose episode has ended.
    observation_shape : tuple of int
        () if observations are integers.
    """

    def __init__(self, env, n, horizon, observation_dtype, same_step=False, threads=None):
        if numba.config.DISABLE_JIT:
            raise RuntimeError("NUMBA_DISABLE_JIT: environments are stepped together by compiled code only")
        self.env, self.n, self.horizon, self.same_step = env, n, horizon, same_step
        space = env.action_space
        self._width = int(np.prod(space.shape)) if space.shape else 0
        self._like_action = (0.0,) * self._width if self._width else 0
        sample = _sit.py_func(env, np.uint64(0), 0)
        self._state = sample.state
        self.observation_shape = np.shape(sample.observation)
        self._dtype = np.dtype(observation_dtype)
        # A vector is as many numbers in the lane; an array stays one.
        held = leaves_of(sample._replace(observation=env.observe(sample.state)))
        arrays = [leaf for leaf in held if np.ndim(leaf)]
        n_numbers = len(held) - len(arrays)
        self._lanes = lanes_for(n_numbers)
        self._size = size = -(-n // VECTOR) * VECTOR  # of whole vectors: the last few are nobody's
        n_chunks = -(-size // self._lanes)
        words = words_for(n_numbers, self._lanes, words_of(arrays))
        buffer = np.zeros(n_chunks * words + VECTOR)
        start = (-(buffer.ctypes.data >> 3)) % VECTOR
        self._memory = buffer[start : start + n_chunks * words].reshape(n_chunks, words)
        first_slot = n_numbers * self._lanes + self._lanes // 8
        self._slots = slot_views(self._memory, first_slot, self._lanes, arrays)  # the state's come first
        most = numba.get_num_threads()
        threads = min(threads or most, most, max(1, size // _LANES_A_THREAD))
        self._threads = None if threads == most > 1 else threads  # None: as Numba is set
        outcomes, over = np.zeros(size, np.uint8), np.ones(size, np.bool_)
        self._keep = Keep(
            np.zeros(size, np.uint64),
            np.arange(size, dtype=np.int64),
            over,
            over.view(np.uint64),
            outcomes,
            outcomes.view(np.uint64),
            np.full(
                sum(np.ndim(leaf) == 0 for leaf in leaves_of(self._state)), -1, np.int8
            ),  # until compiled
        )
        self._restart, self._nobody = np.ones(size, np.bool_), np.zeros(size, np.bool_)
        if self._width:
            self._actions = np.zeros((size, self._width))
            self._bounds = -np.finfo(float).max, np.finfo(float).max
        else:
            first = int(getattr(space, "start", 0))
            self._actions = np.full(size, first, np.int64)
            self._bounds = first, first + int(space.n) - 1
        self._flat_actions = self._actions.reshape(-1)
        self._env = distinct(env)

    @property
    def over(self):
        """Whose episode has ended."""
        return self._keep.over[: self.n]

    def seed(self, keys, numbers, where=slice(None)):
        """Set the streams of some environments: keys (`seed_key` of a seed), and their numbers in it."""
        self._keep.keys[: self.n][where] = keys
        self._keep.numbers[: self.n][where] = numbers

    def reset(self, where=None):
        """Start a new episode in all environments or some (bool array), and return all observations."""
        self._restart[...] = True
        if where is not None:
            self._restart[: self.n] = where
        return self._drive(self._flat_actions, self._restart, False)[0]

    def step(self, actions, autoreset):
        """Step all environments.

        Those that are `over` begin a new episode instead, if `autoreset`. Returns observations, final
        observations (where `over`, with `same_step`), rewards, terminated, truncated; or None, with nothing
        done, if there is an action that the environment does not have.
        """
        flags = actions.flags  # another kind of array would compile another kernel
        if (
            actions.dtype == self._actions.dtype
            and self.n == self._size
            and (flags.c_contiguous and flags.aligned and flags.writeable)
        ):
            actions = actions.reshape(-1)
        else:
            self._actions[: self.n] = actions
            actions = self._flat_actions
        if self.same_step:
            restart = self._nobody
        elif autoreset:
            restart = self._keep.over
        else:
            restart = self._restart
            restart[: self.n] = False
            restart[self.n :] = self._keep.over[self.n :]
        return self._drive(actions, restart, True)

    def _drive(self, actions, restart, stepping):
        n, size = self.n, self._size
        shape = size, *self.observation_shape
        observations = np.empty(shape, self._dtype)
        final = np.empty(shape, self._dtype) if self.same_step else observations
        rewards, terminated, truncated = np.empty(size), np.empty(size, np.bool_), np.empty(size, np.bool_)
        by_eight = terminated.view(np.uint64), truncated.view(np.uint64)
        output = Output(observations, final, rewards, *by_eight)
        arguments = (
            *(self._env, self._like_action, self._memory, self._lanes, self._keep, output),
            *(actions, self._bounds, restart, stepping, self.same_step, self.horizon),
        )
        try:
            allowed = self._run(arguments)
        except Exception:
            with readable_errors(self.env):
                raise
        if not allowed:
            return None
        results = observations, final, rewards, terminated, truncated
        return results if n == size else [array[:n] for array in results]

    def _run(self, arguments):
        if self._threads == 1:  # no parallel region: faster, and safe after a fork
            return drive(*arguments, False)
        with kernel_threads(self._threads):
            return drive(*arguments, True)

    def states(self):
        """Return the states: a state whose fields are arrays (copies) of n numbers, or of n arrays."""
        places = self._places()
        return filled(
            self._state,
            (place.reshape(-1, *place.shape[2:])[: self.n].astype(kind) for place, kind in places),
        )

    def set_states(self, states, where=slice(None)):
        """Put the environments into other states, at the start of an episode as far as time goes.

        `states` has fields with a first axis for the environments, or without it, the same for all. Whether
        the environment can be in such a state is not asked: one that a table has no row for reads beyond it.
        """
        places = self._places()
        columns = [np.asarray(column) for column in leaves_of(states)]
        if len(columns) != len(places):
            raise ValueError(f"states: must be like {self._state}, with arrays for numbers")
        n_given = np.empty(self.n, np.bool_)[where].shape
        for i, ((place, kind), column) in enumerate(zip(places, columns, strict=True)):
            single = place.shape[2:]
            if column.shape not in (single, (*n_given, *single)):
                raise ValueError(
                    f"states: array {i} has shape {column.shape}, must have {(*n_given, *single)}"
                )
            if not np.can_cast(column.dtype, kind, "same_kind"):
                raise TypeError(f"states: array {i} is {column.dtype}, must be {np.dtype(kind).name}")
        for (place, _), column in zip(places, columns, strict=True):
            self._write(place, where, column)
        time = len(self._keep.kinds) + 2  # behind the state and the two numbers of `rng`
        self._write(self._row(time).view(np.int64), where, 0)
        self._keep.over[: self.n][where] = False

    def _row(self, row):
        return self._memory[:, row * self._lanes : (row + 1) * self._lanes]

    def _places(self):
        """Where each number and array of the states is, shape (chunks, lanes, ...), and its type."""
        if (self._keep.kinds < 0).any():
            raise ValueError("states: are there after the first reset")
        kinds = [(bool, int, float)[kind] for kind in self._keep.kinds]
        rows = (
            (self._row(row) if kind is float else self._row(row).view(np.int64), kind)
            for row, kind in enumerate(kinds)
        )
        slots = ((slot, slot.dtype) for slot in self._slots)
        return [next(slots if np.ndim(leaf) else rows) for leaf in leaves_of(self._state)]

    def _write(self, place, where, column):
        values = place.reshape(-1, *place.shape[2:]).copy()
        values[: self.n][where] = column
        place[...] = values.reshape(place.shape)
