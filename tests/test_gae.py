"""Generalised advantage estimation: against a NumPy loop that sums its definition, and identities."""

import numpy as np
import oracles
import pytest

import fastpg

T, N = 30, 4
GAMMA, LAMBDA = 0.97, 0.9


@pytest.fixture(scope="module")
def recorded():
    """Rewards, values, values of the states led to, terminated, truncated: random, and consistent."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, T, N))
    next_values = np.vstack([values[1:], rng.normal(size=(1, N))])
    terminated, truncated = rng.random((2, T, N)) < 0.1
    terminated[5, 1] = truncated[5, 1] = truncated[-1, 2] = True
    terminated[-1, 2] = False
    over = terminated | truncated
    next_values[over] = rng.normal(size=over.sum())  # of final states, not of the next episode's first
    return rewards, values, next_values, terminated, truncated


def test_the_sum_of_its_definition(recorded):
    expected = oracles.advantages(*recorded, GAMMA, LAMBDA)
    np.testing.assert_allclose(fastpg.gae(*recorded, GAMMA, LAMBDA), expected, rtol=1e-12, atol=1e-12)


def test_lambda_0_is_the_temporal_difference_error(recorded):
    rewards, values, next_values, terminated, _ = recorded
    expected = rewards + GAMMA * np.where(terminated, 0.0, next_values) - values
    np.testing.assert_allclose(fastpg.gae(*recorded, GAMMA, 0.0), expected, rtol=1e-13, atol=1e-13)


def test_lambda_1_is_the_return_minus_the_value(recorded):
    rewards, values, next_values, terminated, truncated = recorded
    returns = np.empty((T, N))
    for i in range(N):
        later = next_values[-1, i]
        for t in reversed(range(T)):
            if truncated[t, i]:
                later = next_values[t, i]
            if terminated[t, i]:
                later = 0.0
            later = rewards[t, i] + GAMMA * later
            returns[t, i] = later
    np.testing.assert_allclose(fastpg.gae(*recorded, GAMMA, 1.0), returns - values, rtol=1e-12, atol=1e-12)


def test_all_terminated_is_reward_minus_value(recorded):
    rewards, values, next_values, _, _ = recorded
    everywhere, nowhere = np.ones((T, N), bool), np.zeros((T, N), bool)
    advantages = fastpg.gae(rewards, values, next_values, everywhere, nowhere, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages, rewards - values, rtol=1e-14)


def test_a_truncated_step_is_bootstrapped_from_where_it_led(recorded):
    """Not from the next row, which is the first of another episode, and not cut off as if it had ended."""
    rewards, values, next_values, _, _ = recorded
    nowhere = np.zeros((T, N), bool)
    truncated = nowhere.copy()
    truncated[9] = True
    advantages = fastpg.gae(rewards, values, next_values, nowhere, truncated, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages[9], (rewards + GAMMA * next_values - values)[9], rtol=1e-14)
    before = fastpg.gae(
        rewards[:10], values[:10], next_values[:10], nowhere[:10], nowhere[:10], GAMMA, LAMBDA
    )
    np.testing.assert_allclose(advantages[:10], before, rtol=1e-14)


def test_float32_stays_float32(recorded):
    floats = [array.astype(np.float32) for array in recorded[:3]]
    advantages = fastpg.gae(*floats, *recorded[3:], GAMMA, LAMBDA)
    assert advantages.dtype == np.float32
    np.testing.assert_allclose(advantages, fastpg.gae(*recorded, GAMMA, LAMBDA), rtol=1e-5, atol=1e-5)


def test_what_is_refused(recorded):
    with pytest.raises(ValueError, match="values: has shape"):
        fastpg.gae(recorded[0], recorded[1][:-1], *recorded[2:])
    with pytest.raises(ValueError, match="rewards: has shape"):
        fastpg.gae(*(array[:, 0] for array in recorded))
    with pytest.raises(ValueError, match=r"trace_decay=1\.5"):
        fastpg.gae(*recorded, 0.9, 1.5)
    with pytest.raises(TypeError, match="values=None.*critic="):
        fastpg.gae(recorded[0], None, None, *recorded[3:])
    with pytest.raises(ValueError, match="discount=-1"):
        fastpg.gae(*recorded, -1)
