"""Finite Markov decision processes: their tables, how outcomes are drawn from them, and Gymnasium's."""

import json

import gymnasium
import numpy as np
import pytest
from fastpg.envs.finite_mdp import FiniteMDP, State, _alias_tables
from parity import assert_same_steps, compiled_steps
from toy_text import (
    JIT,
    Scripted,
    assert_python_is_compiled,
    assert_starts_are_distributed,
    assert_table_is_sampled,
    random_pairs,
)

import fastpg
from fastpg.runs import decode, encode

IDS = {
    "FrozenLake-v1": {},
    "FrozenLake8x8-v1": {"is_slippery": False},
    "CliffWalkingSlippery-v1": {},
    "Taxi-v4": {"is_rainy": True},
}
INSTALLED = [
    pytest.param(
        id, marks=pytest.mark.skipif(id not in gymnasium.registry, reason=f"this Gymnasium has no {id}")
    )
    for id in IDS
]


def random_arrays(n_states, n_actions, seed):
    """Sparse transitions, rewards of (s, a, s'), a start distribution with zeros, and ends of episodes."""
    rng = np.random.default_rng(seed)
    shape = n_states, n_actions, n_states
    transition = rng.exponential(size=shape) * (rng.random(shape) < 0.4)
    transition[..., 0] += transition.sum(axis=2) == 0
    transition /= transition.sum(axis=2, keepdims=True)
    start = rng.exponential(size=n_states) * (np.arange(n_states) % 3 > 0)
    return transition, rng.normal(size=shape), start / start.sum(), rng.random(shape) < 0.2


def random_mdp(n_states=7, n_actions=3, seed=1):
    transition, reward, start, terminated = random_arrays(n_states, n_actions, seed)
    return FiniteMDP.from_arrays(transition, reward, start, terminated=terminated, horizon=25)


def outcomes_of(env):
    """As Gymnasium's table has them."""
    tables = [table.tolist() for table in env.outcomes]
    return lambda s, a: list(zip(*(table[s][a] for table in tables), strict=True))


def states_of(env):
    return [State(s) for s in range(env.n_states)]


def meant(threshold, alias):
    """The distribution that a table of columns stands for."""
    n = len(threshold)
    return (threshold + np.bincount(alias, 1 - threshold, minlength=n)) / n


# --- sampling tables ---


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257])
@pytest.mark.parametrize("kind", ["uniform", "dense", "sparse", "one", "lopsided"])
def test_alias_tables_mean_the_distribution(n, kind):
    """To rounding, and exactly 0 where the probability is 0."""
    rng = np.random.default_rng(n)
    weights = {
        "uniform": np.ones((40, n)),
        "dense": rng.random((40, n)) + 1e-3,
        "sparse": rng.random((40, n)) * (rng.random((40, n)) < 0.3) + (np.arange(n) == n // 2),
        "one": np.tile(np.arange(n) == n - 1, (40, 1)),
        "lopsided": 10.0 ** rng.uniform(-300, 0, (40, n)),
    }[kind]
    probability = weights / weights.sum(axis=1, keepdims=True)
    threshold, alias = _alias_tables(probability)
    assert threshold.min() >= 0 and threshold.max() <= 1 and alias.min() >= 0 and alias.max() < n
    for row in zip(probability, threshold, alias, strict=True):
        distribution = meant(*row[1:])
        np.testing.assert_allclose(distribution, row[0], rtol=0, atol=1e-15 * np.sqrt(n))
        assert not distribution[row[0] == 0].any()


def test_frequencies_are_those_of_the_table():
    """Every outcome of every state and action, and no other: chi-square at a significance of 1e-3."""
    env = random_mdp()
    columns, actions = random_pairs(env, states_of(env), 200_000 if JIT else 4_000, seed=2)
    assert assert_table_is_sampled(env, columns, actions, outcomes_of(env)) == 21


@pytest.mark.parametrize("n_states", [1, 2, 30])
def test_starts_are_distributed_as_given(n_states):
    """Chi-square at a significance of 1e-3."""
    transition, reward, start, _ = random_arrays(max(n_states, 2), 2, seed=3)
    if n_states == 1:
        transition, reward, start = np.ones((1, 2, 1)), np.zeros((1, 2)), np.ones(1)
    env = FiniteMDP.from_arrays(transition, reward, start, horizon=5)
    assert_starts_are_distributed(env, start, 50_000 if JIT else 2_000)


def test_python_is_compiled():
    env = random_mdp(seed=4)
    assert_python_is_compiled(env, states_of(env))


# --- tables out are tables in ---


def test_arrays_are_recovered():
    """The transition matrix to the bit, and the mean reward of each action."""
    transition, reward, start, terminated = random_arrays(9, 4, seed=5)
    env = FiniteMDP.from_arrays(transition, reward, start, terminated=terminated, horizon=25)
    assert (env.n_states, env.n_actions, env.horizon) == (9, 4, 25)
    assert env.probability.shape[2] == (transition > 0).sum(axis=2).max() < 9
    np.testing.assert_array_equal(env.transition, transition)
    np.testing.assert_array_equal(env.start, start)
    np.testing.assert_allclose(env.expected_reward, (transition * reward).sum(axis=2), rtol=1e-14, atol=1e-15)
    probability, next_state, outcome_reward, ended = env.outcomes
    for s, a, k in zip(*np.nonzero(probability), strict=True):
        following = next_state[s, a, k]
        assert probability[s, a, k] == transition[s, a, following]
        assert outcome_reward[s, a, k] == reward[s, a, following]
        assert ended[s, a, k] == terminated[s, a, following]


def test_the_other_forms_of_reward_and_end():
    """Reward (S, A) is that of every next state, and a terminal state ends what enters it."""
    transition, reward, start, _ = random_arrays(6, 2, seed=6)
    reward = reward[:, :, 0]
    terminal = np.arange(6) == 3
    start = np.where(terminal, 0, start) / start[~terminal].sum()
    short = FiniteMDP.from_arrays(transition, reward, start, terminal=terminal, horizon=8)
    shape = transition.shape
    whole = FiniteMDP.from_arrays(
        transition,
        np.repeat(reward[:, :, np.newaxis], 6, axis=2),
        start,
        terminated=np.broadcast_to(terminal, shape),
        horizon=8,
    )
    for ours, theirs in zip(short, whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(short.expected_reward, reward, rtol=1e-14)
    assert short.outcomes.terminated.any()


def test_same_next_state_with_different_rewards():
    """Outcomes stay apart where the next state does not tell them."""
    env = FiniteMDP.from_outcomes(
        np.array([[[0.25, 0.75]]]),
        np.zeros((1, 1, 2), int),
        np.array([[[4.0, -1.0]]]),
        np.array([[[True, False]]]),
        np.ones(1),
        horizon=3,
    )
    columns, actions = random_pairs(env, states_of(env), 10_000 if JIT else 1_000, seed=7)
    _, rewards, terminated = compiled_steps(env, columns, actions)
    assert set(zip(rewards.tolist(), terminated.tolist(), strict=True)) == {(4.0, True), (-1.0, False)}
    assert abs(terminated.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(actions))
    assert env.expected_reward == 0.25 and env.transition == 1


def test_an_instance_survives_being_written_and_read():
    env = random_mdp(seed=8)
    again = decode(json.loads(json.dumps(encode(env))))
    assert type(again) is FiniteMDP and again.horizon == env.horizon
    for ours, theirs in zip(again[:-1], env[:-1], strict=True):
        assert ours.dtype == theirs.dtype and ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, theirs)


def test_it_keeps_its_own_arrays():
    transition, reward, start, _ = random_arrays(4, 2, seed=9)
    env = FiniteMDP.from_arrays(transition, reward, start, horizon=5)
    before = env.expected_reward
    for array in (transition, reward, start):
        array[:] = 0
    np.testing.assert_array_equal(env.expected_reward, before)
    assert env.start.sum() > 0.99


def test_it_says_its_sizes():
    assert repr(random_mdp()) == "FiniteMDP(7 states, 3 actions, horizon=25)"


# --- Gymnasium's tables ---


def from_gymnasium(id):
    twin = gymnasium.make(id, **IDS[id])
    horizon = twin.spec.max_episode_steps
    return FiniteMDP.from_gymnasium(twin, horizon=150 if horizon is None else None), twin


@pytest.mark.parametrize("id", INSTALLED)
def test_table_spaces_and_horizon_are_gymnasiums(id):
    env, twin = from_gymnasium(id)
    assert env.observation_space == twin.observation_space and env.action_space == twin.action_space
    assert env.horizon == (twin.spec.max_episode_steps or 150)
    np.testing.assert_array_equal(env.start, twin.unwrapped.initial_state_distrib)
    ours = outcomes_of(env)
    for s, actions in twin.unwrapped.P.items():
        for a, outcomes in actions.items():
            row = ours(s, a)
            assert row[: len(outcomes)] == outcomes
            assert all(probability == 0 for probability, *_ in row[len(outcomes) :])


@pytest.mark.parametrize("id", INSTALLED)
def test_frequencies_are_those_of_gymnasiums_table(id):
    """Every outcome of every state and action, and no other: chi-square at a significance of 1e-3."""
    env, twin = from_gymnasium(id)
    n_pairs = env.n_states * env.n_actions
    columns, actions = random_pairs(env, states_of(env), max(60 * n_pairs, 100_000) if JIT else n_pairs, 10)
    table = twin.unwrapped.P
    assert assert_table_is_sampled(env, columns, actions, lambda s, a: table[s][a]) == n_pairs


def number_for(env, s, a, k):
    """A number that makes the step take outcome k: in a column that keeps it, or in one that leads to it."""
    threshold, alias = env.threshold[s, a], env.alias[s, a]
    if threshold[k] > 0:
        return (k + 0.5 * threshold[k]) / len(alias)
    column = np.flatnonzero((alias == k) & (threshold < 1))[0]
    return (column + 0.5 * (1 + threshold[column])) / len(alias)


@pytest.mark.parametrize("id", INSTALLED)
def test_whole_episodes_are_gymnasiums(id):
    """250 of each id, 1,000 in all: each step that Gymnasium drew, drawn again, to the last."""
    env, twin = from_gymnasium(id)
    tables = [table.tolist() for table in env.outcomes]
    script = Scripted()
    rng = np.random.default_rng(11)
    endings = set()
    for seed in range(250 if JIT else 10):
        s, _ = twin.reset(seed=seed)
        assert env.start[s] > 0
        length, terminated, truncated = 0, False, False
        while not (terminated or truncated or length == env.horizon):
            a = int(rng.integers(env.n_actions))
            following, reward, terminated, truncated, _ = twin.step(a)
            outcomes = list(zip(*(table[s][a] for table in tables[1:]), strict=True))
            k = outcomes.index((following, reward, terminated))
            script.draws = iter([number_for(env, s, a, k)])
            assert env.step(State(s), a, script) == (State(following), reward, terminated)
            s = following
            length += 1
        assert not truncated or length == env.horizon
        endings.add(terminated)
    assert endings


def test_the_table_stands_for_the_environment():
    """FrozenLake from its table and FrozenLake itself: the same expectations, state by state."""
    from fastpg.envs.frozen_lake import FrozenLake

    lake = FrozenLake.make()
    env = FiniteMDP.from_gymnasium(lake.gymnasium_twin())
    columns, actions = random_pairs(env, states_of(env), 64_000 if JIT else 640, seed=12)
    theirs = {"row": columns["s"] // 4, "col": columns["s"] % 4}
    ours = compiled_steps(env, columns, actions)
    theirs = compiled_steps(lake, theirs, actions)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        error = np.sqrt((a.astype(float).var() + b.astype(float).var()) / len(actions))
        assert abs(a.mean() - b.mean()) <= 4 * error


def test_what_gymnasium_does_not_say_can_be_given():
    twin = gymnasium.make("FrozenLake-v1")
    start = np.arange(16) == 14
    env = FiniteMDP.from_gymnasium(twin, start=start, horizon=7)
    assert env.horizon == 7 and np.array_equal(env.start, start)


def test_environments_that_no_table_describes_are_refused():
    with pytest.raises(ValueError, match="no table P"):
        FiniteMDP.from_gymnasium(gymnasium.make("CartPole-v1"))
    lake = gymnasium.make("FrozenLake-v1", max_episode_steps=-1)
    with pytest.raises(ValueError, match="horizon=None.*no time limit"):
        FiniteMDP.from_gymnasium(lake)
    del lake.unwrapped.initial_state_distrib
    with pytest.raises(ValueError, match="start=None.*initial_state_distrib"):
        FiniteMDP.from_gymnasium(lake, horizon=5)
    fickle = gymnasium.make("FrozenLake-v1")
    fickle.unwrapped.fickle_passenger = True
    with pytest.raises(ValueError, match="fickle outside of the table"):
        FiniteMDP.from_gymnasium(fickle)


class Tabled:
    """What is read of a Gymnasium environment."""

    spec, initial_state_distrib = None, np.array([1.0, 0.0])

    def __init__(self, table):
        self.P, self.unwrapped = table, self


ROW = [(1.0, 0, 0.0, False)]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {0: {0: ROW, 1: ROW}, 1: {0: ROW}},
        {(0, 0): {0: ROW}},
        {0: {0: ROW}, 1: {0: []}},
        {0: {0: [(1.0, 0, 0.0)]}, 1: {0: ROW}},
        {0: {0: [(1.0, 0.6, 0.0, False)]}, 1: {0: ROW}},
        np.zeros((2, 1, 1)),
    ],
    ids=["empty", "an action is missing", "keys", "no outcome", "three numbers", "half a state", "an array"],
)
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match="env=.*P"):
        FiniteMDP.from_gymnasium(Tabled(table), horizon=5)
    with pytest.raises(ValueError, match="has no table P"):
        FiniteMDP.from_gymnasium(fastpg.make("FrozenLake-v1"))


# --- bad input ---

GOOD = {
    "transition": np.full((2, 1, 2), 0.5),
    "reward": np.zeros((2, 1)),
    "start": np.array([1.0, 0.0]),
    "horizon": 5,
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transition": np.full((2, 2), 0.5)}, r"transition: has the shape \(2, 2\), must have \(S, A, S\)"),
        ({"transition": np.full((2, 1, 3), 0.5)}, r"transition: has the shape"),
        ({"transition": np.zeros((0, 1, 0))}, "shape"),
        ({"transition": np.zeros((2, 0, 2))}, "shape"),
        ({"transition": np.full((2, 1, 2), 0.4)}, r"must sum to 1, but \w+\[0\]\[0\] sums to 0.8"),
        ({"transition": np.array([[[0.5, 0.5]], [[1.5, -0.5]]])}, "negative"),
        ({"transition": np.full((2, 1, 2), np.nan)}, "transition: must be finite"),
        ({"transition": "all"}, "transition: must be an array of numbers"),
        ({"reward": np.zeros((1, 2))}, r"reward: has the shape \(1, 2\), must have \(2, 1\) or \(2, 1, 2\)"),
        ({"reward": np.full((2, 1), np.inf)}, "reward: must be finite"),
        ({"start": np.array([0.5, 0.4])}, "start: must sum to 1"),
        ({"start": np.array([1.0])}, r"start: has the shape \(1,\), must have \(2,\)"),
        ({"start": np.array([-1.0, 2.0])}, "start: must not be negative"),
        ({"terminal": np.zeros(2)}, "terminal: must be booleans"),
        ({"terminal": np.array([True, False])}, "start: has a positive probability of a terminal state"),
        ({"terminal": np.zeros(3, bool)}, r"terminal: must be booleans of the shape \(2,\)"),
        ({"terminated": np.zeros((2, 1), bool)}, "terminated: must be booleans"),
        ({"terminal": np.zeros(2, bool), "terminated": np.zeros((2, 1, 2), bool)}, "one of them"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 2.5}, "horizon=2.5"),
        ({"horizon": None}, "horizon=None"),
    ],
    ids=str,
)
def test_bad_arrays_are_refused_by_name(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        FiniteMDP.from_arrays(**{**GOOD, **arguments})


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.ones((1, 1)), r"probability: has the shape \(1, 1\)"),
        (0, np.full((1, 1, 1), 0.5), "probability: must sum to 1"),
        (1, np.ones((1, 1, 1), int), "next_state: must be between 0 and 0"),
        (1, np.zeros((1, 1, 1)), "next_state: must be integers"),
        (1, np.zeros((1, 1), int), "next_state: must be integers of the shape"),
        (2, np.zeros((1, 1, 2)), "reward: has the shape"),
        (3, np.zeros((1, 1, 1)), "terminated: must be booleans"),
    ],
    ids=str,
)
def test_bad_outcomes_are_refused_by_name(position, value, message):
    outcomes = [np.ones((1, 1, 1)), np.zeros((1, 1, 1), int), np.zeros((1, 1, 1)), np.zeros((1, 1, 1), bool)]
    outcomes[position] = value
    with pytest.raises((TypeError, ValueError), match=message):
        FiniteMDP.from_outcomes(*outcomes, np.ones(1), horizon=3)


def test_a_step_of_certain_outcomes_is_exact():
    """Where every action leads to one state, no random number changes it."""
    following = np.array([[1, 2], [2, 0], [0, 1]])
    transition = (following[:, :, np.newaxis] == np.arange(3)).astype(float)
    reward = np.arange(6.0).reshape(3, 2)
    env = FiniteMDP.from_arrays(transition, reward, np.ones(3) / 3, horizon=4)
    columns, actions = random_pairs(env, states_of(env), 600, seed=13)
    s = columns["s"]
    expected = {"s": following[s, actions]}, reward[s, actions], np.zeros(600, bool)
    assert_same_steps(compiled_steps(env, columns, actions), expected)
