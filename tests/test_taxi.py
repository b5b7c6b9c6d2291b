"""Taxi against the installed Gymnasium: the whole table, every transition, and whole episodes."""

import gymnasium
import numpy as np
import pytest
import scipy.stats
from fastpg.envs.taxi import IN_TAXI, MAP, STANDS, State, Taxi
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

import fastpg
from fastpg.random import next_step, seed_key, trajectory_rng

pytestmark = needs("Taxi-v4")

CASES = {
    "default": ({}, 100_000),
    "rain": ({"is_rainy": True}, 100_000),
    "fickle passenger": ({"fickle_passenger": True}, 100_000),
    "rain and fickle passenger": ({"is_rainy": True, "fickle_passenger": True}, 100_000),
    "heavy rain": ({"is_rainy": True, "rainy_probability": 0.35}, 100_000),
    "probabilities without effect": ({"rainy_probability": 0.1, "fickle_probability": 0.9}, 100_000),
}
ALL = pytest.mark.parametrize("case", CASES)
STATES = [
    State(row, col, passenger, destination, fickle)
    for row in range(5)
    for col in range(5)
    for passenger in range(5)
    for destination in range(4)
    for fickle in (False, True)
]


def state_of(taxi):
    return State(*map(int, taxi.decode(taxi.s)), bool(taxi.fickle_step))


@ALL
def test_transitions_are_gymnasiums(case):
    """From all states with the same random numbers: state, reward and end, exactly."""
    parameters, n = CASES[case]
    env = Taxi.make(**parameters)
    n = n if JIT else 12_000
    columns, actions = random_pairs(env, STATES, n, seed=20)
    expected = step_gymnasium(env, columns, actions, step_draws(n), state_of)
    assert set(expected[1]) == {-1, -10, 20} and expected[2].any()
    changed = expected[0]["destination"] != columns["destination"]
    assert changed.any() == env.fickle_passenger
    assert_same_steps(compiled_steps(env, columns, actions), expected)


@ALL
def test_frequencies_are_those_of_gymnasiums_table(case):
    """Every outcome of every state and action, and no other: chi-square at a significance of 1e-3.

    The table knows no fickle passengers; here nobody is.
    """
    parameters, _ = CASES[case]
    env = Taxi.make(**parameters)
    table = env.gymnasium_twin().unwrapped.P
    states = [state for state in STATES if not state.fickle]
    columns, actions = random_pairs(env, states, 300_000 if JIT else 3_000, seed=21)
    assert assert_table_is_sampled(env, columns, actions, lambda s, a: table[s][a]) == 3_000


def test_a_fickle_passenger_chooses_as_gymnasiums_does():
    """The three other stands equally often, in both: chi-square at a significance of 1e-3."""
    env = Taxi(fickle_passenger=True)
    n = 3_000 if JIT else 600
    state = State(2, 2, IN_TAXI, 1, True)
    columns = {name: np.repeat(value, n) for name, value in state._asdict().items()}
    actions = np.zeros(n, np.int64)
    ours, _, _ = compiled_steps(env, columns, actions, seed=8)
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=8)
    theirs = []
    for _ in range(n):
        env.render_state(twin, state)
        twin.step(0)
        theirs.append(state_of(twin))
    for destinations in (ours["destination"], [state.destination for state in theirs]):
        counts = np.bincount(destinations, minlength=4)
        assert counts[1] == 0
        assert scipy.stats.chisquare(counts[[0, 2, 3]]).pvalue > 1e-3
    assert not ours["fickle"].any() and not any(state.fickle for state in theirs)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.85, 1.0])
def test_episodes_are_fickle_as_often_as_gymnasiums(probability):
    """At the start, in both: binomial at a significance of 1e-3; and never if passengers are not fickle."""
    env = Taxi.make(fickle_passenger=True, fickle_probability=probability)
    twin = env.gymnasium_twin().unwrapped
    n = 2_000 if JIT else 300
    ours = sum(env.reset(trajectory_rng(seed_key(9), i)).fickle for i in range(n))
    theirs = sum(twin.reset(seed=i) and bool(twin.fickle_step) for i in range(n))
    for count in (ours, theirs):
        assert scipy.stats.binomtest(count, n, probability).pvalue > 1e-3
    never = Taxi.make(fickle_probability=probability)
    assert not any(never.reset(trajectory_rng(seed_key(9), i)).fickle for i in range(100))


def route(state, goal):
    """A move towards a tile of the map that no wall blocks, by breadth-first search."""
    reached, frontier = {goal: None}, [goal]
    while (state.row, state.col) not in reached:
        row, col = frontier.pop(0)
        for move, (r, c) in enumerate([(row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)]):
            if 0 <= r < 5 and 0 <= c < 5 and (r, c) not in reached:
                if r != row or MAP[row][2 * max(c, col)] == ":":
                    reached[r, c] = move
                    frontier.append((r, c))
    return reached[state.row, state.col]


def skilled(state):
    """Fetch and deliver."""
    carried = state.passenger == IN_TAXI
    goal = divmod(STANDS[state.destination if carried else state.passenger], 5)
    if (state.row, state.col) == goal:
        return 5 if carried else 4
    return route(state, goal)


@ALL
def test_whole_episodes_are_gymnasiums(case):
    """From Gymnasium's starts, to their last step or the time limit: 1,000, and 200 of the other cases."""
    parameters, _ = CASES[case]
    env = Taxi.make(**parameters)

    def choose(episode, state, rng):
        return skilled(state) if rng.random() < (1.0, 0.7, 0.0, 0.9)[episode % 4] else int(rng.integers(6))

    n = (1_000 if case == "default" else 200) if JIT else 12
    columns, actions, expected, episodes = play_gymnasium(env, n, choose, state_of, n * env.horizon)
    lengths, terminated, truncated = (np.array(values) for values in zip(*episodes, strict=True))
    assert_same_steps(compiled_steps(env, columns, actions), expected)
    assert np.array_equal(truncated, lengths == env.horizon) and np.all(terminated | truncated)
    assert terminated.any() and truncated.any()
    last = np.cumsum(lengths) - 1
    assert np.array_equal(np.flatnonzero(expected[2]), last[terminated])
    if env.fickle_passenger and JIT:
        assert np.any(expected[0]["destination"] != columns["destination"])


def test_starts_are_uniform_as_gymnasiums():
    """300 states: chi-square at a significance of 1e-3."""
    env = Taxi()
    distribution = env.gymnasium_twin().unwrapped.initial_state_distrib
    assert (distribution > 0).sum() == 300
    assert_starts_are_distributed(env, distribution, 60_000 if JIT else 3_000)


@ALL
def test_python_is_compiled(case):
    assert_python_is_compiled(Taxi.make(**CASES[case][0]), STATES)


def test_parameters_are_honoured_one_by_one():
    """Each changes the transitions, alone, where it has an effect."""
    columns, actions = random_pairs(Taxi(), STATES, 1_500, seed=22)

    def outcome(env):
        return python_steps(env, columns, actions)[0]

    for before, after in [
        (Taxi(), Taxi(is_rainy=True)),
        (Taxi(is_rainy=True), Taxi(is_rainy=True, rainy_probability=0.5)),
        (Taxi(), Taxi(fickle_passenger=True)),
    ]:
        assert any(not np.array_equal(outcome(before)[name], outcome(after)[name]) for name in State._fields)
    assert (
        not Taxi(fickle_passenger=True, fickle_probability=0.0).reset(next_step(trajectory_rng(1, 2))).fickle
    )


@ALL
def test_spaces_and_horizon_are_gymnasiums(case):
    env = Taxi.make(**CASES[case][0])
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space
    assert env.horizon == gymnasium.spec("Taxi-v4").max_episode_steps


def test_defaults_are_gymnasiums():
    theirs = gymnasium.make("Taxi-v4").unwrapped
    for name, value in Taxi()._asdict().items():
        if hasattr(theirs, name):  # whether it rains is only in the table
            assert getattr(theirs, name) == value, name
    assert theirs.P == Taxi().gymnasium_twin().unwrapped.P


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rain": True}, "rain=True: Taxi has no such parameter"),
        ({"is_rainy": 1}, "is_rainy=1"),
        ({"rainy_probability": 1.2}, "rainy_probability=1.2: must be between 0 and 1"),
        ({"fickle_probability": -0.1}, "fickle_probability=-0.1: must be between 0 and 1"),
        ({"fickle_probability": float("nan")}, "fickle_probability"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_by_name(parameters, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Taxi.make(**parameters)


def test_a_taxi_made_without_make_is_checked_where_it_is_used():
    with pytest.raises(ValueError, match="rainy_probability=7.0: must be between 0 and 1"):
        fastpg.VectorEnv(Taxi(is_rainy=True, rainy_probability=7.0), 2)


def test_masks_of_actions_are_gymnasiums():
    """For every number that an observation can be, one at a time and all at once."""
    env, twin = Taxi(), gymnasium.make("Taxi-v4").unwrapped
    numbers = np.arange(env.observation_space.n)
    expected = np.array([twin.action_mask(number) for number in numbers])
    masks = env.action_mask(numbers)
    np.testing.assert_array_equal(masks, expected)
    assert masks.dtype == expected.dtype and env.action_mask(7).shape == (6,)
    np.testing.assert_array_equal(env.action_mask(numbers.reshape(4, 125))[3, 2], expected[377])
