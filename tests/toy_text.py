"""Gymnasium's toy-text environments under fastpg's random numbers, and what tests say about frequencies."""

from collections import Counter

import gymnasium
import numba
import numpy as np
import pytest
import scipy.stats
from parity import columns_of, compiled_steps, python_steps, state_class

from fastpg.random import next_step, seed_key, trajectory_rng, uniform

JIT = not numba.config.DISABLE_JIT


def needs(id):
    """Skip where the installed Gymnasium has no environment of this name; fastpg itself does without."""
    missing = id not in gymnasium.registry
    return pytest.mark.skipif(missing, reason=f"Gymnasium {gymnasium.__version__} has no {id}")


class Scripted(np.random.Generator):
    """A generator that gives the numbers it was told to."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self):
        return next(self.draws)

    def choice(self, options):
        return options[int(next(self.draws) * len(options))]


@numba.njit
def _draws(key, into):
    for i in range(into.shape[0]):
        rng = next_step(trajectory_rng(key, i))
        for j in range(into.shape[1]):
            into[i, j] = uniform(rng, j)


def step_draws(n, seed=0):
    """Draws 0 and 1 of the n steps that `compiled_steps` makes, shape (n, 2)."""
    draws = np.empty((n, 2))
    _draws(seed_key(seed), draws)
    return draws


@numba.njit
def _starts(env, key, into):
    for i in range(len(into)):
        into[i] = env.observe(env.reset(trajectory_rng(key, i)))


def start_observations(env, n, seed=0):
    """What is observed at the start of n trajectories."""
    starts = np.empty(n, np.int64)
    _starts(env, seed_key(seed), starts)
    return starts


def random_pairs(env, states, n, seed):
    """States and actions, each pair equally often but for the remainder: columns, and an array."""
    n_actions = int(env.action_space.n)
    places = np.random.default_rng(seed).permutation(n) % (len(states) * n_actions)
    table = columns_of(states)
    return {name: column[places // n_actions] for name, column in table.items()}, places % n_actions


def observations(env, columns):
    """What is observed of each state."""
    return env.observe(state_class(env)(**columns))


def step_gymnasium(env, columns, actions, draws, state_of):
    """Step each state once in Gymnasium, which draws what fastpg draws: as `compiled_steps`."""
    cls = state_class(env)
    twin = env.gymnasium_twin().unwrapped
    twin.np_random = script = Scripted()
    states = [cls(*values) for values in zip(*(column.tolist() for column in columns.values()), strict=True)]
    following, rewards, terminated = [], [], []
    for state, action, numbers in zip(states, actions.tolist(), draws.tolist(), strict=True):
        env.render_state(twin, state)
        script.draws = iter(numbers)
        observation, reward, ended, truncated, _ = twin.step(action)
        following.append(state_of(twin))
        assert observation == env.observe(following[-1])
        assert not truncated
        rewards.append(reward)
        terminated.append(ended)
    return columns_of(following), np.array(rewards, dtype=np.float64), np.array(terminated)


def play_gymnasium(env, n, choose, state_of, max_steps):
    """Play n episodes of Gymnasium from its own start states, with the draws that `compiled_steps` will have.

    Returns the steps of all, as columns of states, actions, and what `compiled_steps` returns, and the
    length, terminated and truncated of each episode.
    """
    twin = env.gymnasium_twin()
    draws = iter(step_draws(max_steps).tolist())
    rng = np.random.default_rng(7)
    script = Scripted()
    before, actions, after, rewards, ended, episodes = [], [], [], [], [], []
    for seed in range(n):
        twin.reset(seed=seed)
        twin.unwrapped.np_random = script
        length, terminated, truncated = 0, False, False
        while not (terminated or truncated):
            before.append(state_of(twin.unwrapped))
            actions.append(choose(seed, before[-1], rng))
            script.draws = iter(next(draws))
            _, reward, terminated, truncated, _ = twin.step(actions[-1])
            after.append(state_of(twin.unwrapped))
            rewards.append(float(reward))
            ended.append(terminated)
            length += 1
        episodes.append((length, terminated, truncated))
    steps = columns_of(after), np.array(rewards), np.array(ended)
    return columns_of(before), np.array(actions), steps, episodes


def assert_table_is_sampled(env, columns, actions, outcomes_of):
    """Each outcome of ``outcomes_of(observation, action)`` as often as its probability says, and no other.

    `outcomes_of` gives (probability, next observation, reward, terminated) as in Gymnasium's table P.
    Pearson's statistic of all pairs together, at a significance of 1e-3.
    """
    before = observations(env, columns)
    following, rewards, terminated = compiled_steps(env, columns, actions, seed=5)
    after = observations(env, following)
    seen = {}
    for s, a, *outcome in zip(
        *(x.tolist() for x in (before, actions, after, rewards, terminated)), strict=True
    ):
        seen.setdefault((s, a), Counter())[tuple(outcome)] += 1
    statistic, freedom = 0.0, 0
    for (s, a), counts in seen.items():
        expected = Counter()
        for probability, following_s, reward, ended in outcomes_of(s, a):
            if probability > 0:
                expected[following_s, reward, ended] += probability * counts.total()
        assert counts.keys() <= expected.keys(), (s, a)
        statistic += sum((counts[outcome] - mean) ** 2 / mean for outcome, mean in expected.items())
        freedom += len(expected) - 1
    assert freedom == 0 or scipy.stats.chi2.sf(statistic, freedom) > 1e-3
    return len(seen)


def assert_python_is_compiled(env, states, n=500):
    """Plain method calls give what compiled code gives, to the bit, from the same random numbers."""
    columns, actions = random_pairs(env, states, n, seed=3)
    ours, theirs = python_steps(env, columns, actions), compiled_steps(env, columns, actions)
    for name, column in theirs[0].items():
        np.testing.assert_array_equal(ours[0][name], column)
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[2], theirs[2])
    for i in range(0, n, 50):
        assert start_observations(env, n)[i] == env.observe(env.reset(trajectory_rng(seed_key(0), i)))


def assert_starts_are_distributed(env, distribution, n):
    """Pearson's statistic at a significance of 1e-3, and nothing outside of the support."""
    counts = np.bincount(start_observations(env, n, seed=6), minlength=len(distribution))
    possible = np.asarray(distribution) > 0
    assert counts[~possible].sum() == 0
    if possible.sum() > 1:
        expected = n * np.asarray(distribution)[possible]
        assert scipy.stats.chisquare(counts[possible], expected).pvalue > 1e-3
