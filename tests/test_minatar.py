"""MinAtar's games against the `minatar` package by injected state, or what was recorded of it."""

import importlib.util
from functools import cache

import numba
import numpy as np
import pytest
from minatar_package import (
    GAMES,
    RECORDING,
    STATES,
    Draws,
    canonical,
    extract,
    package_game,
    package_steps,
    random_states,
)
from parity import assert_same_steps, compiled_steps, python_steps

import fastpg
from fastpg.random import next_step, seed_key, trajectory_rng

NAMES = sorted(GAMES)
with_package = pytest.mark.skipif(
    importlib.util.find_spec("minatar") is None, reason="the package is not installed: pip install MinAtar"
)


def images(env, columns):
    """What is observed of each state."""
    fields = zip(*columns.values(), strict=True)
    return np.array([env.observe(type_of(env)(*state)) for state in fields])


def type_of(env):
    return STATES[type(env).__name__.lower()]


def stepped(env, columns, actions):
    """Compiled, and where nothing is compiled in ordinary Python; without what fastpg alone remembers."""
    step = python_steps if numba.config.DISABLE_JIT else compiled_steps
    states, rewards, terminated = step(env, columns, actions)
    return canonical(states), rewards, terminated


@cache
def recorded():
    return dict(np.load(RECORDING))


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_recorded_of_the_package(name):
    """2,000 states of every kind: next state, reward, termination and both observations, exactly."""
    env = GAMES[name](use_minimal_action_set=False)
    mine = {key[len(name) + 1 :]: a for key, a in recorded().items() if key.startswith(name)}
    wide = {key: a.astype(np.int64) if a.dtype == np.int8 else a for key, a in mine.items()}
    before = {field: wide[f"before/{field}"] for field in STATES[name]._fields}
    after = {field: wide[f"after/{field}"] for field in STATES[name]._fields}
    actual = stepped(env, before, wide["actions"])
    assert_same_steps(actual, (after, wide["rewards"], wide["terminated"]))
    assert 0.01 < wide["terminated"].mean() < 0.5 and 0.01 < wide["rewards"].mean() < 0.5
    going_on = {field: column[:500] for field, column in actual[0].items()}
    for seen, states in (("seen", before), ("found", going_on)):
        shape = len(wide["actions"]), 10, 10, 4
        theirs = np.unpackbits(mine[seen]).reshape(shape).astype(bool)
        states = {field: column[:500] for field, column in states.items()}
        np.testing.assert_array_equal(images(env, states), theirs[:500])


@with_package
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_the_packages(name):
    """100,000 pairs of state and action in each game."""
    env = GAMES[name](use_minimal_action_set=False)
    n = 300 if numba.config.DISABLE_JIT else 100_000
    columns, actions = random_states(name, n, seed=11)
    *expected, seen, found = package_steps(name, columns, actions)
    actual = stepped(env, columns, actions)
    assert_same_steps(actual, expected)
    assert expected[2].sum() > n / 100 and expected[1].sum() > n / 100
    few = slice(0, 2000)
    for states, theirs in ((columns, seen), (actual[0], found)):
        states = {field: column[few] for field, column in states.items()}
        np.testing.assert_array_equal(images(env, states), theirs[few])


@with_package
@pytest.mark.parametrize("name", NAMES)
def test_whole_episodes_are_the_packages(name):
    """From reset to the end under random actions, with the last action carried along."""
    env, game = GAMES[name](use_minimal_action_set=False), package_game(name)
    actions = np.random.default_rng(0)
    lengths, total = [], 0.0
    for episode in range(20 if numba.config.DISABLE_JIT else 500):
        rng = trajectory_rng(seed_key(2), episode)
        game.random = game.env.random = Draws(rng, 0)
        game.reset()
        game.last_action = 0  # which in the package outlives the episode
        state, ended, steps = env.reset(rng), False, 0
        while not ended and steps < 1500:
            rng, steps, action = next_step(rng), steps + 1, int(actions.integers(6))
            game.random = game.env.random = Draws(rng)
            reward, over = game.act(action)
            state, ours, ended = env.step(state, action, rng)
            assert (ours, ended) == (reward, over)
            np.testing.assert_array_equal(env.observe(state), game.state())
            total += reward
        lengths.append(steps)
        np.testing.assert_equal(canonical(state._asdict()), canonical(extract(game)._asdict()))
    assert max(lengths) > 2 * min(lengths) and total > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_every_square_in_the_colour_of_what_is_there(name):
    env = GAMES[name]()
    columns, _ = random_states(name, 20, seed=6)
    for state in zip(*columns.values(), strict=True):
        state = type_of(env)(*state)
        picture, image = env.picture(state), env.observe(state)
        assert (picture.shape, picture.dtype) == ((240, 240, 3), np.uint8)
        squares = picture.reshape(10, 24, 10, 24, 3)
        assert (squares == squares[:, :1, :, :1]).all()
        colours = squares[:, 0, :, 0]
        np.testing.assert_array_equal(colours.any(axis=2), image.any(axis=2))
        kinds = {tuple(colour) for colour in colours[image.sum(axis=2) == 1]}
        assert len(kinds) == image[image.sum(axis=2) == 1].any(axis=0).sum()


@pytest.mark.parametrize("name", NAMES)
def test_the_minimal_set_is_the_full_one_without_what_does_nothing(name):
    env, full = GAMES[name](), GAMES[name](use_minimal_action_set=False)
    minimal = [0, 1, 3] if name == "breakout" else [0, 1, 2, 3, 4]
    assert (env.action_space.n, full.action_space.n) == (len(minimal), 6)
    columns, actions = random_states(name, 200, seed=3)
    chosen = np.array([minimal.index(a) if a in minimal else 0 for a in actions])
    same = np.array(minimal)[chosen]
    for ours, theirs in zip(
        python_steps(env, columns, chosen), python_steps(full, columns, same), strict=True
    ):
        np.testing.assert_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_actions_stick_as_often_as_they_should(name):
    """All of them with probability 1, none with 0."""
    always, never = (GAMES[name](p, use_minimal_action_set=False) for p in (1.0, 0.0))
    columns, actions = random_states(name, 100, seed=4)
    stuck = python_steps(always, columns, actions)[0]["last_action"]
    np.testing.assert_array_equal(stuck, columns["last_action"])
    np.testing.assert_array_equal(python_steps(never, columns, actions)[0]["last_action"], actions)


def test_asterix_without_ramping_stays_as_it_is():
    env = GAMES["asterix"](difficulty_ramping=False)
    columns, actions = random_states("asterix", 100, seed=5)
    after = python_steps(env, columns, np.minimum(actions, 4))[0]
    for name in ("spawn_interval", "move_interval", "ramp_timer", "ramp_index"):
        np.testing.assert_array_equal(after[name], columns[name])


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
@pytest.mark.parametrize("name", NAMES)
def test_the_check_finds_nothing(name):
    report = fastpg.check_env(GAMES[name]())
    assert report.errors == report.warnings == []


@pytest.mark.parametrize("name", NAMES)
def test_they_are_made_by_name(name):
    """With the package's versions: 0 has the full set of actions, 1 the minimal one, which is the latest."""
    title = f"MinAtar/{name.title()}"
    assert fastpg.make(title) == fastpg.make(f"{title}-v1") == GAMES[name]()
    assert fastpg.make(f"{title}-v0") == GAMES[name](use_minimal_action_set=False)
    with pytest.raises(ValueError, match="did you mean"):
        fastpg.make(f"{title}-v2")
