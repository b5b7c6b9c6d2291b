"""One step of many injected states: compiled, in ordinary Python, and what the tests say about the two."""

import inspect
from functools import cache

import numba
import numpy as np

from fastpg.nests import element
from fastpg.random import next_step, seed_key, trajectory_rng

DTYPES = {float: np.float64, int: np.int64, bool: np.bool_}


@cache
def _stepper(cls):
    """A compiled loop over columns of states, written for one class of states."""
    fields = cls._fields
    columns = ", ".join(f"in_{name}" for name in fields)
    outputs = ", ".join(f"out_{name}" for name in fields)
    source = f"""
def steps(env, {columns}, actions, key, {outputs}, rewards, terminated):
    for i in range(len(rewards)):
        rng = next_step(trajectory_rng(key, i))
        state = State({", ".join(f"in_{name}[i]" for name in fields)})
        state, reward, ended = env.step(state, actions[i], rng)
        {"; ".join(f"out_{name}[i] = state.{name}" for name in fields)}
        rewards[i] = reward
        terminated[i] = ended
"""
    names = {"State": cls, "next_step": next_step, "trajectory_rng": trajectory_rng}
    exec(source, names)
    return numba.njit(error_model="numpy")(names["steps"])


def state_class(env):
    """The NamedTuple class of the environment's states."""
    return type(env.reset(np.random.default_rng(0)))


def columns_of(states):
    """A list of states as a dict of columns."""
    cls = type(states[0])
    kinds = inspect.get_annotations(cls, eval_str=True)
    return {
        name: np.array([getattr(s, name) for s in states], dtype=DTYPES.get(kinds[name]))
        for name in cls._fields
    }


def as_columns(cls, states):
    """An array of states of floats, shape (n, fields), as a dict of columns."""
    states = np.asarray(states, dtype=np.float64)
    return {name: np.ascontiguousarray(states[:, i]) for i, name in enumerate(cls._fields)}


def as_tuples(actions):
    """Actions of one number as environments take them."""
    return [(float(action),) for action in actions]


def compiled_steps(env, columns, actions, seed=0):
    """Step each state once: columns of next states, rewards, terminated.

    `columns` maps each field of the state to an array of n values (or n arrays). `actions` is an integer
    array of n, or a list of n tuples of floats. Pair i has the random numbers of the first step of
    trajectory i of the seed.
    """
    cls = state_class(env)
    n = len(actions)
    outputs = {name: np.empty_like(column) for name, column in columns.items()}
    rewards, terminated = np.empty(n), np.empty(n, np.bool_)
    inputs = [columns[name] for name in cls._fields]
    if not isinstance(actions, np.ndarray):
        actions = numba.typed.List(actions)
    results = [outputs[name] for name in cls._fields]
    _stepper(cls)(env, *inputs, actions, seed_key(seed), *results, rewards, terminated)
    return outputs, rewards, terminated


def python_steps(env, columns, actions, seed=0):
    """The same by plain method calls, as in a debugger."""
    cls = state_class(env)
    steps = []
    for i, action in enumerate(actions):
        state = element(cls(**columns), i)
        action = action if isinstance(action, tuple) else int(action)
        steps.append(env.step(state, action, next_step(trajectory_rng(seed_key(seed), i))))
    states, rewards, terminated = zip(*steps, strict=True)
    return columns_of(states), np.array(rewards, dtype=np.float64), np.array(terminated, dtype=np.bool_)


def assert_same_steps(actual, expected):
    """States to 1e-12 of their size, integers and booleans in them, reward and termination exactly."""
    for name, column in expected[0].items():
        ours = actual[0][name]
        if column.dtype.kind == "f":
            bound = 1e-12 * np.maximum(1.0, np.abs(column)) + 1e-300
            np.testing.assert_array_less(np.abs(ours - column), bound, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, column, err_msg=name)
    np.testing.assert_array_equal(actual[1], expected[1])
    np.testing.assert_array_equal(actual[2], expected[2])


def assert_same_steps_and_rewards(actual, expected):
    """Rewards to 1e-12 of their size, the rest as `assert_same_steps` has it."""
    bound = 1e-12 * np.maximum(1.0, np.abs(expected[1]))
    np.testing.assert_array_less(np.abs(actual[1] - expected[1]), bound)
    assert_same_steps((actual[0], expected[1], actual[2]), expected)
