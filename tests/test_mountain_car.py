"""MountainCar against the installed Gymnasium: transitions from injected states, and whole episodes."""

import math
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.mountain_car import MountainCar, State
from parity import as_columns, assert_same_steps, compiled_steps, python_steps
from scipy.stats import ks_2samp, kstest

from fastpg.random import seed_key, trajectory_rng

JIT = not numba.config.DISABLE_JIT

CHANGED = {
    "min_position": -1.0,
    "max_position": 0.7,
    "max_speed": 0.05,
    "goal_position": 0.4,
    "goal_velocity": 0.02,
    "force": 0.0015,
    "gravity": 0.003,
}
CASES = {
    "default": ({}, 100_000),
    "goal velocity": ({"goal_velocity": 0.03}, 100_000),
    "changed parameters": (CHANGED, 100_000),
}


def step_gymnasium(env, states, actions):
    """Next states, rewards, terminated; and the observations."""
    twin = env.gymnasium_twin().unwrapped
    following, observations = np.empty_like(states), np.empty(states.shape, np.float32)
    rewards, terminated = np.empty(len(actions)), np.empty(len(actions), bool)
    for i, action in enumerate(actions):
        twin.state = states[i]
        observations[i], rewards[i], terminated[i], truncated, _ = twin.step(action)
        following[i] = twin.state
        assert not truncated
    return (as_columns(State, following), rewards, terminated), observations


def random_pairs(env, n, seed):
    """Anywhere; within 1e-9 of the goal's position, of its velocity, of the wall; and at goal and wall."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 3, n)
    position = rng.uniform(env.min_position - 0.05, env.max_position + 0.05, n)
    velocity = rng.uniform(-1.1, 1.1, n) * env.max_speed
    noise = rng.uniform(-1e-9, 1e-9, n)

    arriving = slice(1, None, 8)  # at full speed
    position[arriving] = env.goal_position - env.max_speed + noise[arriving]
    velocity[arriving] = 1.2 * env.max_speed
    position[1::16] = env.goal_position - env.max_speed
    slow = slice(3, None, 8)  # beyond the goal, at its velocity
    position[slow] = rng.uniform(env.goal_position, env.max_position, len(position[slow]))
    pull = (actions - 1) * env.force - env.gravity * np.cos(3 * position)
    velocity[slow] = env.goal_velocity - pull[slow] + noise[slow]
    backing = slice(5, None, 8)  # into the wall at full speed
    position[backing] = env.min_position + env.max_speed + noise[backing]
    velocity[backing] = -1.2 * env.max_speed
    position[5::16] = env.min_position + env.max_speed
    return np.stack([position, velocity], axis=1), actions


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random states with random actions: next state, observation, reward and termination."""
    parameters, n = CASES[case]
    env = MountainCar(**parameters)
    states, actions = random_pairs(env, n if JIT else 3_000, seed=30)
    expected, observations = step_gymnasium(env, states, actions)
    assert 0.1 < expected[2].mean() < 0.9
    assert 0.02 < (expected[0]["position"] == env.min_position).mean() < 0.5
    actual = compiled_steps(env, as_columns(State, states), actions)
    assert_same_steps(actual, expected)
    following = np.stack(list(actual[0].values()), axis=1)
    np.testing.assert_allclose(following.astype(np.float32), observations, rtol=2**-23, atol=1e-12)


@pytest.mark.skipif(not JIT, reason="compares with compiled code")
def test_ordinary_python_steps_as_compiled_code_does():
    env = MountainCar(goal_velocity=0.01)
    states, actions = random_pairs(env, 500, seed=31)
    columns = as_columns(State, states)
    assert_same_steps(python_steps(env, columns, actions), compiled_steps(env, columns, actions))


def test_the_left_wall_stops_and_the_right_end_does_not():
    states = np.array([[-1.2, -0.07], [-1.15, -0.07], [0.6, 0.07], [0.58, 0.07]])
    following, _, terminated = compiled_steps(MountainCar(), as_columns(State, states), np.ones(4, np.int64))
    assert following["position"].tolist() == [-1.2, -1.2, 0.6, 0.6]
    assert following["velocity"][:2].tolist() == [0.0, 0.0] and np.all(following["velocity"][2:] > 0.06)
    assert terminated.tolist() == [False, False, True, True]
    assert_same_steps(
        (following, -np.ones(4), terminated), step_gymnasium(MountainCar(), states, [1, 1, 1, 1])[0]
    )


def test_the_goal_itself_ends_the_episode():
    """Its position, 0.43 + 0.07, but not an ulp before it; its velocity, but not one an ulp higher."""
    assert 0.43 + 0.07 == 0.5
    states = np.array([[0.43, 0.08], [math.nextafter(0.43, 0), 0.08]])
    for goal_velocity, ends in [(0.07, [True, False]), (math.nextafter(0.07, 1), [False, False])]:
        env = MountainCar(goal_velocity=goal_velocity)
        expected, _ = step_gymnasium(env, states, [1, 1])
        assert expected[2].tolist() == ends
        assert_same_steps(compiled_steps(env, as_columns(State, states), np.ones(2, np.int64)), expected)


def test_parameters_are_honoured_one_by_one():
    """Each changes the transition as it changes Gymnasium's, alone."""
    states, actions = random_pairs(MountainCar(), 400, seed=32)
    unchanged = compiled_steps(MountainCar(), as_columns(State, states), actions)
    for name, value in CHANGED.items():
        env = MountainCar(**{name: value})
        actual = compiled_steps(env, as_columns(State, states), actions)
        with pytest.raises(AssertionError):
            assert_same_steps(actual, unchanged)
        assert_same_steps(actual, step_gymnasium(env, states, actions)[0])


class Episode(NamedTuple):
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool


def play(twin, seed, skill):
    """An episode of Gymnasium under a policy that pushes the way the car rolls, or errs."""
    twin.reset(seed=seed)
    rng = np.random.default_rng(seed)
    states, actions, rewards, terminated, truncated = [np.array(twin.unwrapped.state)], [], [], False, False
    while not (terminated or truncated):
        actions.append(2 * int(states[-1][1] >= 0) if rng.random() < skill else int(rng.integers(3)))
        _, reward, terminated, truncated, _ = twin.step(actions[-1])
        states.append(np.array(twin.unwrapped.state))
        rewards.append(reward)
    return Episode(np.array(states), np.array(actions), np.array(rewards), terminated, truncated)


@pytest.fixture(scope="module")
def episodes():
    twin = MountainCar().gymnasium_twin()
    return [play(twin, seed, skill=(0.0, 0.7, 1.0)[seed % 3]) for seed in range(1_000 if JIT else 12)]


def test_whole_episodes_are_gymnasiums(episodes):
    """Each transition of 1,000, to the last step or to the time limit."""
    env = MountainCar()
    ends = {(episode.terminated, episode.truncated) for episode in episodes}
    assert {(True, False), (False, True)} <= ends
    assert all(e.truncated == (len(e.actions) == env.horizon) for e in episodes)
    terminated = [np.arange(len(e.actions)) == len(e.actions) - (1 if e.terminated else 0) for e in episodes]
    expected = (
        as_columns(State, np.concatenate([e.states[1:] for e in episodes])),
        np.concatenate([e.rewards for e in episodes]),
        np.concatenate(terminated),
    )
    states = np.concatenate([e.states[:-1] for e in episodes])
    actions = np.concatenate([e.actions for e in episodes])
    assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)


def test_episodes_run_from_their_start_state_alone(episodes):
    """With Gymnasium's actions. On the hills a difference grows by at most e^√(3 gravity) a step."""
    env = MountainCar()
    rate = math.sqrt(3 * env.gravity)
    running, states = list(episodes), np.array([e.states[0] for e in episodes])
    for t in range(env.horizon):
        going = [len(e.actions) > t for e in running]
        running, states = [e for e, goes in zip(running, going, strict=True) if goes], states[going]
        actions = np.array([e.actions[t] for e in running])
        following, _, terminated = compiled_steps(env, as_columns(State, states), actions)
        states = np.stack(list(following.values()), axis=1)
        expected = np.array([e.states[t + 1] for e in running])
        assert np.abs(states - expected).max() <= 1e-15 * math.exp(rate * t)
        assert terminated.tolist() == [e.terminated and len(e.actions) == t + 1 for e in running]


@pytest.mark.parametrize("parameters", [{}, CHANGED], ids=["default", "changed"])
def test_spaces_are_gymnasiums(parameters):
    env = MountainCar(**parameters)
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space
    if not parameters:
        stock = gymnasium.make("MountainCar-v0", disable_env_checker=True)
        assert (env.observation_space, env.action_space) == (stock.observation_space, stock.action_space)


def test_defaults_and_horizon_are_gymnasiums():
    stock = gymnasium.make("MountainCar-v0", disable_env_checker=True).unwrapped
    assert MountainCar() == MountainCar(**{name: getattr(stock, name) for name in MountainCar._fields})
    assert MountainCar.horizon == gymnasium.spec(MountainCar.gymnasium_id).max_episode_steps


def test_start_states_are_distributed_as_gymnasiums():
    """Kolmogorov and Smirnov's test at p > 1e-3, against 4,000 of Gymnasium's and against the formula."""
    env = MountainCar()
    starts = np.array([env.reset(trajectory_rng(seed_key(33), i)) for i in range(4_000)])
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=34)
    theirs = np.array([(twin.reset(), twin.state)[1] for _ in range(4_000)])
    assert ks_2samp(starts[:, 0], theirs[:, 0]).pvalue > 1e-3
    assert kstest(starts[:, 0], "uniform", args=(-0.6, 0.2)).pvalue > 1e-3
    assert not starts[:, 1].any() and not theirs[:, 1].any()


def test_observation_is_the_state():
    assert MountainCar().observe(State(0.25, -0.03)) == (0.25, -0.03)


def test_a_state_put_into_the_twin_is_its_own():
    env, twin = MountainCar(), MountainCar().gymnasium_twin()
    twin.reset(seed=35)
    env.render_state(twin, State(0.25, -0.03))
    observation = twin.step(2)[0]
    state, _, _ = env.step(State(0.25, -0.03), 2, None)
    np.testing.assert_allclose(observation, state, rtol=2**-23)
