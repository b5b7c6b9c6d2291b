"""The tabular softmax policy: its score, its recorded trajectories, and estimates beside the exact answer."""

import numba
import numpy as np
import pytest
from fastpg.envs import Blackjack, Chain, FiniteMDP, FrozenLake, Pendulum
from gymnasium.spaces import Discrete, Tuple

import fastpg
from fastpg import REINFORCE, SoftmaxTabular, exact
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng, uniform

POLICIES = {
    "one number": SoftmaxTabular((5,), (0.0, 0.0, 0.0)),
    "offsets": SoftmaxTabular((4,), (0.0, 0.5), first_observation=-2, first_action=3),
    "three numbers": SoftmaxTabular((3, 4, 2), (0.0, 0.0, 0.0, 0.0)),
}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")


def observations_of(policy):
    """All of them, in order."""
    if len(policy.sizes) == 1:
        return [policy.first_observation + s for s in range(policy.n_states)]
    return [tuple(map(int, index)) for index in np.ndindex(policy.sizes)]


def some_theta(policy, seed=70):
    return np.random.default_rng(seed).normal(0.0, 1.0, policy.n_parameters)


def some_mdp(n_states, n_actions, horizon, seed, p_end=0.1):
    """A random MDP in which every transition may end the episode."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
    reward = rng.normal(size=(n_states, n_actions))
    terminal = rng.random(n_states) < p_end
    terminal[0] = False
    start = np.where(terminal, 0.0, 1.0)
    return FiniteMDP.from_arrays(transition, reward, start / start.sum(), terminal=terminal, horizon=horizon)


@each_policy
def test_probabilities_are_the_softmax_of_the_states_preferences(policy):
    theta = some_theta(policy)
    table = theta.reshape(policy.n_states, -1)
    for s, observation in enumerate(observations_of(policy)):
        expected = np.exp(table[s]) / np.exp(table[s]).sum()
        np.testing.assert_allclose(policy.probabilities(theta, observation), expected, rtol=1e-14)
    batch = policy.probabilities(theta, np.array(observations_of(policy)))
    np.testing.assert_allclose(batch, np.exp(table) / np.exp(table).sum(axis=1, keepdims=True), rtol=1e-14)


@each_policy
def test_score_is_the_derivative_of_log_prob(policy):
    """Central differences with h = 1e-5, below 1e-9; and its expectation is zero."""
    theta, h = some_theta(policy), 1e-5
    actions = range(policy.first_action, policy.first_action + len(policy.initial_preferences))
    for observation in observations_of(policy):
        scores = []
        for action in actions:
            differences = [
                policy.log_prob(theta + step, observation, action)
                - policy.log_prob(theta - step, observation, action)
                for step in h * np.eye(policy.n_parameters)
            ]
            scores.append(policy.score(theta, observation, action))
            np.testing.assert_allclose(np.array(differences) / (2 * h), scores[-1], rtol=0, atol=1e-9)
        expectation = policy.probabilities(theta, observation) @ np.array(scores)
        np.testing.assert_allclose(expectation, 0.0, atol=1e-14)


@each_policy
def test_spread_factors_make_the_score(policy):
    theta = some_theta(policy)
    for observation in observations_of(policy):
        array = np.zeros(policy.n_parameters)
        factor = policy.factor(theta, observation, policy.first_action)
        start, width = policy.spread(array, observation, factor, 2.0)
        np.testing.assert_array_equal(array, 2.0 * policy.score(theta, observation, policy.first_action))
        assert np.flatnonzero(array).tolist() == list(range(start, start + width))


@each_policy
def test_the_policy_of_the_lanes_is_the_same(policy):
    """Of a table of probabilities in place of θ, also where some are as good as 0."""
    lanes = policy.in_lanes()
    for theta in (some_theta(policy), 400.0 * some_theta(policy)):
        table = lanes.lane_parameters(theta)
        for observation in observations_of(policy):
            expected = policy.probabilities(theta, observation)
            np.testing.assert_allclose(lanes.probabilities(table, observation), expected, rtol=1e-14)
            assert lanes.mode(table, observation) == policy.mode(theta, observation)
            entropy = policy.entropy(theta, observation)
            assert lanes.entropy(table, observation) == pytest.approx(entropy, rel=1e-12, abs=1e-12)
            for action, p in enumerate(expected, policy.first_action):
                factor = policy.factor(theta, observation, action)
                np.testing.assert_allclose(lanes.factor(table, observation, action), factor, atol=1e-14)
                if p > 1e-290:
                    log_prob = policy.log_prob(theta, observation, action)
                    assert lanes.log_prob(table, observation, action) == pytest.approx(log_prob, abs=1e-12)


class ShiftedChain(Chain):
    """Observations from -1 on, actions from 3 on."""

    __slots__ = ()
    horizon = 12
    observation_space, action_space = Discrete(5, start=-1), Discrete(2, start=3)

    def observe(self, state):
        return state.position - 1

    def step(self, state, action, rng):
        if (action == 4) != (uniform(rng, 0) < 0.2):
            return type(state)(min(state.position + 1, 4)), 10.0 * (state.position == 4), False
        return type(state)(0), 2.0, False


@compiled
@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
@pytest.mark.parametrize(
    "env", [FrozenLake.make(), Blackjack(), ShiftedChain()], ids=lambda env: type(env).__name__
)
def test_recorded_estimate_is_the_plain_sum(env, baseline):
    """300 trajectories in lanes that fill, empty and move, against ordinary Python one by one."""
    policy = SoftmaxTabular.for_env(env)
    if baseline == "optimal" and policy.n_parameters > 256:
        pytest.skip("more parameters, fewer groups: the oracle has sixteen")
    theta, n = 0.5 * some_theta(policy), 300
    scores, returns = [], []
    for number in range(n):
        rng = trajectory_rng(seed_key(8), number)
        state, score, total, ended, steps = env.reset(rng), 0.0, 0.0, False, 0
        while not ended and steps < env.horizon:
            rng = next_step(rng)
            observation = env.observe(state)
            action = policy.sample(theta, observation, policy_rng(rng))
            score = score + policy.score(theta, observation, action)
            state, reward, ended = env.step(state, action, rng)
            total, steps = total + reward, steps + 1
        scores.append(score)
        returns.append(total)
    import oracles

    expected = oracles.mean_and_error(oracles.terms(np.array(scores), np.array(returns), baseline))
    estimate = fastpg.policy_gradient(env, policy, theta, REINFORCE(baseline), n_trajectories=n, seed=8)
    np.testing.assert_allclose(estimate.gradient, expected[0], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(estimate.standard_error, expected[1], rtol=1e-9, atol=1e-13)
    one = fastpg.policy_gradient(env, policy, theta, REINFORCE(baseline), n_trajectories=n, seed=8, threads=1)
    np.testing.assert_array_equal(one.gradient, estimate.gradient)


MDPS = {
    "2 states, T = 3": some_mdp(2, 2, 3, seed=1, p_end=0.0),
    "20 states": some_mdp(20, 4, 15, seed=2),
    "FrozenLake 4x4": FiniteMDP.from_gymnasium(FrozenLake.make().gymnasium_twin(), horizon=30),
}


@compiled
@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
@pytest.mark.parametrize("name", MDPS)
def test_estimates_are_within_their_errors_of_the_exact_gradient(name, baseline):
    """Every component within 4 standard errors at N = 10⁶, and the errors those of the exact covariance."""
    mdp, n = MDPS[name], 1_000_000
    policy = SoftmaxTabular.for_env(mdp)
    theta = 0.5 * some_theta(policy)
    truth = exact.policy_gradient(mdp, policy, theta, covariance=True)
    estimate = fastpg.policy_gradient(mdp, policy, theta, REINFORCE(baseline), n_trajectories=n, seed=3)
    assert abs(estimate.mean_return - truth.expected_return) <= 4 * estimate.return_standard_error
    error = np.sqrt(truth.variance(baseline) / n)
    assert np.all(np.abs(estimate.gradient - truth.gradient) <= 4 * error + 1e-12)
    seen = error > 0.01 * error.max()  # a rare state's variance is itself known badly
    np.testing.assert_allclose(estimate.standard_error[seen], error[seen], rtol=0.1)


@compiled
def test_frozen_lake_is_its_table():
    """An estimate by the direct dynamics is within its errors of the exact gradient of Gymnasium's table."""
    env = FrozenLake.make()
    policy = SoftmaxTabular.for_env(env)
    theta = 0.5 * some_theta(policy)
    truth = exact.policy_gradient(MDPS["FrozenLake 4x4"], policy, theta, horizon=30)
    estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=1_000_000, seed=5, horizon=30)
    assert np.all(np.abs(estimate.gradient - truth.gradient) <= 4 * estimate.standard_error + 1e-12)


@compiled
def test_training_reaches_the_goal():
    """FrozenLake without slipping: a path of six steps, found and kept."""
    env = FrozenLake.make(is_slippery=False)
    policy = fastpg.policy_for(env)
    run = fastpg.train(env, policy, n_updates=100, n_trajectories=2000, optimizer=fastpg.Adam(0.1), seed=0)
    assert fastpg.evaluate(env, policy, run.theta, n_trajectories=1000).mean_return > 0.98


def test_for_env_takes_sizes_from_the_spaces():
    assert SoftmaxTabular.for_env(FrozenLake.make()).n_parameters == 64
    assert SoftmaxTabular.for_env(Blackjack()).sizes == (32, 11, 2)
    assert isinstance(fastpg.policy_for(Blackjack()), SoftmaxTabular)
    with pytest.raises(ValueError, match="needs Discrete actions"):
        SoftmaxTabular.for_env(Pendulum())


class Spaces:
    observation_space = Tuple((Discrete(2, start=1), Discrete(2)))
    action_space = Discrete(2)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="needs Discrete observations"):
        SoftmaxTabular.for_env(Spaces())
    policy = SoftmaxTabular((15,), (0.0,) * 4)
    with pytest.raises(ValueError, match="is for other spaces"):
        fastpg.policy_gradient(FrozenLake.make(), policy, policy.initial(), n_trajectories=2)
    policy = SoftmaxTabular.for_env(FrozenLake.make())
    with pytest.raises(ValueError, match="horizon=.*records its trajectories"):
        fastpg.policy_gradient(FrozenLake.make(), policy, policy.initial(), n_trajectories=2, horizon=2**30)
