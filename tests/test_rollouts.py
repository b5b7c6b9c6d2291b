"""Rollouts: what the arrays hold, against the environment stepped in ordinary Python."""

import numpy as np
import pytest

import fastpg
from fastpg.networks.mlp import MLP
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng
from fastpg.segments import Segments

HORIZON = 20  # CartPole's random episodes end before it and at it
N_STEPS, N_ENVS, SEED = 50, 13, 7


@pytest.fixture(scope="module")
def cartpole():
    env = fastpg.make("CartPole-v1")
    policy = fastpg.SoftmaxLinear.for_env(env)
    theta = np.random.default_rng(0).normal(size=policy.n_parameters)
    return env, policy, theta


def roll(env, policy, theta, **settings):
    settings = {"n_steps": N_STEPS, "n_envs": N_ENVS, "seed": SEED, "horizon": HORIZON, **settings}
    return fastpg.rollout(env, policy, theta, **settings)


def replayed(env, policy, theta, i, horizon=HORIZON):
    """Yield what environment i does, a step at a time, in ordinary Python."""
    episode = 0
    while True:
        rng = trajectory_rng(seed_key(SEED), episode * 2**32 + i)
        state = env.reset(rng)
        for time in range(1, horizon + 1):
            rng = next_step(rng)
            observation = env.observe(state)
            action = policy.sample(theta, observation, policy_rng(rng))
            state, reward, terminated = env.step(state, action, rng)
            yield observation, action, reward, terminated, time == horizon, env.observe(state)
            if terminated:
                break
        episode += 1


def check_against_python(env, policy, theta, rolled, horizon=HORIZON, tolerance=1e-12):
    for i in (0, 1, N_ENVS - 1):
        steps = replayed(env, policy, theta, i, horizon)
        for t in range(len(rolled.rewards)):
            observation, action, reward, terminated, truncated, following = next(steps)
            np.testing.assert_allclose(rolled.observations[t, i], observation, rtol=0, atol=tolerance)
            np.testing.assert_allclose(rolled.next_observations[t, i], following, rtol=0, atol=tolerance)
            np.testing.assert_allclose(rolled.actions[t, i], action, rtol=0, atol=tolerance)
            np.testing.assert_allclose(rolled.rewards[t, i], reward, rtol=0, atol=tolerance)
            assert (rolled.terminated[t, i], rolled.truncated[t, i]) == (terminated, truncated)
    log_probs = policy.log_prob(theta, rolled.observations, rolled.actions)
    np.testing.assert_allclose(rolled.log_probs, log_probs, rtol=0, atol=tolerance)


def test_every_step_is_that_of_the_environment_in_ordinary_python(cartpole):
    rolled = roll(*cartpole)
    assert rolled.observations.shape == (N_STEPS, N_ENVS, 4) and rolled.actions.dtype == np.int64
    assert rolled.terminated.any() and (rolled.truncated & ~rolled.terminated).any()
    assert rolled.values is None
    check_against_python(*cartpole, rolled)


def test_real_actions_and_their_axis():
    env = fastpg.make("Pendulum-v1")
    policy = fastpg.GaussianLinear.for_env(env)
    theta = policy.initial() + 0.1
    rolled = roll(env, policy, theta, horizon=16)
    assert rolled.actions.shape == (N_STEPS, N_ENVS, 1)
    assert (np.flatnonzero(rolled.truncated[:, 0]) == [15, 31, 47]).all() and not rolled.terminated.any()
    check_against_python(env, policy, theta, rolled, 16, 1e-9)  # sines of its own


def test_integer_observations_and_a_tabular_policy():
    env = fastpg.make("FrozenLake-v1")
    policy = fastpg.policy_for(env)
    theta = np.random.default_rng(1).normal(size=policy.n_parameters)
    rolled = roll(env, policy, theta)
    assert rolled.observations.shape == (N_STEPS, N_ENVS) and rolled.observations.dtype == np.int64
    check_against_python(env, policy, theta, rolled)


def test_the_next_observation_is_the_next_row_unless_an_episode_ended(cartpole):
    rolled = roll(*cartpole)
    over = (rolled.terminated | rolled.truncated)[:-1]
    same = (rolled.next_observations[:-1] == rolled.observations[1:]).all(axis=-1)
    np.testing.assert_array_equal(same, ~over)


def test_the_same_bits_for_any_number_of_threads(cartpole):
    one, two = (roll(*cartpole, n_envs=150, threads=threads) for threads in (1, 2))
    for name, array in vars(one).items():
        if array is not None:
            np.testing.assert_array_equal(array, getattr(two, name), name)


def test_the_first_episodes_are_the_trajectories_of_the_estimators(cartpole):
    env, policy, theta = cartpole
    rolled = roll(env, policy, theta, n_steps=HORIZON, n_envs=100)
    first = np.cumsum(np.cumsum(rolled.terminated, axis=0), axis=0) <= 1  # up to the first end
    returns = (rolled.rewards * first).sum(axis=0)
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=100, seed=SEED, horizon=HORIZON)
    assert returns.mean() == pytest.approx(estimate.mean_return, abs=1e-12)


def test_a_segment_goes_on_where_the_last_one_ended(cartpole):
    env, policy, theta = cartpole
    whole = roll(env, policy, theta)
    segments = Segments(env, policy, N_ENVS, N_STEPS // 2, HORIZON, SEED, np.float64)
    episodes = [segments.record(theta)]
    halves = [[array.copy() for array in segments.segment]]
    state = segments.state()
    segments.record(theta)  # another, that is forgotten
    restored = Segments(env, policy, N_ENVS, N_STEPS // 2, HORIZON, SEED, np.float64)
    restored.restore(*state)
    episodes.append(restored.record(theta))
    halves.append([array.copy() for array in restored.segment])
    np.testing.assert_array_equal(whole.rewards, np.concatenate([half[4] for half in halves]))
    np.testing.assert_array_equal(whole.actions, np.concatenate([half[2] for half in halves]))
    np.testing.assert_array_equal(whole.observations, np.concatenate([half[0][:-1] for half in halves]))
    over = whole.terminated | whole.truncated
    assert sum(e.n_episodes for e in episodes) == over.sum()
    np.testing.assert_array_equal(halves[0][0][-1], halves[1][0][0])


def test_the_returns_of_finished_episodes(cartpole):
    env, policy, theta = cartpole
    segments = Segments(env, policy, N_ENVS, N_STEPS, HORIZON, SEED, np.float64)
    episodes = segments.record(theta)
    over = segments.segment.terminated | segments.segment.truncated
    returns = []
    for i in range(N_ENVS):
        ends = np.flatnonzero(over[:, i])
        returns += np.diff(ends, prepend=-1).tolist()  # a reward of 1 each step
    assert episodes.n_episodes == len(returns) and episodes.mean_length == pytest.approx(np.mean(returns))
    assert episodes.mean_return == pytest.approx(np.mean(returns))
    error = np.std(returns, ddof=1) / np.sqrt(len(returns))
    assert episodes.return_standard_error == pytest.approx(error)
    assert segments.record(theta).n_episodes > 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"n_steps": 0}, "n_steps=0"),
        ({"n_envs": 0}, "n_envs=0"),
        ({"n_envs": 2.0}, "n_envs=2.0"),
        ({"seed": -1}, "seed=-1"),
        ({"horizon": 0}, "horizon=0"),
        ({"critic": 3}, "critic, value_parameters"),
        ({"critic": 3, "value_parameters": [0.0]}, "must be a network"),
        ({"critic": MLP.of((8, 16, 1)), "value_parameters": [0.0]}, "has 8 inputs, observations have 4"),
        ({"critic": MLP.of((4, 16, 2)), "value_parameters": [0.0]}, "has 2 outputs"),
        ({"critic": MLP.of((4, 16, 1)), "value_parameters": [0.0]}, "computes in float32"),
    ],
)
def test_what_is_refused(cartpole, settings, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        roll(*cartpole, **settings)


def test_a_policy_without_log_prob_is_refused(cartpole):
    env, policy, theta = cartpole
    without = type("Without", (type(policy),), {"__slots__": (), "log_prob": property()})
    with pytest.raises(TypeError, match="lacks log_prob"):
        roll(env, without(*policy), theta)
