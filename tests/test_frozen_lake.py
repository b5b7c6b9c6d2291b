"""FrozenLake against the installed Gymnasium: the whole table, every transition, and whole episodes."""

import gymnasium
import numpy as np
import pytest
from fastpg.envs.frozen_lake import MAPS, FrozenLake, FrozenLake8x8, State
from parity import assert_same_steps, compiled_steps, python_steps
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

pytestmark = needs("FrozenLake-v1")

POND = ["FSFHG", "HFFFS", "GFFSF"]
CASES = {
    "default": ({}, 100_000),
    "8x8": ({"map_name": "8x8"}, 100_000),
    "custom map": ({"desc": POND}, 100_000),
    "not slippery": ({"is_slippery": False}, 100_000),
    "success rate": ({"success_rate": 0.75}, 100_000),
    "certain to slip": ({"success_rate": 0.0}, 100_000),
    "reward schedule": ({"reward_schedule": (2.5, -3, -0.1)}, 100_000),
    "all at once": ({"desc": POND, "success_rate": 0.6, "reward_schedule": (5, -1, -0.01)}, 100_000),
}


def states_of(env):
    return [State(row, col) for row in range(env.desc.shape[0]) for col in range(env.desc.shape[1])]


def state_of(lake):
    return State(*map(int, divmod(lake.s, lake.ncol)))


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From all tiles, holes and goals too, with the same random numbers: tile, reward and end, exactly."""
    arguments, n = CASES[case]
    env = FrozenLake.make(**arguments)
    n = n if JIT else 1_000
    columns, actions = random_pairs(env, states_of(env), n, seed=20)
    expected = step_gymnasium(env, columns, actions, step_draws(n), state_of)
    assert 0.05 < expected[2].mean() < 0.95
    assert_same_steps(compiled_steps(env, columns, actions), expected)


@pytest.mark.parametrize("case", CASES)
def test_frequencies_are_those_of_gymnasiums_table(case):
    """Every outcome of every state and action, and no other: chi-square at a significance of 1e-3."""
    arguments, n = CASES[case]
    env = FrozenLake.make(**arguments)
    table = env.gymnasium_twin().unwrapped.P
    columns, actions = random_pairs(env, states_of(env), 2 * n if JIT else 3_000, seed=21)
    pairs = assert_table_is_sampled(env, columns, actions, lambda s, a: table[s][a])
    assert pairs == 4 * env.desc.size


@pytest.mark.parametrize("cls", [FrozenLake, FrozenLake8x8])
def test_whole_episodes_are_gymnasiums(cls):
    """1,000 of each id from Gymnasium's starts, to their last step or the time limit."""
    env = cls.make()

    def choose(episode, state, rng):
        """At random, mostly towards the goal, or always up, which stays alive."""
        skilled = int(rng.integers(1, 3) if rng.random() < 0.8 else rng.integers(4))
        return (int(rng.integers(4)), skilled, skilled, 3)[episode % 4]

    n = 1_000 if JIT else 20
    columns, actions, expected, episodes = play_gymnasium(env, n, choose, state_of, n * env.horizon)
    lengths, terminated, truncated = (np.array(values) for values in zip(*episodes, strict=True))
    assert lengths.sum() == len(actions)
    assert_same_steps(compiled_steps(env, columns, actions), expected)
    assert np.array_equal(truncated, lengths == env.horizon) and np.all(terminated | truncated)
    assert terminated.any() and truncated.any()
    assert expected[1].sum() > 0 or not JIT  # some reach the goal
    last = np.cumsum(lengths) - 1
    assert np.array_equal(expected[2][last], terminated)
    assert expected[2].sum() == terminated.sum()  # nothing ends before its last step


@pytest.mark.parametrize("arguments", [{}, {"map_name": "8x8"}, {"desc": POND}], ids=str)
def test_starts_are_uniform_over_the_start_tiles(arguments):
    """As in Gymnasium's distribution: chi-square at a significance of 1e-3."""
    env = FrozenLake.make(**arguments)
    assert_starts_are_distributed(
        env, env.gymnasium_twin().unwrapped.initial_state_distrib, 30_000 if JIT else 500
    )


def test_python_is_compiled():
    env = FrozenLake.make(desc=POND, reward_schedule=(5, -1, -0.01))
    assert_python_is_compiled(env, states_of(env))


def test_parameters_are_honoured_one_by_one():
    """Each changes the transitions as it changes Gymnasium's, alone."""
    states = states_of(FrozenLake.make())
    columns, actions = random_pairs(FrozenLake.make(), states, 200, seed=22)
    unchanged = python_steps(FrozenLake.make(), columns, actions)
    flooded = [row.replace("F", "H") for row in MAPS["4x4"]]
    for arguments in (
        {"desc": flooded},
        {"is_slippery": False},
        {"success_rate": 0.9},
        *({"reward_schedule": schedule} for schedule in ((2, 0, 0), (1, -1, 0), (1, 0, -1))),
    ):
        env = FrozenLake.make(**arguments)
        expected = step_gymnasium(env, columns, actions, step_draws(200), state_of)
        ours = python_steps(env, columns, actions)
        assert_same_steps(ours, expected)
        same = [np.array_equal(ours[0][name], unchanged[0][name]) for name in State._fields]
        assert not (all(same) and np.array_equal(ours[1], unchanged[1])), arguments


@pytest.mark.parametrize("arguments", [{}, {"map_name": "8x8"}, {"desc": POND}], ids=str)
def test_spaces_are_gymnasiums(arguments):
    env = FrozenLake.make(**arguments)
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space


@pytest.mark.parametrize("cls", [FrozenLake, FrozenLake8x8])
def test_defaults_and_horizon_are_gymnasiums(cls):
    env = cls.make()
    assert env.horizon == gymnasium.spec(env.gymnasium_id).max_episode_steps
    theirs = gymnasium.make(env.gymnasium_id).unwrapped
    assert theirs.desc.tobytes() == bytes(env.desc.astype(np.uint8))
    assert theirs.P == env.gymnasium_twin().unwrapped.P


@pytest.mark.parametrize("desc", [np.array(POND), np.asarray(POND, dtype="c"), [list(row) for row in POND]])
def test_a_map_may_be_rows_or_letters(desc):
    assert np.array_equal(FrozenLake.make(desc=desc).desc, FrozenLake.make(desc=POND).desc)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"map_name": "5x5"}, "map_name='5x5': must be one of 4x4, 8x8"),
        ({"desc": []}, "rows of equal length"),
        ({"desc": "SFFG"}, "rows of equal length"),
        ({"desc": ["SF", "FFG"]}, "rows of equal length"),
        ({"desc": ["SX", "FG"]}, "letters S, F, H and G"),
        ({"desc": ["FF", "FG"]}, "no start"),
        ({"desc": 3}, "rows of equal length"),
        ({"success_rate": 1.5}, "success_rate=1.5"),
        ({"success_rate": float("nan")}, "success_rate"),
        ({"success_rate": "high"}, "success_rate='high'"),
        ({"is_slippery": 2}, "is_slippery=2"),
        ({"reward_schedule": (1, 0)}, "reward_schedule"),
        ({"reward_schedule": (1, 0, np.inf)}, "reward_schedule"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        FrozenLake.make(**arguments)
