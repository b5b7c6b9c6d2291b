"""MountainCarContinuous against the installed Gymnasium, which keeps its state in float32."""

import contextlib
import math
from types import SimpleNamespace
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.mountain_car import MountainCar
from fastpg.envs.mountain_car_continuous import MountainCarContinuous, State
from gymnasium.envs.classic_control import continuous_mountain_car
from parity import as_columns, as_tuples, assert_same_steps_and_rewards, compiled_steps, python_steps
from scipy.stats import ks_2samp, kstest

from fastpg.random import seed_key, trajectory_rng

JIT = not numba.config.DISABLE_JIT

CHANGED = {
    "min_action": -0.5,
    "max_action": 0.8,
    "min_position": -1.0,
    "max_position": 0.7,
    "max_speed": 0.05,
    "goal_position": 0.4,
    "goal_velocity": 0.02,
    "power": 0.002,
}
CASES = {
    "default": ({}, 100_000),
    "goal velocity": ({"goal_velocity": 0.03}, 100_000),
    "changed parameters": (CHANGED, 100_000),
}


@contextlib.contextmanager
def float64():
    """Gymnasium's own step, but for `np.array(..., dtype=np.float32)`, which keeps all the digits here."""
    numpy = continuous_mountain_car.np
    continuous_mountain_car.np = SimpleNamespace(array=lambda x, dtype=None: np.array(x), float32=np.float32)
    try:
        yield
    finally:
        continuous_mountain_car.np = numpy


def step_gymnasium(twin, states, actions):
    """Next states, rewards, terminated."""
    following, rewards = np.empty_like(states), np.empty(len(actions))
    terminated = np.empty(len(actions), bool)
    for i in range(len(actions)):
        twin.state = states[i]
        following[i], rewards[i], terminated[i], truncated, _ = twin.step(actions[i : i + 1])
        assert not truncated
    return as_columns(State, following), rewards, terminated


def random_pairs(env, n, seed):
    """Anywhere; within 1e-9 of the goal's position, of its velocity, of the wall; and at goal and wall."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(1.5 * env.min_action, 1.5 * env.max_action, n)
    actions[::10], actions[5::10] = env.max_action, env.min_action
    position = rng.uniform(env.min_position - 0.05, env.max_position + 0.05, n)
    velocity = rng.uniform(-1.1, 1.1, n) * env.max_speed
    noise = rng.uniform(-1e-9, 1e-9, n)

    arriving = slice(1, None, 8)  # at full speed
    position[arriving] = env.goal_position - env.max_speed + noise[arriving]
    velocity[arriving] = 1.2 * env.max_speed
    position[1::16] = env.goal_position - env.max_speed
    slow = slice(3, None, 8)  # beyond the goal, at its velocity
    position[slow] = rng.uniform(env.goal_position, env.max_position, len(position[slow]))
    force = np.clip(actions, env.min_action, env.max_action) * env.power
    velocity[slow] = (env.goal_velocity - force + env.gravity * np.cos(3 * position) + noise)[slow]
    backing = slice(5, None, 8)  # into the wall at full speed
    position[backing] = env.min_position + env.max_speed + noise[backing]
    velocity[backing] = -1.2 * env.max_speed
    position[5::16] = env.min_position + env.max_speed
    return np.stack([position, velocity], axis=1), actions


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random states with random actions: to 1e-12 of what Gymnasium computes before it rounds."""
    parameters, n = CASES[case]
    env = MountainCarContinuous(**parameters)
    states, actions = random_pairs(env, n if JIT else 3_000, seed=40)
    twin = env.gymnasium_twin().unwrapped
    with float64():
        expected = step_gymnasium(twin, states, actions)
    assert 0.1 < expected[2].mean() < 0.9
    assert 0.02 < (expected[0]["position"] == env.min_position).mean() < 0.5
    actual = compiled_steps(env, as_columns(State, states), as_tuples(actions))
    assert_same_steps_and_rewards(actual, expected)

    rounded, rewards, terminated = step_gymnasium(twin, states, actions)
    np.testing.assert_array_equal(rewards, expected[1])
    np.testing.assert_array_equal(terminated, expected[2])
    for name, column in rounded.items():
        np.testing.assert_array_equal(column, column.astype(np.float32))
        np.testing.assert_allclose(actual[0][name].astype(np.float32), column, rtol=2**-23, atol=1e-12)


@pytest.mark.skipif(not JIT, reason="compares with compiled code")
def test_ordinary_python_steps_as_compiled_code_does():
    env = MountainCarContinuous(goal_velocity=0.01)
    states, actions = random_pairs(env, 500, seed=41)
    pairs = as_columns(State, states), as_tuples(actions)
    assert_same_steps_and_rewards(python_steps(env, *pairs), compiled_steps(env, *pairs))


@pytest.mark.parametrize("action, reward", [(0.5, -0.025), (1.0, -0.1), (-3.0, -0.9), (20.0, -40.0)])
def test_the_force_is_clipped_and_paid_for_as_it_was_asked(action, reward):
    """0.1 force²; and 100 at the goal."""
    env = MountainCarContinuous()
    moved, paid, terminated = env.step(State(-0.5, 0.0), (action,), None)
    assert moved == env.step(State(-0.5, 0.0), (min(max(action, -1.0), 1.0),), None)[0]
    assert paid == pytest.approx(reward, rel=1e-15) and not terminated
    _, paid, terminated = env.step(State(0.44, 0.05), (action,), None)
    assert paid == pytest.approx(100.0 + reward, rel=1e-15) and terminated


def test_parameters_are_honoured_one_by_one():
    """Each changes the transition as it changes Gymnasium's, alone."""
    states, actions = random_pairs(MountainCarContinuous(), 400, seed=42)
    pairs = as_columns(State, states), as_tuples(actions)
    unchanged = compiled_steps(MountainCarContinuous(), *pairs)
    for name, value in CHANGED.items():
        env = MountainCarContinuous(**{name: value})
        actual = compiled_steps(env, *pairs)
        with pytest.raises(AssertionError):
            assert_same_steps_and_rewards(actual, unchanged)
        twin = env.gymnasium_twin().unwrapped
        with float64():
            assert_same_steps_and_rewards(actual, step_gymnasium(twin, states, actions))


def test_gravity_is_that_of_the_discrete_car():
    """Gymnasium's continuous car has no parameter for it; full force is action 2 of the discrete one."""
    env = MountainCarContinuous(gravity=0.004)
    discrete = MountainCar(gravity=0.004, force=env.power, goal_position=env.goal_position)
    states, _ = random_pairs(env, 400, seed=43)
    twin = discrete.gymnasium_twin().unwrapped
    following, terminated = np.empty_like(states), np.empty(len(states), bool)
    for i, state in enumerate(states):
        twin.state = state
        _, _, terminated[i], _, _ = twin.step(2)
        following[i] = twin.state
    rewards = np.where(terminated, 99.9, -0.1)
    actual = compiled_steps(env, as_columns(State, states), [(1.0,)] * len(states))
    assert_same_steps_and_rewards(actual, (as_columns(State, following), rewards, terminated))
    with pytest.raises(ValueError, match="gravity=0.004: Gymnasium"):
        env.gymnasium_twin()


class Episode(NamedTuple):
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool


def play(twin, seed, skill, dtype):
    """An episode of Gymnasium under a policy that pushes the way the car rolls, or errs."""
    twin.reset(seed=seed)
    rng = np.random.default_rng(seed)
    states, actions, rewards, terminated, truncated = [np.array(twin.unwrapped.state)], [], [], False, False
    while not (terminated or truncated):
        force = rng.uniform(-1.2, 1.2)
        force = math.copysign(force, states[-1][1]) if rng.random() < skill else force
        action = np.array([force], dtype=dtype)
        _, reward, terminated, truncated, _ = twin.step(action)
        actions.append(float(action[0]))
        states.append(np.array(twin.unwrapped.state))
        rewards.append(reward)
    return Episode(np.array(states), np.array(actions), np.array(rewards), terminated, truncated)


def all_steps(episodes):
    """Their states and actions; and the next states, rewards and ends."""
    ends = [np.arange(len(e.actions)) == len(e.actions) - (1 if e.terminated else 0) for e in episodes]
    expected = (
        as_columns(State, np.concatenate([e.states[1:] for e in episodes])),
        np.concatenate([e.rewards for e in episodes]),
        np.concatenate(ends),
    )
    states = np.concatenate([e.states[:-1] for e in episodes])
    return as_columns(State, states), as_tuples(np.concatenate([e.actions for e in episodes])), expected


def test_whole_episodes_are_gymnasiums_to_float32():
    """Each transition of 1,000, to the last step or to the time limit.

    Gymnasium rounds a few times to float32 within a step: half a unit is 4e-9 at 0.07 and 6e-8 at 1.2.
    """
    env = MountainCarContinuous()
    twin = env.gymnasium_twin()
    episodes = [
        play(twin, seed, (0.0, 0.6, 0.8, 0.9, 1.0)[seed % 5], np.float32)
        for seed in range(1_000 if JIT else 6)
    ]
    assert {(e.terminated, e.truncated) for e in episodes} >= {(True, False), (False, True)}
    assert all(e.truncated == (len(e.actions) == env.horizon) for e in episodes)
    states, actions, expected = all_steps(episodes)
    following, rewards, terminated = compiled_steps(env, states, actions)
    assert np.abs(following["velocity"] - expected[0]["velocity"]).max() < 4 * 4e-9
    assert np.abs(following["position"] - expected[0]["position"]).max() < 4 * 6e-8
    np.testing.assert_allclose(rewards, expected[1], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(terminated, expected[2])


def test_episodes_in_float64_run_from_their_start_state_alone():
    """With Gymnasium's actions. On the hills a difference grows by at most e^√(3 gravity) a step."""
    env = MountainCarContinuous()
    twin = env.gymnasium_twin()
    with float64():
        episodes = [
            play(twin, seed, (0.5, 0.8, 1.0)[seed % 3], np.float64) for seed in range(200 if JIT else 6)
        ]
    states, actions, expected = all_steps(episodes)
    assert_same_steps_and_rewards(compiled_steps(env, states, actions), expected)

    rate = math.sqrt(3 * env.gravity)
    running, states = episodes, np.array([e.states[0] for e in episodes])
    for t in range(200):
        going = [len(e.actions) > t for e in running]
        running, states = [e for e, goes in zip(running, going, strict=True) if goes], states[going]
        following, _, terminated = compiled_steps(
            env, as_columns(State, states), as_tuples([e.actions[t] for e in running])
        )
        states = np.stack(list(following.values()), axis=1)
        assert np.abs(states - [e.states[t + 1] for e in running]).max() <= 1e-15 * math.exp(rate * t)
        assert terminated.tolist() == [e.terminated and len(e.actions) == t + 1 for e in running]
    assert len(running) < len(episodes) / 2  # most ran to their ends


@pytest.mark.parametrize("parameters", [{}, CHANGED], ids=["default", "changed"])
def test_spaces_are_gymnasiums(parameters):
    env = MountainCarContinuous(**parameters)
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space
    if not parameters:
        stock = gymnasium.make("MountainCarContinuous-v0", disable_env_checker=True)
        assert (env.observation_space, env.action_space) == (stock.observation_space, stock.action_space)


def test_defaults_and_horizon_are_gymnasiums():
    env = MountainCarContinuous()
    stock = gymnasium.make("MountainCarContinuous-v0", disable_env_checker=True).unwrapped
    assert env == env._replace(**{name: getattr(stock, name) for name in env._fields if name != "gravity"})
    assert env.horizon == gymnasium.spec(env.gymnasium_id).max_episode_steps


def test_start_states_are_distributed_as_gymnasiums():
    """Kolmogorov and Smirnov's test at p > 1e-3, against 4,000 of Gymnasium's and against the formula."""
    env = MountainCarContinuous()
    starts = np.array([env.reset(trajectory_rng(seed_key(43), i)) for i in range(4_000)])
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=44)
    theirs = np.array([(twin.reset(), twin.state)[1] for _ in range(4_000)])
    assert ks_2samp(starts[:, 0], theirs[:, 0]).pvalue > 1e-3
    assert kstest(starts[:, 0], "uniform", args=(-0.6, 0.2)).pvalue > 1e-3
    assert not starts[:, 1].any() and not theirs[:, 1].any()


def test_observation_is_the_state():
    assert MountainCarContinuous().observe(State(0.25, -0.03)) == (0.25, -0.03)


def test_a_state_put_into_the_twin_is_its_own():
    env, twin = MountainCarContinuous(), MountainCarContinuous().gymnasium_twin()
    twin.reset(seed=45)
    env.render_state(twin, State(0.25, -0.03))
    observation = twin.step(np.array([0.5]))[0]
    state, _, _ = env.step(State(0.25, -0.03), (0.5,), None)
    np.testing.assert_allclose(observation, state, rtol=2**-23)
