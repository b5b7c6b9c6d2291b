"""The linear softmax policy: its probabilities, its draws, and its score, which is checked three ways."""

from typing import NamedTuple

import numba
import numpy as np
import oracles
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from scipy import stats

from fastpg import SoftmaxLinear
from fastpg.random import Rng

# Two actions (a formula of its own in compiled code) and more, with and without an offset.
POLICIES = [
    SoftmaxLinear(4, 2),
    SoftmaxLinear(4, 3),
    SoftmaxLinear(2, 5, first_action=-2),
    SoftmaxLinear(1, 2, first_action=7),
]
# A few roundings (1.1e-16 each) in sums of a handful of terms of size about 1.
ROUNDING = 1e-14


def sizes_of(policy):
    return f"F={policy.n_observations} A={policy.n_actions} first={policy.first_action}"


each_policy = pytest.mark.parametrize("policy", POLICIES, ids=sizes_of)


def theta_and_observations(policy, n=5, scale=1.0, seed=30):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, scale, policy.n_parameters), rng.normal(0.0, 1.0, (n, policy.n_observations))


def actions_of(policy):
    return range(policy.first_action, policy.first_action + policy.n_actions)


@numba.njit
def compiled_probabilities(policy, theta, observation):
    return policy.probabilities(theta, observation)


@numba.njit
def compiled_sample(policy, theta, observation, rng):
    return policy.sample(theta, observation, rng)


@numba.njit
def compiled_score(policy, theta, observation, action):
    return policy.score(theta, observation, action)


@numba.njit
def compiled_mode(policy, theta, observation):
    return policy.mode(theta, observation)


def as_compiled_code_has_it(*vectors):
    """Tuples of floats in a kernel; arrays where the jit is off."""
    if numba.config.DISABLE_JIT:
        return vectors
    return tuple(tuple(vector.tolist()) for vector in vectors)


@each_policy
def test_probabilities_are_the_softmax_of_the_logits(policy):
    theta, observations = theta_and_observations(policy)
    for observation in observations:
        expected = oracles.probabilities(theta, observation)
        np.testing.assert_allclose(policy.probabilities(theta, observation), expected, rtol=ROUNDING)
        assert policy.probabilities(theta, observation).sum() == pytest.approx(1.0, abs=1e-15 * len(expected))


@each_policy
def test_score_is_the_closed_form(policy):
    """(1{a = c} - π(c)) (observation, 1) for the row of each action c."""
    theta, observations = theta_and_observations(policy)
    for observation in observations:
        pi = oracles.probabilities(theta, observation)
        for index, action in enumerate(actions_of(policy)):
            expected = oracles.score(observation, index, pi)
            np.testing.assert_allclose(policy.score(theta, observation, action), expected, atol=ROUNDING)


@each_policy
def test_score_is_the_derivative_of_log_prob(policy):
    """Central differences with step h = 1e-5: truncation h² and rounding 1e-16 / h, both below 1e-9."""
    theta, observations = theta_and_observations(policy)
    h = 1e-5
    for observation in observations:
        for action in actions_of(policy):
            differences = [
                policy.log_prob(theta + step, observation, action)
                - policy.log_prob(theta - step, observation, action)
                for step in h * np.eye(policy.n_parameters)
            ]
            score = policy.score(theta, observation, action)
            np.testing.assert_allclose(np.array(differences) / (2 * h), score, rtol=0, atol=1e-9)


@each_policy
def test_expected_score_is_zero(policy):
    theta, observations = theta_and_observations(policy)
    for observation in observations:
        scores = [policy.score(theta, observation, action) for action in actions_of(policy)]
        assert np.abs(scores).max() > 0.1
        expectation = policy.probabilities(theta, observation) @ np.array(scores)
        np.testing.assert_allclose(expectation, 0.0, atol=ROUNDING)


@each_policy
def test_log_prob_is_the_logarithm_of_the_probability(policy):
    theta, observations = theta_and_observations(policy)
    log_probs = [policy.log_prob(theta, observations, np.full(5, action)) for action in actions_of(policy)]
    pi = policy.probabilities(theta, observations)
    np.testing.assert_allclose(np.transpose(log_probs), np.log(pi), rtol=1e-13, atol=ROUNDING)


@each_policy
def test_compiled_policy_is_the_python_one(policy):
    """Probabilities and scores but for rounding; actions exactly, draw by draw."""
    theta, observations = theta_and_observations(policy, n=60)
    seen = set()
    for i, observation in enumerate(observations):
        tuples = as_compiled_code_has_it(theta, observation)
        pi = policy.probabilities(theta, observation)
        np.testing.assert_allclose(compiled_probabilities(policy, *tuples), pi, rtol=2 * ROUNDING)
        for action in actions_of(policy):
            score = policy.score(theta, observation, action)
            np.testing.assert_allclose(compiled_score(policy, *tuples, action), score, atol=ROUNDING)
        rng = Rng(np.uint64(oracles.mix64(i)), np.uint64(1))
        action = compiled_sample(policy, *tuples, rng)
        assert action == policy.sample(theta, observation, rng)
        assert compiled_mode(policy, *tuples) == policy.mode(theta, observation)
        seen.add(action)
    assert seen == set(actions_of(policy))


@each_policy
def test_sample_is_distributed_as_the_probabilities(policy):
    """Chi-square at 0.1 % with a fixed seed, over a batch of one observation repeated."""
    theta, observations = theta_and_observations(policy, n=1)
    n = 20_000
    actions = policy.sample(theta, np.repeat(observations, n, axis=0), np.random.default_rng(31))
    counts = np.bincount(actions - policy.first_action, minlength=policy.n_actions)
    expected = n * np.array(oracles.probabilities(theta, observations[0]))
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@each_policy
def test_mode_is_the_most_probable_action(policy):
    theta, observations = theta_and_observations(policy, n=20)
    for observation in observations:
        best = int(np.argmax(oracles.probabilities(theta, observation)))
        assert policy.mode(theta, observation) == policy.first_action + best


@each_policy
def test_mode_of_the_uniform_policy_is_the_first_action(policy):
    observation = np.ones(policy.n_observations)
    theta = policy.initial()
    assert policy.mode(theta, observation) == policy.first_action
    assert compiled_mode(policy, *as_compiled_code_has_it(theta, observation)) == policy.first_action


@each_policy
@pytest.mark.parametrize("size", [1e3, 1e150, 1e300])
def test_huge_logits_do_not_overflow(policy, size):
    """Probabilities become 0 and 1, in ordinary Python and compiled; log_prob and score stay finite."""
    theta = np.zeros(policy.n_parameters)
    theta[policy.n_observations] = size  # the bias of the first action
    theta[-1] = -size  # that of the last
    observation = np.full(policy.n_observations, 0.5)
    expected = np.zeros(policy.n_actions)
    expected[0] = 1.0
    tuples = as_compiled_code_has_it(theta, observation)
    np.testing.assert_array_equal(policy.probabilities(theta, observation), expected)
    # simd.exp clamps its argument, so an impossible action keeps a probability below 1e-300.
    np.testing.assert_allclose(compiled_probabilities(policy, *tuples), expected, rtol=0, atol=1e-300)
    for action in actions_of(policy):
        assert np.isfinite(policy.log_prob(theta, observation, action))
        assert np.isfinite(policy.score(theta, observation, action)).all()
        assert np.isfinite(compiled_score(policy, *tuples, action)).all()


@each_policy
def test_batch_axes_come_in_front(policy):
    """A batch gives row by row what single observations give."""
    theta, flat = theta_and_observations(policy, n=6)
    batch = flat.reshape(2, 3, policy.n_observations)
    actions = policy.first_action + np.arange(6).reshape(2, 3) % policy.n_actions
    results = {
        "probabilities": policy.probabilities(theta, batch),
        "mode": policy.mode(theta, batch),
        "log_prob": policy.log_prob(theta, batch, actions),
        "score": policy.score(theta, batch, actions),
    }
    assert results["probabilities"].shape == (2, 3, policy.n_actions)
    assert results["mode"].shape == results["log_prob"].shape == (2, 3)
    assert results["score"].shape == (2, 3, policy.n_parameters)
    assert policy.sample(theta, batch, np.random.default_rng(0)).shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        single, action = batch[i, j], int(actions[i, j])
        np.testing.assert_allclose(
            results["probabilities"][i, j], policy.probabilities(theta, single), rtol=ROUNDING
        )
        assert results["mode"][i, j] == policy.mode(theta, single)
        log_prob = policy.log_prob(theta, single, action)
        np.testing.assert_allclose(results["log_prob"][i, j], log_prob, rtol=ROUNDING, atol=ROUNDING)
        np.testing.assert_allclose(results["score"][i, j], policy.score(theta, single, action), atol=ROUNDING)


@each_policy
def test_initial_is_the_uniform_policy(policy):
    theta = policy.initial()
    assert theta.dtype == np.float64
    assert theta.shape == (policy.n_parameters,) == (policy.n_actions * (policy.n_observations + 1),)
    pi = policy.probabilities(theta, np.ones(policy.n_observations))
    np.testing.assert_allclose(pi, 1 / policy.n_actions, rtol=1e-15)


@each_policy
def test_what_does_not_go_with_the_policy_is_refused(policy):
    """In ordinary Python: an action that it has not would else be another one, counted from the end."""
    theta, observations = theta_and_observations(policy)
    for action in (policy.first_action - 1, policy.first_action + policy.n_actions):
        for method in (policy.log_prob, policy.score):
            with pytest.raises(ValueError, match=f"action: must be one of {policy.n_actions}"):
                method(theta, observations, np.full(5, action))
    for wrong in (observations[:, :0].sum(), np.zeros(policy.n_parameters)):
        with pytest.raises(ValueError, match="observation: has shape"):
            policy.probabilities(theta, wrong)


class Spaces(NamedTuple):
    observation_space: object
    action_space: object


def test_for_env_takes_sizes_and_offset_from_the_spaces(env):
    assert SoftmaxLinear.for_env(env) == SoftmaxLinear(4, 2, 0)
    spaces = Spaces(Box(-1.0, 1.0, (3,)), Discrete(5, start=-2))
    assert SoftmaxLinear.for_env(spaces) == SoftmaxLinear(3, 5, -2)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (Discrete(4), Discrete(2), r"env: .*one-dimensional Box.*Discrete\(4\)"),
        (Box(-1.0, 1.0, (3, 3)), Discrete(2), r"env: .*one-dimensional Box"),
        (Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (1,)), r"env: .*Discrete actions.*Box"),
        (Box(-1.0, 1.0, (3,)), MultiDiscrete([2, 2]), r"env: .*Discrete actions.*MultiDiscrete"),
    ],
)
def test_for_env_explains_which_spaces_it_needs(observations, actions, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxLinear.for_env(Spaces(observations, actions))
