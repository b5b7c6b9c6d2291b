"""CliffWalking against the installed Gymnasium: the whole table, every transition, and whole episodes."""

import gymnasium
import numpy as np
import pytest
from fastpg.envs.cliff_walking import CliffWalking, State
from parity import assert_same_steps, compiled_steps
from toy_text import (
    JIT,
    assert_python_is_compiled,
    assert_starts_are_distributed,
    assert_table_is_sampled,
    needs,
    play_gymnasium,
    random_pairs,
    step_draws,
    step_gymnasium,
)

pytestmark = needs("CliffWalking-v1")

BOTH = pytest.mark.parametrize("env", [CliffWalking(), CliffWalking(is_slippery=True)], ids=str)
STATES = [State(row, col) for row in range(4) for col in range(12)]


def state_of(walk):
    return State(*map(int, divmod(walk.s, 12)))


@BOTH
def test_transitions_are_gymnasiums(env):
    """From all tiles, cliff and goal too, with the same random numbers: tile, reward and end, exactly."""
    n = 100_000 if JIT else 1_000
    columns, actions = random_pairs(env, STATES, n, seed=20)
    expected = step_gymnasium(env, columns, actions, step_draws(n), state_of)
    assert set(expected[1]) == {-1, -100} and 0 < expected[2].mean() < 0.1
    assert_same_steps(compiled_steps(env, columns, actions), expected)


@BOTH
def test_frequencies_are_those_of_gymnasiums_table(env):
    """Every outcome of every state and action, and no other: chi-square at a significance of 1e-3."""
    table = env.gymnasium_twin().unwrapped.P
    columns, actions = random_pairs(env, STATES, 200_000 if JIT else 4_000, seed=21)
    assert assert_table_is_sampled(env, columns, actions, lambda s, a: table[s][a]) == 4 * 48


@BOTH
def test_whole_episodes_are_gymnasiums(env):
    """1,000 from Gymnasium's start to the goal: there is no time limit."""

    def choose(episode, state, rng):
        """Up, along the cliff, and down, but for errors."""
        if rng.random() < (0.1, 0.3, 0.5)[episode % 3]:
            return int(rng.integers(4))
        return 2 if state.col == 11 else (0 if state.row > 1 else 1)

    n = 1_000 if JIT else 20
    columns, actions, expected, episodes = play_gymnasium(env, n, choose, state_of, 500 * n)
    lengths, terminated, truncated = (np.array(values) for values in zip(*episodes, strict=True))
    assert_same_steps(compiled_steps(env, columns, actions), expected)
    assert terminated.all() and not truncated.any()
    assert np.array_equal(np.flatnonzero(expected[2]), np.cumsum(lengths) - 1)
    assert -100 in expected[1]


@BOTH
def test_the_start_is_gymnasiums(env):
    assert_starts_are_distributed(env, env.gymnasium_twin().unwrapped.initial_state_distrib, 100)


@BOTH
def test_python_is_compiled(env):
    assert_python_is_compiled(env, STATES)


@BOTH
def test_spaces_are_gymnasiums(env):
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space


@pytest.mark.parametrize(
    ("id", "env"),
    [("CliffWalking-v1", CliffWalking()), ("CliffWalkingSlippery-v1", CliffWalking(is_slippery=True))],
)
def test_time_limit_and_defaults_are_gymnasiums(id, env):
    assert env.horizon == gymnasium.spec(id).max_episode_steps
    assert gymnasium.make(id).unwrapped.P == env.gymnasium_twin().unwrapped.P
