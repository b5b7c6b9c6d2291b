"""The bandit: the reward of each arm, draw by draw and in distribution."""

import numba
import numpy as np
import pytest
from fastpg.envs.bandit import Bandit, State
from gymnasium.spaces import Discrete
from parity import assert_same_steps, compiled_steps, python_steps
from scipy import stats

from fastpg.random import next_step, normal, seed_key, trajectory_rng

JIT = not numba.config.DISABLE_JIT
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3

MEANS, DEVIATIONS = (0.3, -1.5, 20.0, 0.0), (1.0, 0.01, 5.0, 0.0)


def pull(env, actions, seed):
    """Rewards of these actions in compiled code."""
    columns = {"context": np.zeros(len(actions), np.int64)}
    following, rewards, terminated = compiled_steps(env, columns, actions, seed)
    assert terminated.all() and not following["context"].any()
    return rewards


def test_rewards_with_the_same_draws():
    """Mean + deviation · draw 0, to 1e-12, compiled and in ordinary Python."""
    env = Bandit.make(means=MEANS, standard_deviations=DEVIATIONS)
    actions = np.random.default_rng(1).integers(0, 4, 500)
    z = np.array([normal(next_step(trajectory_rng(seed_key(2), i)), 0) for i in range(500)])
    expected = np.array(MEANS)[actions] + np.array(DEVIATIONS)[actions] * z
    columns = {"context": np.zeros(500, np.int64)}
    python = python_steps(env, columns, actions, seed=2)
    np.testing.assert_allclose(python[1], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(pull(env, actions, seed=2), expected, rtol=1e-12, atol=1e-12)
    compiled = compiled_steps(env, columns, actions, seed=2)
    assert_same_steps((compiled[0], expected, compiled[2]), (python[0], expected, python[2]))


@pytest.mark.parametrize("arm", range(4))
def test_rewards_are_normal(arm):
    """Kolmogorov-Smirnov at 0.1 %; an arm without deviation always pays its mean."""
    env = Bandit.make(means=MEANS, standard_deviations=DEVIATIONS)
    rewards = pull(env, np.full(100_000 if JIT else 500, arm), seed=3 + arm)
    if DEVIATIONS[arm] == 0.0:
        assert set(rewards) == {MEANS[arm]}
    else:
        assert stats.kstest(rewards, "norm", args=(MEANS[arm], DEVIATIONS[arm])).pvalue > LEVEL


def test_an_episode_is_one_choice():
    env = Bandit.make(means=[1.0, 2.0], standard_deviations=0)
    assert env.horizon == 1
    state = env.reset(np.random.default_rng(0))
    assert (state, env.observe(state)) == (State(0), 0)
    assert env.step(state, 1, np.random.default_rng(0)) == (State(0), 2.0, True)


def test_spaces():
    env = Bandit.make(means=[1.0, 2.0, 3.0])
    assert (env.observation_space, env.action_space) == (Discrete(1), Discrete(3))


def test_make_copies_into_contiguous_floats():
    means = np.arange(6)[::2]
    env = Bandit.make(means=means, standard_deviations=2)
    means[0] = 99
    assert env.means.tolist() == [0.0, 2.0, 4.0] and env.standard_deviations.tolist() == [2.0] * 3
    for array in env:
        assert array.dtype == np.float64 and array.flags.c_contiguous and array.flags.owndata


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"means": []}, ValueError, r"means: .*shape \(k,\) with k >= 1, not shape \(0,\)"),
        ({"means": 1.0}, ValueError, r"means: .*not shape \(\)"),
        ({"means": [[1.0]]}, ValueError, r"means: .*not shape \(1, 1\)"),
        ({"means": [1.0, float("nan")]}, ValueError, "means=.*must be finite"),
        ({"means": ["a", "b"]}, TypeError, "means=.*must be numbers"),
        ({"means": [1j, 0]}, TypeError, "means=.*must be numbers"),
        ({"means": [1, 2], "standard_deviations": [1, 1, 1]}, ValueError, r"standard_deviations: .*\(2,\)"),
        ({"standard_deviations": -1.0}, ValueError, "standard_deviations=-1.0: must be at least 0"),
        ({"standard_deviations": float("inf")}, ValueError, "standard_deviations=inf: must be finite"),
        ({"standard_deviations": None}, TypeError, "standard_deviations=None: must be numbers"),
        ({"means": [[1.0], [1.0, 2.0]]}, TypeError, "means=.*must be numbers"),
        ({"means": np.array([1j])}, TypeError, "means=.*must be numbers"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=message):
        Bandit.make(**parameters)
