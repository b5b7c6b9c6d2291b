"""Pendulum against the installed Gymnasium: transitions from injected states, and whole episodes."""

import math
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.pendulum import Pendulum, State, from_upright
from gymnasium.envs.classic_control.pendulum import angle_normalize
from parity import as_columns, as_tuples, assert_same_steps_and_rewards, compiled_steps, python_steps
from scipy.stats import ks_2samp, kstest

from fastpg.random import seed_key, trajectory_rng

JIT = not numba.config.DISABLE_JIT

CHANGED = {"g": 9.81, "m": 1.7, "l": 0.6, "dt": 0.03, "max_speed": 5.0, "max_torque": 1.25}
CASES = {
    "default": ({}, 100_000),
    "g": ({"g": 3.7}, 100_000),
    "changed parameters": (CHANGED, 100_000),
}


@numba.njit
def observe_all(env, theta, theta_dot):
    observations = np.empty((len(theta), 3))
    for i in range(len(theta)):
        x, y, speed = env.observe(State(theta[i], theta_dot[i]))
        observations[i, 0] = x
        observations[i, 1] = y
        observations[i, 2] = speed
    return observations


def step_gymnasium(env, states, actions):
    """Next states, rewards, terminated; and the observations. In float64, because the actions are."""
    twin = env.gymnasium_twin().unwrapped
    following, observations = np.empty_like(states), np.empty((len(states), 3), np.float32)
    rewards, terminated = np.empty(len(actions)), np.empty(len(actions), bool)
    for i in range(len(actions)):
        twin.state = states[i]
        observations[i], rewards[i], terminated[i], truncated, _ = twin.step(actions[i : i + 1])
        following[i] = twin.state
        assert not truncated
    return (as_columns(State, following), rewards, terminated), observations


def random_pairs(env, n, seed):
    """Angles of many turns, at and near whole and half turns; speeds and torques within and beyond limits."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-math.pi, math.pi, n)
    theta[::2] = rng.uniform(-100.0, 100.0, len(theta[::2]))
    turns = rng.integers(-12, 13, len(theta[1::8]))
    theta[1::8] = turns * math.pi + rng.uniform(-1e-9, 1e-9, len(turns)) * rng.integers(0, 2, len(turns))
    theta_dot = rng.uniform(-1.2, 1.2, n) * env.max_speed
    theta_dot[3::8] = rng.choice([-1.0, 0.0, 1.0], len(theta_dot[3::8])) * env.max_speed
    actions = rng.uniform(-1.5, 1.5, n) * env.max_torque
    actions[5::8] = rng.choice([-1.0, 0.0, 1.0], len(actions[5::8])) * env.max_torque
    return np.stack([theta, theta_dot], axis=1), actions


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random states with random actions: next state, observation, reward, and that nothing ends."""
    parameters, n = CASES[case]
    env = Pendulum(**parameters)
    states, actions = random_pairs(env, n if JIT else 2_000, seed=50)
    expected, observations = step_gymnasium(env, states, actions)
    assert not expected[2].any()
    assert 0.05 < (np.abs(expected[0]["theta_dot"]) == env.max_speed).mean() < 0.5
    following, rewards, terminated = compiled_steps(env, as_columns(State, states), as_tuples(actions))
    assert_same_steps_and_rewards((following, rewards, terminated), expected)

    theta = following["theta"]
    observed = observe_all(env, **following)
    exact = np.stack([np.cos(theta), np.sin(theta), following["theta_dot"]], axis=1)
    np.testing.assert_allclose(observed, exact, rtol=0, atol=1e-15)
    np.testing.assert_allclose(observed.astype(np.float32), observations, rtol=2**-23, atol=1e-12)


@pytest.mark.skipif(not JIT, reason="compares with compiled code")
def test_ordinary_python_steps_as_compiled_code_does():
    env = Pendulum(g=9.81)
    states, actions = random_pairs(env, 500, seed=51)
    pairs = as_columns(State, states), as_tuples(actions)
    assert_same_steps_and_rewards(python_steps(env, *pairs), compiled_steps(env, *pairs))


def test_angles_lose_their_whole_turns_exactly():
    """Up to 2²¹ as the remainder of the division has it; the ends are the same angle."""
    rng = np.random.default_rng(52)
    angles = np.concatenate([rng.uniform(-s, s, 300) for s in (4.0, 100.0, 1e4, 2.0**21)])
    ours = np.array([from_upright(angle) for angle in angles.tolist()])
    np.testing.assert_allclose(ours, angle_normalize(angles), rtol=0, atol=1e-15)
    assert abs(from_upright(math.pi)) == abs(from_upright(-math.pi)) == math.pi
    assert from_upright(0.0) == 0.0


def test_the_torque_is_clipped_before_it_is_paid_for():
    env = Pendulum()
    assert env.step(State(0.3, -0.4), (9.0,), None) == env.step(State(0.3, -0.4), (2.0,), None)
    _, reward, _ = env.step(State(0.3, -0.4), (-9.0,), None)
    assert reward == pytest.approx(-(0.3**2 + 0.1 * 0.4**2 + 0.001 * 2.0**2), rel=1e-14)


def test_parameters_are_honoured_one_by_one():
    """Each changes the transition as it changes Gymnasium's, alone."""
    states, actions = random_pairs(Pendulum(), 400, seed=53)
    pairs = as_columns(State, states), as_tuples(actions)
    unchanged = compiled_steps(Pendulum(), *pairs)
    for name, value in CHANGED.items():
        env = Pendulum(**{name: value})
        actual = compiled_steps(env, *pairs)
        with pytest.raises(AssertionError):
            assert_same_steps_and_rewards(actual, unchanged)
        assert_same_steps_and_rewards(actual, step_gymnasium(env, states, actions)[0])


class Episode(NamedTuple):
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool


def play(twin, seed, skill, dtype):
    """An episode of Gymnasium under a policy that swings up and catches, or errs."""
    twin.reset(seed=seed)
    rng = np.random.default_rng(seed)
    states, actions, rewards, terminated, truncated = [np.array(twin.unwrapped.state)], [], [], False, False
    while not (terminated or truncated):
        theta, theta_dot = states[-1]
        angle = math.remainder(theta, 2 * math.pi)
        torque = -20 * angle - 4 * theta_dot if abs(angle) < 0.3 else 2.0 * np.sign(theta_dot)
        torque = torque if rng.random() < skill else rng.uniform(-2.5, 2.5)
        action = np.array([torque], dtype=dtype)
        _, reward, terminated, truncated, _ = twin.step(action)
        actions.append(float(action[0]))
        states.append(np.array(twin.unwrapped.state))
        rewards.append(reward)
    return Episode(np.array(states), np.array(actions), np.array(rewards), terminated, truncated)


def play_many(n, dtype):
    twin = Pendulum().gymnasium_twin()
    return [play(twin, seed, (0.0, 0.8, 1.0)[seed % 3], dtype) for seed in range(n)]


def all_steps(episodes):
    """Their states and actions; and the next states, rewards and ends, of which there are none."""
    rewards = np.concatenate([e.rewards for e in episodes])
    following = as_columns(State, np.concatenate([e.states[1:] for e in episodes]))
    states = np.concatenate([e.states[:-1] for e in episodes])
    actions = as_tuples(np.concatenate([e.actions for e in episodes]))
    return as_columns(State, states), actions, (following, rewards, np.zeros(len(rewards), bool))


def test_whole_episodes_are_gymnasiums():
    """Each transition of 1,000, to the time limit; and the first 40 steps from the start state alone.

    Upright, a difference grows by e^(√(3 g / 2 l) dt) a step: the linearised pendulum.
    """
    env = Pendulum()
    episodes = play_many(1_000 if JIT else 6, np.float64)
    assert all(e.truncated and not e.terminated and len(e.actions) == env.horizon for e in episodes)
    states, actions, expected = all_steps(episodes)
    assert np.abs(states["theta"]).max() > 3 * math.pi  # some go round
    assert_same_steps_and_rewards(compiled_steps(env, states, actions), expected)

    rate = math.sqrt(3 * env.g / (2 * env.l)) * env.dt
    states = np.array([e.states[0] for e in episodes])
    for t in range(40):
        following, _, _ = compiled_steps(
            env, as_columns(State, states), as_tuples([e.actions[t] for e in episodes])
        )
        states = np.stack(list(following.values()), axis=1)
        error = np.abs(states - [e.states[t + 1] for e in episodes]).max()
        assert error <= 1e-14 * math.exp(rate * (t + 1)), t


def test_float32_actions_differ_by_their_rounding():
    """Gymnasium multiplies a float32 torque in float32: 3 torque and torque² / 1000 to 2⁻²³ of their size."""
    env = Pendulum()
    states, actions, expected = all_steps(play_many(50 if JIT else 3, np.float32))
    following, rewards, terminated = compiled_steps(env, states, actions)
    for name, column in following.items():
        np.testing.assert_allclose(
            column, expected[0][name], rtol=0, atol=6.0 * 2**-23 * env.dt, err_msg=name
        )
    np.testing.assert_allclose(rewards, expected[1], rtol=0, atol=0.004 * 2**-22)
    np.testing.assert_array_equal(terminated, expected[2])


@pytest.mark.parametrize("parameters", [{}, CHANGED], ids=["default", "changed"])
def test_spaces_are_gymnasiums(parameters):
    env = Pendulum(**parameters)
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space
    if not parameters:
        stock = gymnasium.make("Pendulum-v1", disable_env_checker=True)
        assert (env.observation_space, env.action_space) == (stock.observation_space, stock.action_space)


def test_defaults_and_horizon_are_gymnasiums():
    stock = gymnasium.make("Pendulum-v1", disable_env_checker=True).unwrapped
    assert Pendulum() == Pendulum(**{name: getattr(stock, name) for name in Pendulum._fields})
    assert Pendulum.horizon == gymnasium.spec(Pendulum.gymnasium_id).max_episode_steps


def test_start_states_are_distributed_as_gymnasiums():
    """Kolmogorov and Smirnov's test at p > 1e-3, against 4,000 of Gymnasium's and against the formula."""
    env = Pendulum()
    starts = np.array([env.reset(trajectory_rng(seed_key(54), i)) for i in range(4_000)])
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=55)
    theirs = np.array([(twin.reset(), twin.state)[1] for _ in range(4_000)])
    for column, size in ((0, math.pi), (1, 1.0)):
        assert ks_2samp(starts[:, column], theirs[:, column]).pvalue > 1e-3
        assert kstest(starts[:, column], "uniform", args=(-size, 2 * size)).pvalue > 1e-3
    assert abs(np.corrcoef(starts.T)[0, 1]) < 4 / math.sqrt(4_000)


def test_a_state_put_into_the_twin_is_its_own():
    env, twin = Pendulum(), Pendulum().gymnasium_twin()
    twin.reset(seed=56)
    env.render_state(twin, State(2.5, -3.0))
    assert twin.unwrapped.last_u is None
    observation = twin.step(np.array([0.5]))[0]
    state, _, _ = env.step(State(2.5, -3.0), (0.5,), None)
    np.testing.assert_allclose(observation, env.observe(state), rtol=2**-23)
