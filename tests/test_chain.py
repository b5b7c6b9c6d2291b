"""The chain against its transition matrices, written down once more."""

import numba
import numpy as np
import pytest
from fastpg.envs.chain import Chain, State
from gymnasium.spaces import Discrete
from parity import assert_same_steps, compiled_steps, python_steps
from scipy import stats

from fastpg.random import next_step, seed_key, trajectory_rng, uniform

JIT = not numba.config.DISABLE_JIT
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3

CASES = {
    "default": {},
    "long": {"n_states": 12},
    "a single state": {"n_states": 1},
    "never slips": {"slip": 0.0},
    "always slips": {"slip": 1.0},
    "other rewards": {"n_states": 3, "slip": 0.4, "return_reward": -0.5, "end_reward": 7.0},
}


def outcome(env, position, advances):
    """Where an action that is carried out leads, and what it pays."""
    if not advances:
        return 0, env.return_reward
    if position + 1 < env.n_states:
        return position + 1, 0.0
    return position, env.end_reward


def model(env):
    """Transition probabilities P[a, s, s'] and expected rewards R[a, s]."""
    n = env.n_states
    P, R = np.zeros((2, n, n)), np.zeros((2, n))
    for action in (0, 1):
        for carried_out, p in ((action, 1 - env.slip), (1 - action, env.slip)):
            for position in range(n):
                following, reward = outcome(env, position, carried_out == 1)
                P[action, position, following] += p
                R[action, position] += p * reward
    return P, R


def random_pairs(env, n, seed):
    rng = np.random.default_rng(seed)
    return {"position": rng.integers(0, env.n_states, n)}, rng.integers(0, 2, n)


@pytest.mark.parametrize("case", CASES)
def test_transitions_with_the_same_draws(case):
    """Draw 0 below `slip` carries out the other action: exactly, compiled and in ordinary Python."""
    env = Chain.make(**CASES[case])
    columns, actions = random_pairs(env, 500, seed=1)
    slipped = np.array(
        [uniform(next_step(trajectory_rng(seed_key(2), i)), 0) < env.slip for i in range(len(actions))]
    )
    outcomes = [
        outcome(env, position, bool(action) != slip)
        for position, action, slip in zip(columns["position"], actions, slipped, strict=True)
    ]
    following, rewards = map(np.array, zip(*outcomes, strict=True))
    expected = {"position": following}, rewards, np.zeros(500, bool)
    assert_same_steps(compiled_steps(env, columns, actions, seed=2), expected)
    assert_same_steps(python_steps(env, columns, actions, seed=2), expected)


@pytest.mark.parametrize("case", CASES)
def test_transitions_come_with_their_probabilities(case):
    """From every state with both actions: chi-square at 0.1 % for all of them together."""
    env = Chain.make(**CASES[case])
    columns, actions = random_pairs(env, 100_000 if JIT else 1_000, seed=3)
    following, _, terminated = compiled_steps(env, columns, actions, seed=4)
    assert not terminated.any()
    P, _ = model(env)
    counts = np.zeros_like(P)
    np.add.at(counts, (actions, columns["position"], following["position"]), 1)
    expected = counts.sum(axis=-1, keepdims=True) * P
    assert counts[P == 0].sum() == 0
    statistic = ((counts - expected)[P > 0] ** 2 / expected[P > 0]).sum()
    freedom = ((P > 0).sum(axis=-1) - 1).sum()
    assert stats.chi2.sf(statistic, freedom) > LEVEL if freedom else statistic == 0.0


@numba.njit
def play(env, action, key, n, horizon):
    """Returns of n episodes that always take the same action."""
    returns = np.zeros(n)
    for i in range(n):
        rng = trajectory_rng(key, i)
        state = env.reset(rng)
        for _ in range(horizon):
            rng = next_step(rng)
            state, reward, _terminated = env.step(state, action, rng)
            returns[i] += reward
    return returns


@pytest.mark.parametrize("action", [0, 1])
def test_returns_are_those_of_dynamic_programming(action):
    """Mean over 2,000 episodes within 4 standard errors of the expected return."""
    env, horizon = Chain(), 100
    P, R = model(env)
    values = np.zeros(env.n_states)
    for _ in range(horizon):
        values = R[action] + P[action] @ values
    returns = play(env, action, seed_key(5), 2_000 if JIT else 30, horizon)
    assert abs(returns.mean() - values[0]) <= 4 * returns.std(ddof=1) / np.sqrt(len(returns))


def test_the_optimal_return_is_the_published_one():
    """Strens (2000): 3677 in 1,000 steps, at the rate of the stationary distribution."""
    env = Chain()
    P, R = model(env)
    distribution = np.linalg.matrix_power(P[1], 10_000)[0]
    assert env.horizon * distribution @ R[1] == pytest.approx(3677, abs=0.5)
    assert env.horizon * distribution @ R[1] > env.horizon * (R[0] @ np.linalg.matrix_power(P[0], 10_000)[0])


def test_spaces_and_observation():
    env = Chain(n_states=7)
    assert (env.observation_space, env.action_space) == (Discrete(7), Discrete(2))
    assert env.reset(np.random.default_rng(0)) == State(0)
    assert env.observe(State(6)) == 6


def test_defaults_of_make_are_those_of_the_fields():
    assert Chain.make() == Chain()
    made = Chain.make(n_states=np.int64(3), slip=0, end_reward=1)
    assert made == Chain(3, 0.0, 2.0, 1.0)
    assert all(type(value) is float for value in made[1:]) and type(made.n_states) is int


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_states": 0}, ValueError, "n_states=0: must be at least 1"),
        ({"n_states": 2.0}, TypeError, "n_states=2.0: must be an integer"),
        ({"n_states": True}, TypeError, "n_states=True: must be an integer"),
        ({"slip": -0.1}, ValueError, "slip=-0.1: must be a probability"),
        ({"slip": 1.1}, ValueError, "slip=1.1: must be a probability"),
        ({"slip": "0.1"}, TypeError, "slip='0.1': must be a number"),
        ({"end_reward": float("inf")}, ValueError, "end_reward=inf: must be finite"),
        ({"return_reward": float("nan")}, ValueError, "return_reward=nan: must be finite"),
    ],
)
def test_bad_parameters_are_refused(parameters, error, message):
    with pytest.raises(error, match=message):
        Chain.make(**parameters)
