"""Acrobot against the installed Gymnasium: transitions from injected states, and whole episodes."""

import math
from typing import NamedTuple

import gymnasium
import numba
import numpy as np
import pytest
from fastpg.envs.acrobot import Acrobot, State, wrap
from gymnasium.envs.classic_control import acrobot
from parity import as_columns, assert_same_steps, compiled_steps, python_steps
from scipy.stats import ks_2samp, kstest

from fastpg.random import next_step, seed_key, trajectory_rng, uniform

JIT = not numba.config.DISABLE_JIT

CHANGED = {
    "link_length_1": 1.3,
    "link_mass_1": 0.8,
    "link_mass_2": 1.4,
    "link_com_pos_1": 0.6,
    "link_com_pos_2": 0.45,
    "link_moi": 1.2,
    "max_vel_1": 4.0,
    "max_vel_2": 7.0,
    "dt": 0.15,
    "torque": 1.7,
}
CASES = {
    "default": ({}, 100_000),
    "nips": ({"nips_dynamics": True}, 100_000),
    "noise": ({"torque_noise_max": 0.8}, 100_000),
    "changed parameters": (CHANGED, 100_000),
    "all at once": ({**CHANGED, "nips_dynamics": True, "torque_noise_max": 0.8}, 100_000),
}


@numba.njit
def observe_all(env, theta1, theta2, theta1_dot, theta2_dot):
    observations = np.empty((len(theta1), 6))
    for i in range(len(theta1)):
        state = State(theta1[i], theta2[i], theta1_dot[i], theta2_dot[i])
        for j, value in enumerate(env.observe(state)):
            observations[i, j] = value
    return observations


class Draws(NamedTuple):
    """Stands in for Gymnasium's generator, with draw 0 of the first step of trajectory i of seed 0."""

    i: int

    def uniform(self, low, high):
        return low + (high - low) * uniform(next_step(trajectory_rng(seed_key(0), self.i)), 0)


def step_gymnasium(env, states, actions):
    """Next states, rewards, terminated; and the observations."""
    twin = env.gymnasium_twin().unwrapped
    following, observations = np.empty_like(states), np.empty((len(states), 6), np.float32)
    rewards, terminated = np.empty(len(actions)), np.empty(len(actions), bool)
    for i, action in enumerate(actions):
        twin.state, twin.np_random = states[i], Draws(i)
        observations[i], rewards[i], terminated[i], truncated, _ = twin.step(action)
        following[i] = twin.state
        assert not truncated
    return (as_columns(State, following), rewards, terminated), observations


def random_pairs(env, n, seed, speed=0.7):
    """All angles, some of them 0 or ±π exactly; velocities up to `speed` times the default limits, or 0."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1.0, 1.0, (n, 4)) * [math.pi, math.pi, speed * 4 * math.pi, speed * 9 * math.pi]
    states[::8, :2] = rng.choice([-math.pi, 0.0, math.pi], (len(states[::8]), 2))
    states[3::8, 2:] *= 0.1
    states[::16, 2:] = 0.0
    return states, rng.integers(0, 3, n)


@pytest.mark.parametrize("case", CASES)
def test_transitions_are_gymnasiums(case):
    """From random states with random actions: next state, observation, reward and termination."""
    parameters, n = CASES[case]
    env = Acrobot(**parameters)
    states, actions = random_pairs(env, n if JIT else 300, seed=60)
    expected, observations = step_gymnasium(env, states, actions)
    assert 0.1 < expected[2].mean() < 0.9
    assert 0.0 < (np.abs(expected[0]["theta1_dot"]) == env.max_vel_1).mean() < 0.7
    assert 0.0 < (np.abs(expected[0]["theta2_dot"]) == env.max_vel_2).mean() < 0.7
    following, rewards, terminated = compiled_steps(env, as_columns(State, states), actions)
    assert_same_steps((following, rewards, terminated), expected)

    theta1, theta2, theta1_dot, theta2_dot = following.values()
    observed = observe_all(env, **following)
    exact = [np.cos(theta1), np.sin(theta1), np.cos(theta2), np.sin(theta2), theta1_dot, theta2_dot]
    np.testing.assert_allclose(observed, np.transpose(exact), rtol=0, atol=1e-15)
    np.testing.assert_allclose(observed.astype(np.float32), observations, rtol=2**-23, atol=1e-12)


def test_transitions_at_full_speed():
    """Up to both limits, where one step may multiply an error by 10⁵.

    To 1e-12, or to ten times what an ulp in each number of the state changes in Gymnasium's next state.
    """
    env = Acrobot()
    states, actions = random_pairs(env, 20_000 if JIT else 300, seed=61, speed=1.0)
    states[1::2, 2:] = np.sign(states[1::2, 2:]) * [env.max_vel_1, env.max_vel_2]
    expected, _ = step_gymnasium(env, states, actions)
    nearby, _ = step_gymnasium(env, states * (1 + 2**-52), actions)
    following, rewards, terminated = compiled_steps(env, as_columns(State, states), actions)
    for name, column in expected[0].items():
        bound = 1e-12 * np.maximum(1.0, np.abs(column)) + 10 * np.abs(nearby[0][name] - column)
        np.testing.assert_array_less(np.abs(following[name] - column), bound, err_msg=name)
    np.testing.assert_array_equal(rewards, expected[1])
    np.testing.assert_array_equal(terminated, expected[2])


@pytest.mark.skipif(not JIT, reason="compares with compiled code")
def test_ordinary_python_steps_as_compiled_code_does():
    env = Acrobot(torque_noise_max=0.3)
    states, actions = random_pairs(env, 500, seed=62)
    columns = as_columns(State, states)
    assert_same_steps(python_steps(env, columns, actions), compiled_steps(env, columns, actions))


def test_the_height_of_the_tip_ends_the_episode():
    """Within 1e-9 of a link's length above the joint, after a step so short that nothing moves."""
    env = Acrobot(dt=1e-6)
    rng = np.random.default_rng(63)
    n = 2_000 if JIT else 200
    theta1 = rng.uniform(math.pi / 2, math.pi, n) * rng.choice([-1.0, 1.0], n)
    above = rng.uniform(-1e-9, 1e-9, n)
    above += np.sign(above) * 1e-10  # the links fall by some 1e-11
    theta2 = np.arccos(-1.0 - np.cos(theta1) - above) - theta1
    states = np.stack([theta1, theta2, np.zeros(n), np.zeros(n)], axis=1)
    actions = rng.integers(0, 3, n)
    expected, _ = step_gymnasium(env, states, actions)
    np.testing.assert_array_equal(expected[2], above > 0)
    assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)


def test_angles_lose_their_whole_turns_as_gymnasiums_do():
    """Up to one turn bit for bit, ends and the numbers next to them included; beyond, to rounding."""
    rng = np.random.default_rng(64)
    odd = math.pi * np.array([1.0, 3.0])
    ends = np.concatenate([odd, np.nextafter(odd, 0.0), np.nextafter(odd, 99.0), [0.0]])
    angles = np.concatenate([ends, -ends, rng.uniform(-3 * math.pi, 3 * math.pi, 500)])
    for angle in angles.tolist():
        assert wrap(angle) == acrobot.wrap(angle, -math.pi, math.pi), angle
    for angle in rng.uniform(-2_000.0, 2_000.0, 500).tolist():
        assert abs(wrap(angle)) <= math.pi
        assert wrap(angle) == pytest.approx(acrobot.wrap(angle, -math.pi, math.pi), rel=0, abs=1e-10)


def test_parameters_are_honoured_one_by_one():
    """Each changes the transition as it changes Gymnasium's, alone."""
    states, actions = random_pairs(Acrobot(), 200 if JIT else 40, seed=65)
    unchanged = compiled_steps(Acrobot(), as_columns(State, states), actions)
    for name, value in [*CHANGED.items(), ("torque_noise_max", 0.5), ("nips_dynamics", True)]:
        env = Acrobot(**{name: value})
        actual = compiled_steps(env, as_columns(State, states), actions)
        with pytest.raises(AssertionError):
            assert_same_steps(actual, unchanged)
        assert_same_steps(actual, step_gymnasium(env, states, actions)[0])


def test_gravity_scales_with_time():
    """Gymnasium has no parameter for it. Four times gravity and torque is the same motion, twice as fast."""
    env = Acrobot(gravity=4 * 9.8, torque=4.0, dt=0.1, max_vel_1=8 * math.pi, max_vel_2=18 * math.pi)
    states, actions = random_pairs(env, 200, seed=66)
    expected, _ = step_gymnasium(Acrobot(), states, actions)
    following, rewards, terminated = compiled_steps(env, as_columns(State, states * [1, 1, 2, 2]), actions)
    halved = following["theta1_dot"] / 2, following["theta2_dot"] / 2
    following["theta1_dot"], following["theta2_dot"] = halved
    assert_same_steps((following, rewards, terminated), expected)
    with pytest.raises(ValueError, match="gravity=39.2: Gymnasium"):
        env.gymnasium_twin()


def test_noise_is_distributed_as_gymnasiums():
    """The velocity that a noisy torque gives: Kolmogorov and Smirnov's test at p > 1e-3, 4,000 steps each.

    From rest it grows with the torque, so that its distribution function has that of the noise.
    """
    env = Acrobot(torque_noise_max=0.8)
    n = 4_000 if JIT else 500
    state = np.array([0.3, -0.2, 0.0, 0.0])
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=67)
    theirs = np.empty(n)
    for i in range(n):
        twin.state = state
        twin.step(2)
        theirs[i] = twin.state[3]
    states, actions = np.tile(state, (n, 1)), np.full(n, 2)
    ours = compiled_steps(env, as_columns(State, states), actions, seed=68)[0]["theta2_dot"]
    assert ks_2samp(ours, theirs).pvalue > 1e-3
    assert np.ptp(ours) > 0.1

    unnoisy = compiled_steps(Acrobot(), as_columns(State, states[:9]), actions[:9])
    assert np.ptp(unnoisy[0]["theta2_dot"]) == 0.0
    negative = Acrobot(torque_noise_max=-0.5)  # as in Gymnasium, no noise
    assert_same_steps(compiled_steps(negative, as_columns(State, states[:9]), actions[:9]), unnoisy)


class Episode(NamedTuple):
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool


def play(twin, seed, skill):
    """An episode of Gymnasium under a policy that pumps energy into the joint, or errs."""
    twin.reset(seed=seed)
    rng = np.random.default_rng(seed)
    states, actions, rewards, terminated, truncated = [np.array(twin.unwrapped.state)], [], [], False, False
    while not (terminated or truncated):
        actions.append(2 * int(states[-1][3] > 0) if rng.random() < skill else int(rng.integers(3)))
        _, reward, terminated, truncated, _ = twin.step(actions[-1])
        states.append(np.array(twin.unwrapped.state))
        rewards.append(reward)
    return Episode(np.array(states, dtype=float), np.array(actions), np.array(rewards), terminated, truncated)


def test_whole_episodes_are_gymnasiums():
    """Each transition of 1,000, to the last step or to the time limit; and 25 from the start state alone.

    These differ by less than 1e-13: swinging low, the links are not chaotic yet.
    """
    env = Acrobot()
    twin = env.gymnasium_twin()
    episodes = [
        play(twin, seed, skill=(0.0 if seed % 20 == 0 else 0.9)) for seed in range(1_000 if JIT else 4)
    ]
    assert {(e.terminated, e.truncated) for e in episodes} >= {(True, False), (False, True)}
    assert all(e.truncated == (len(e.actions) == env.horizon) for e in episodes)
    ends = [np.arange(len(e.actions)) == len(e.actions) - (1 if e.terminated else 0) for e in episodes]
    expected = (
        as_columns(State, np.concatenate([e.states[1:] for e in episodes])),
        np.concatenate([e.rewards for e in episodes]),
        np.concatenate(ends),
    )
    states = np.concatenate([e.states[:-1] for e in episodes])
    actions = np.concatenate([e.actions for e in episodes])
    assert_same_steps(compiled_steps(env, as_columns(State, states), actions), expected)

    states = np.array([e.states[0] for e in episodes])
    for t in range(25):
        following, _, _ = compiled_steps(
            env, as_columns(State, states), np.array([e.actions[t] for e in episodes])
        )
        states = np.stack(list(following.values()), axis=1)
        error = np.abs(states - [e.states[t + 1] for e in episodes]).max()
        assert error < 1e-13, t


@pytest.mark.parametrize("parameters", [{}, CHANGED], ids=["default", "changed"])
def test_spaces_are_gymnasiums(parameters):
    env = Acrobot(**parameters)
    twin = env.gymnasium_twin()
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space
    if not parameters:
        stock = gymnasium.make("Acrobot-v1", disable_env_checker=True)
        assert (env.observation_space, env.action_space) == (stock.observation_space, stock.action_space)


def test_defaults_and_horizon_are_gymnasiums():
    env = Acrobot()
    stock = gymnasium.make("Acrobot-v1", disable_env_checker=True).unwrapped
    theirs = {name: getattr(stock, name.upper()) for name in env._fields[:8]}
    theirs |= {"dt": stock.dt, "torque_noise_max": stock.torque_noise_max}
    assert env == env._replace(**theirs)
    assert stock.AVAIL_TORQUE == [-env.torque, 0.0, env.torque]
    assert stock.book_or_nips == "book" and not env.nips_dynamics
    assert env.horizon == gymnasium.spec(env.gymnasium_id).max_episode_steps


def test_make_takes_the_names_of_the_equations():
    assert Acrobot.make() == Acrobot.make(book_or_nips="book") == Acrobot()
    nips = Acrobot.make(book_or_nips="nips", dt=0.1)
    assert nips == Acrobot(nips_dynamics=True, dt=0.1)
    assert nips.gymnasium_twin().unwrapped.book_or_nips == "nips"
    with pytest.raises(ValueError, match="book_or_nips='NIPS': must be 'book' or 'nips'"):
        Acrobot.make(book_or_nips="NIPS")
    with pytest.raises(TypeError, match="give one of them"):
        Acrobot.make(book_or_nips="book", nips_dynamics=True)
    with pytest.raises(TypeError, match="link_mas_1=2.0: Acrobot has no such parameter"):
        Acrobot.make(link_mas_1=2.0)


def test_start_states_are_distributed_as_gymnasiums():
    """Kolmogorov and Smirnov's test at p > 1e-3, against 4,000 of Gymnasium's and against the formula."""
    env = Acrobot()
    starts = np.array([env.reset(trajectory_rng(seed_key(69), i)) for i in range(4_000)])
    twin = env.gymnasium_twin().unwrapped
    twin.reset(seed=70)
    theirs = np.array([(twin.reset(), twin.state)[1] for _ in range(4_000)])
    for column in range(4):
        assert ks_2samp(starts[:, column], theirs[:, column]).pvalue > 1e-3
        assert kstest(starts[:, column], "uniform", args=(-0.1, 0.2)).pvalue > 1e-3
    correlations = np.corrcoef(starts.T) - np.eye(4)
    assert np.abs(correlations).max() < 4 / math.sqrt(4_000)


def test_a_state_put_into_the_twin_is_its_own():
    env, twin = Acrobot(), Acrobot().gymnasium_twin()
    twin.reset(seed=71)
    state = State(0.25, -1.5, 2.0, -3.0)
    env.render_state(twin, state)
    observation = twin.step(2)[0]
    following, _, _ = env.step(state, 2, trajectory_rng(seed_key(0), 0))
    np.testing.assert_allclose(observation, env.observe(following), rtol=2**-22)
