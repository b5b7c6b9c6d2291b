"""CartPole against the installed Gymnasium: every transition from an injected state, and whole episodes."""

import math

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.cartpole import CartPole, State
from parity import as_columns, assert_same_steps, compiled_steps, python_steps

import fastpg
from fastpg.random import Rng, uniform

JIT = not numba.config.DISABLE_JIT

CHANGED = {
    "gravity": 3.7,
    "masscart": 2.5,
    "masspole": 0.4,
    "length": 1.2,
    "force_mag": 7.5,
    "tau": 0.035,
    "theta_threshold_radians": 0.5,
    "x_threshold": 1.3,
}
CASES = {
    "default": ({}, 100_000),
    "changed parameters": (CHANGED, 100_000),
    "semi-implicit": ({"semi_implicit": True}, 100_000),
    "semi-implicit, changed parameters": ({**CHANGED, "semi_implicit": True}, 100_000),
    "Sutton and Barto's reward": ({"sutton_barto_reward": True}, 100_000),
    "all at once": ({**CHANGED, "semi_implicit": True, "sutton_barto_reward": True}, 100_000),
}


def step_gymnasium(env, states, actions):
    twin = env.gymnasium_twin().unwrapped
    following = np.empty_like(states)
    rewards = np.empty(len(actions))
    terminated = np.empty(len(actions), bool)
    for i, action in enumerate(actions):
        twin.state, twin.steps_beyond_terminated = states[i], None
        _, rewards[i], terminated[i], truncated, _ = twin.step(action)
        following[i] = twin.state
        assert not truncated
    return as_columns(State, following), rewards, terminated


def random_pairs(env, n, seed):
    """States inside, outside and within 1e-9 of the thresholds, at low and at high speed."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1.5, 1.5, (n, 4)) * [env.x_threshold, 2.0, env.theta_threshold_radians, 2.0]
    states[::5, 1::2] *= 5.0
    for place, column, threshold in ((1, 0, env.x_threshold), (3, 2, env.theta_threshold_radians)):
        near = states[place::8]
        near[:, 2 - column] *= 0.5  # the other threshold must not decide
        side = rng.choice([-1.0, 1.0], len(near))
        near[:, column] = side * threshold - env.tau * near[:, column + 1]
        near[:, column] += rng.uniform(-1e-9, 1e-9, len(near))
    return states, rng.integers(0, 2, n)


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random states with random actions: next state, reward and termination."""
    parameters, n = CASES[case]
    env = fastpg.make("CartPole-v1", **parameters)
    states, actions = random_pairs(env, n if JIT else 2_000, seed=20)
    expected = step_gymnasium(env, states, actions)
    assert 0.2 < expected[2].mean() < 0.8  # both outcomes are well represented
    assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)
    some = slice(0, 1_000)
    columns, rewards, terminated = expected
    assert_same_steps(
        python_steps(env, as_columns(State, states[some]), actions[some]),
        ({name: column[some] for name, column in columns.items()}, rewards[some], terminated[some]),
    )


@pytest.mark.parametrize("semi_implicit", [False, True])
def test_thresholds_themselves_are_inside(semi_implicit):
    """At rest on a threshold an Euler step leaves the position alone; one ulp further out it fails."""
    env = CartPole(semi_implicit=semi_implicit)
    x, theta = env.x_threshold, env.theta_threshold_radians
    states = np.zeros((8, 4))
    states[:, 0] = [x, -x, math.nextafter(x, 9), -math.nextafter(x, 9), 0, 0, 0, 0]
    states[:, 2] = [0, 0, 0, 0, theta, -theta, math.nextafter(theta, 9), -math.nextafter(theta, 9)]
    actions = np.zeros(8, np.int64)
    expected = step_gymnasium(env, states, actions)
    if not semi_implicit:
        assert expected[2].tolist() == [False, False, True, True] * 2
    assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)
    assert_same_steps(python_steps(env, as_columns(State, states), actions), expected)


def test_parameters_are_honoured_one_by_one():
    """Each changes the transition as it changes Gymnasium's, alone."""
    states, actions = random_pairs(CartPole(), 200, seed=21)
    unchanged = step_gymnasium(CartPole(), states, actions)
    for name, value in [*CHANGED.items(), ("semi_implicit", True), ("sutton_barto_reward", True)]:
        env = fastpg.make("CartPole-v1", **{name: value})
        expected = step_gymnasium(env, states, actions)
        with pytest.raises(AssertionError):
            assert_same_steps(expected, unchanged)
        assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)


def episode(env, seed, skill):
    """An episode of Gymnasium under a balancing policy that errs with probability 1 - skill."""
    twin = env.gymnasium_twin()
    twin.reset(seed=seed)
    rng = np.random.default_rng(seed)
    states, actions, rewards, terminated, truncated = [np.array(twin.unwrapped.state)], [], [], False, False
    while not (terminated or truncated):
        x, x_dot, theta, theta_dot = states[-1]
        balanced = int(0.1 * x + 0.3 * x_dot + 3.0 * theta + theta_dot > 0)
        actions.append(balanced if rng.random() < skill else int(rng.integers(2)))
        _, reward, terminated, truncated, _ = twin.step(actions[-1])
        states.append(np.array(twin.unwrapped.state))
        rewards.append(reward)
    return np.array(states, dtype=np.float64), np.array(actions), np.array(rewards), terminated, truncated


def test_whole_episodes_are_gymnasiums():
    """1,000 episodes: their start state, their actions, to their last step or to the time limit."""
    env = CartPole()
    endings = []
    for seed in range(1_000 if JIT else 12):
        states, actions, rewards, terminated, truncated = episode(env, seed, skill=(0.0, 0.7, 1.0)[seed % 3])
        endings.append((terminated, truncated))
        failed = np.zeros(len(actions), bool)
        failed[-1] = terminated
        assert truncated == (len(actions) == env.horizon)
        ours = compiled_steps(env, as_columns(State, states[:-1]), actions)
        assert_same_steps(ours, (as_columns(State, states[1:]), rewards, failed))

        # Free-running: a small difference grows like the pole falls, by e^(4.0 τ) a step (the linearised
        # pole's rate √(g / (l (4/3 - m/M))) = 3.97/s), so after 100 steps by 2,900.
        state = State(*states[0].tolist())
        for t, action in enumerate(actions[: 100 if seed % 5 == 0 else 0].tolist()):
            state, reward, ended = env.step(state, action, None)
            np.testing.assert_allclose(state, states[t + 1], rtol=0, atol=1e-14 * math.exp(0.08 * (t + 1)))
            assert (reward, ended) == (rewards[t], failed[t])
    assert (True, False) in endings and (False, True) in endings


def test_spaces_are_gymnasiums():
    env, twin = CartPole(), CartPole().gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space


def test_observation_space_contains_failing_observations():
    env = CartPole(**CHANGED)
    states, actions = random_pairs(env, 200, seed=22)
    states *= 0.6  # from inside, a step leads at most a little out
    following, _, terminated = compiled_steps(env, as_columns(State, states), actions)
    assert terminated.any()
    observations = np.stack(list(following.values()), axis=1).astype(np.float32)
    assert all(env.observation_space.contains(observation) for observation in observations)


@pytest.mark.parametrize("name", ["CartPole-v0", "CartPole-v1"])
def test_horizon_is_gymnasiums(name):
    env = fastpg.make(name)
    assert env.horizon == gymnasium.spec(name).max_episode_steps
    _, actions, _, terminated, truncated = episode(env, seed=3, skill=1.0)
    assert (len(actions), terminated, truncated) == (env.horizon, False, True)


def test_start_states_are_uniform_within_a_twentieth():
    """Draws 0 to 3 of the reset, each on [-0.05, 0.05): the limits, and the mean to 4 standard errors."""
    env = CartPole()
    starts = np.array([env.reset(np.random.default_rng(seed)) for seed in range(1_000)])
    assert np.abs(starts).max() <= 0.05
    assert np.all(np.abs(starts.mean(axis=0)) <= 4 * (0.1 / math.sqrt(12)) / math.sqrt(1_000))
    assert np.all(np.abs(starts).max(axis=0) > 0.049)
    rng = Rng(np.uint64(5), np.uint64(2**63 + 11))
    assert tuple(env.reset(rng)) == tuple(uniform(rng, j) * 0.1 - 0.05 for j in range(4))


def test_observation_is_the_state():
    state = State(1.0, 2.0, 3.0, 4.0)
    assert CartPole().observe(state) == (1.0, 2.0, 3.0, 4.0)
