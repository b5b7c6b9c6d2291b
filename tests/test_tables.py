"""Arrays as parameters: what lookup returns, what it refuses, and that lanes are vectorised over it."""

import math
import re
from typing import NamedTuple

import numba
import numpy as np
import pytest
from fastpg.envs.finite_mdp import FiniteMDP
from gymnasium.spaces import Box, Discrete
from numba.core.errors import TypingError
from test_lanes import MACHINE, one_sweep

import fastpg
from fastpg import SoftmaxLinear, lanes
from fastpg.estimators.reinforce import ScoresAndReturns
from fastpg.random import integer
from fastpg.tables import lookup

JIT = not numba.config.DISABLE_JIT
compiled = pytest.mark.skipif(not JIT, reason="about compiled code")


@numba.njit
def lookup_1(table, i):
    return lookup(table, i)


@numba.njit
def lookup_2(table, i, j):
    return lookup(table, i, j)


@numba.njit
def lookup_3(table, i, j, k):
    return lookup(table, i, j, k)


PACKED_ROOT = {"x86_64": r"\tv?sqrtpd\t", "aarch64": r"\tfsqrt\tv\d+\.2d"}

COMPILED = {1: lookup_1, 2: lookup_2, 3: lookup_3}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)], ids=str)
def test_every_element_is_found(dtype, shape):
    """In ordinary Python as Python's own numbers, and in compiled code the same."""
    table = (np.random.default_rng(0).random(shape) * 200 - (60 if dtype != np.uint8 else 0)).astype(dtype)
    if dtype == np.bool_:
        table = np.random.default_rng(1).random(shape) < 0.5
    for index in np.ndindex(shape):
        plain = lookup(table, *index)
        assert plain == table[index] and type(plain) in (float, int, bool)
        assert COMPILED[len(shape)](table, *index) == plain


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integer_is_an_index(kind):
    table = np.arange(12.0).reshape(3, 4)
    assert lookup(table, kind(2), kind(1)) == lookup_2(table, kind(2), kind(1)) == 9.0


def test_a_table_that_cannot_be_written_is_read():
    table = np.arange(12.0).reshape(3, 4)
    table.setflags(write=False)
    assert lookup_2(table, 1, 3) == lookup(table, 1, 3) == 7.0


@compiled
@pytest.mark.parametrize(
    ("table", "index"),
    [
        (np.zeros((3, 4)), (1,)),
        (np.zeros(3), (1, 1)),
        (np.zeros((3, 4)), (1, 1, 1)),
        (np.asfortranarray(np.zeros((3, 4))), (1, 1)),
        (np.zeros((3, 8))[:, ::2], (1, 1)),
    ],
    ids=["too few", "too many of 1", "too many of 2", "Fortran order", "slice"],
)
def test_other_tables_and_indices_are_refused(table, index):
    with pytest.raises(TypingError, match="C-contiguous array and an index for each axis"):
        COMPILED[len(index)](table, *index)


class Place(NamedTuple):
    row: int
    col: int
    x: float


class Terrain(NamedTuple):
    """Heights and kinds of ground on a grid, looked up in every step."""

    height: np.ndarray
    ground: np.ndarray

    horizon = 10
    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return Place(integer(rng, 0, 4), integer(rng, 1, 4), 0.5)

    def observe(self, state):
        return (state.x,)

    def step(self, state, action, rng):
        row = (state.row + action) & 3
        col = (state.col + lookup(self.ground, row, state.col)) & 3
        x = math.sqrt(state.x * lookup(self.height, row, col))
        return Place(row, col, x), x, x < 0.01


@compiled
@pytest.mark.skipif(MACHINE not in PACKED_ROOT, reason=f"knows no instructions of {MACHINE}")
def test_lanes_are_vectorised_over_lookups():
    """Only the dynamics take a square root, of what was looked up: by vectors."""
    env = Terrain(np.random.default_rng(2).random((4, 4)), np.arange(16).reshape(4, 4) % 3)
    policy = SoftmaxLinear.for_env(env)
    one_sweep(env, policy, tuple(policy.initial().tolist()), ScoresAndReturns(), 10, np.uint64(1), 8)
    (assembly,) = [text for types, text in lanes.sweep.inspect_asm().items() if "Terrain" in str(types[0])]
    assert re.search(PACKED_ROOT[MACHINE], assembly)


# --- environments with arrays among their parameters ---


@pytest.mark.parametrize("id", ["Bandit-v0", "FrozenLake-v1", "LinearQuadratic-v0"])
def test_environments_with_arrays_can_be_compared(id):
    env = fastpg.make(id)
    assert env == fastpg.make(id) and not env != fastpg.make(id)
    for i, field in enumerate(env):
        if isinstance(field, np.ndarray):
            other = env._replace(**{env._fields[i]: field + 1})
            assert env != other and not env == other
    assert env != fastpg.make("CartPole-v1") and env != tuple(env)


@pytest.mark.parametrize(
    ("id", "name", "array", "message"),
    [
        ("Bandit-v0", "standard_deviations", np.ones(2), r"has shape \(2,\), must have \(3,\)"),
        ("Bandit-v0", "standard_deviations", 1.0, r"has shape \(\), must have \(3,\)"),
        ("FrozenLake-v1", "starts", np.zeros(2, np.int64), r"has shape \(2,\), must have \(2, 2\)"),
        ("LinearQuadratic-v0", "B", np.zeros((3, 1)), r"has shape \(3, 1\), must have \(2, 1\)"),
        ("LinearQuadratic-v0", "start_mean", (0.0,), r"A: has shape \(2, 2\), must have \(1, 1\)"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(id, name, array, message):
    """However the environment was made, before compiled code reads beyond an array."""
    env = fastpg.make(id)._replace(**{name: array})
    for use in (env.check_parameters, lambda: fastpg.VectorEnv(env, 2)):
        with pytest.raises(ValueError, match=message):
            use()
    policy = fastpg.policy_for(fastpg.make(id))
    with pytest.raises(ValueError, match=message):
        fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=2)


def test_tables_of_an_mdp_must_be_of_one_size():
    lake = FiniteMDP.from_gymnasium(fastpg.make("FrozenLake-v1").gymnasium_twin())
    lake.check_parameters()
    assert lake == FiniteMDP.from_gymnasium(fastpg.make("FrozenLake-v1").gymnasium_twin())
    with pytest.raises(ValueError, match=r"alias: has shape \(16, 4, 2\), must have \(16, 4, 3\)"):
        fastpg.VectorEnv(lake._replace(alias=lake.alias[:, :, :2]))
