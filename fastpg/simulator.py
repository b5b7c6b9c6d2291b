"""Copies of one environment, stepped together by the compiled code of `fastpg.stepping`."""

from time import perf_counter

import numba
import numpy as np

from fastpg.compiler_errors import readable_errors
from fastpg.dispatch import compiled_for, distinct
from fastpg.lane_arrays import slot_views, words_of
from fastpg.lane_memory import VECTOR, lanes_for, words_for
from fastpg.nests import filled, leaves_of
from fastpg.pace import Pace
from fastpg.parallel import is_forked, kernel_threads
from fastpg.random import STEP_BITS
from fastpg.stepping import Keep, Output, drive, start_of

_LANES_A_THREAD = 1024  # fewer are done before another thread has woken up
_SHARES_A_THREAD = 4  # so that one thread can help another


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
        self.env = env
        self.n, self.horizon, self.same_step = n, horizon, same_step
        self._arguments = n, horizon, observation_dtype, same_step, threads
        space = env.action_space
        self._width = int(np.prod(space.shape)) if space.shape else 0
        self._like_action = (0.0,) * self._width if self._width else 0
        sample = start_of.py_func(env, np.uint64(0), 0)
        self._state = sample.state
        self.observation_shape = np.shape(env.observe(sample.state))
        self._dtype = np.dtype(observation_dtype)
        held = leaves_of(sample)
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
        self._threads = None if threads == most else threads  # None: as Numba is set
        self._pace = Pace() if threads > 1 else None
        self._share_size = -(-n_chunks // (_SHARES_A_THREAD * threads if threads > 1 else 1))
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

    def __getstate__(self):
        """What a copy is made of: arrays share memory here, and have to in the copy."""
        kept = self._memory, self._keep.keys, self._keep.numbers, self._keep.over, self._keep.outcomes
        return self.env, self._arguments, [array.copy() for array in (*kept, self._keep.kinds)]

    def __setstate__(self, copied):
        """Build a simulator in the same states, which compiles nothing that is in the cache."""
        env, arguments, arrays = copied
        self.__init__(env, *arguments)
        kept = self._memory, self._keep.keys, self._keep.numbers, self._keep.over, self._keep.outcomes
        for place, array in zip((*kept, self._keep.kinds), arrays, strict=True):
            place[...] = array

    @property
    def env(self):
        """The environment; one of the same class may take its place, under way too."""
        return self._env

    @env.setter
    def env(self, env):
        self._env, self._distinct_env, self._compiled = env, distinct(env), None

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
            *(
                self._distinct_env,
                self._like_action,
                self._memory,
                self._lanes,
                self._share_size,
                self._keep,
                output,
            ),
            *(actions, self._bounds, restart, stepping, self.same_step, self.horizon),
        )
        try:
            allowed = self._run(arguments, stepping)
        except Exception:
            with readable_errors(self.env):
                raise
        if not allowed:
            return None
        results = observations, final, rewards, terminated, truncated
        return results if n == size else [array[:n] for array in results]

    def _run(self, arguments, stepping):
        if self._compiled is None:
            self._compiled = compiled_for(drive, (*arguments, False))
        pace = self._pace
        if pace is None or not stepping or is_forked():  # no parallel region
            return self._compiled(*arguments, False)
        parallel, started = pace.parallel(), perf_counter()
        if parallel:
            with kernel_threads(self._threads):
                result = self._compiled(*arguments, True)
        else:
            result = self._compiled(*arguments, False)
        pace.note(parallel, perf_counter() - started)
        return result

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
        behind = len(self._keep.kinds)  # the state are the two numbers of `rng`, and the time
        key, gamma, time = (self._row(behind + k).view(np.uint64) for k in range(3))
        later = key + time * (gamma << STEP_BITS)  # random numbers are not drawn again
        self._write(key, where, later.reshape(-1)[: self.n][where])
        self._write(time, where, 0)
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
