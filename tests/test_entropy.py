"""The entropy bonus: entropies and their derivatives, and the gradient of the objective with it."""

import numba
import numpy as np
import pytest
from fastpg.envs import FiniteMDP
from test_gpomdp import MDP, THETA, Logistic, reward_to_go_expectation

from fastpg import (
    GPOMDP,
    REINFORCE,
    GaussianLinear,
    RewardToGo,
    SoftmaxLinear,
    SoftmaxTabular,
    exact,
    make,
    policy_gradient,
)

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")


class LogisticWithEntropy(Logistic):
    """The user's policy of the other tests, with its entropy."""

    __slots__ = ()

    def entropy(self, theta, observation):
        p = self._chance(theta, observation)
        return -p * np.log(p) - (1.0 - p) * np.log(1.0 - p)

    def entropy_score(self, theta, observation):
        p = self._chance(theta, observation)
        slope = -p * (1.0 - p) * (np.log(p) - np.log(1.0 - p))
        return slope, slope * observation, slope * observation**2


POLICIES = [
    (SoftmaxLinear(4, 2), np.array([0.3, -0.2, 1.1, 0.4])),
    (SoftmaxLinear(2, 3, 5), np.array([0.3, -1.2])),
    (GaussianLinear(3, (0.3, -0.5), 0), np.array([0.3, -0.2, 1.1])),
    (GaussianLinear(3, (0.3, -0.5), 2), np.array([0.3, -0.2, 1.1])),
    (GaussianLinear(3, (0.3, -0.5), 8), np.array([0.3, -0.2, 1.1])),
    (LogisticWithEntropy(), 2),
]


@pytest.mark.parametrize(("policy", "observation"), POLICIES)
def test_entropy_score_is_the_derivative(policy, observation):
    """Central differences, to 1e-8."""
    theta = np.random.default_rng(3).normal(size=policy.n_parameters)
    h = 1e-5
    differences = [
        (policy.entropy(theta + h * e, observation) - policy.entropy(theta - h * e, observation)) / (2 * h)
        for e in np.eye(len(theta))
    ]
    np.testing.assert_allclose(policy.entropy_score(theta, observation), differences, atol=1e-8)


def test_softmax_entropy_is_its_definition():
    policy = SoftmaxLinear(2, 3)
    theta = np.random.default_rng(4).normal(size=9)
    observations = np.random.default_rng(5).normal(size=(6, 2))
    p = policy.probabilities(theta, observations)
    np.testing.assert_allclose(policy.entropy(theta, observations), -(p * np.log(p)).sum(axis=1), rtol=1e-13)
    # However small a probability is.
    assert policy.entropy(theta * 1e4, observations[0]) == pytest.approx(0.0, abs=1e-300)
    assert np.isfinite(policy.entropy_score(theta * 1e4, observations[0])).all()


def test_gaussian_entropy_is_its_definition():
    """Of independent components, ½ log(2πe σ²) each."""
    policy = GaussianLinear(3, (0.3, -0.5), 0)
    expected = 0.5 * np.log(2 * np.pi * np.e * np.exp([0.6, -1.0])).sum()
    assert policy.entropy(policy.initial(), np.zeros(3)) == pytest.approx(expected, rel=1e-14)


@needs_jit
@pytest.mark.parametrize(("policy", "observation"), POLICIES[:-1])
def test_compiled_entropies_are_the_ordinary_ones(policy, observation):
    theta = np.random.default_rng(3).normal(size=policy.n_parameters)

    @numba.njit
    def compiled(policy, theta, observation):
        return policy.entropy(theta, observation), policy.entropy_score(theta, observation)

    entropy, score = compiled(policy, tuple(theta), tuple(observation))
    assert entropy == pytest.approx(policy.entropy(theta, observation), rel=1e-12)
    np.testing.assert_allclose(score, policy.entropy_score(theta, observation), rtol=1e-11, atol=1e-14)


def with_bonus(policy, theta, beta):
    """The process whose rewards have β H(s) added, for this θ."""
    probability, successor, reward, ends = MDP.outcomes
    bonus = beta * np.array([policy.entropy(theta, s) for s in range(MDP.n_states)])
    return FiniteMDP.from_outcomes(
        probability, successor, reward + bonus[:, None, None], ends, MDP.start, horizon=MDP.horizon
    )


@needs_jit
@pytest.mark.parametrize(
    ("kind", "baseline", "tabular"),
    [(GPOMDP, baseline, tabular) for baseline in ("none", "time", "value") for tabular in (False, True)]
    + [(REINFORCE, "mean", False), (REINFORCE, "time", True)],
)
def test_gradient_is_that_of_the_objective_with_the_bonus(kind, baseline, tabular):
    """Of E[Σ γ^t (r_t + β H_t)], by central differences of the exact value; N = 400,000, 4.5 errors."""
    policy = SoftmaxTabular.for_env(MDP) if tabular else LogisticWithEntropy()
    theta = np.random.default_rng(1).normal(0.0, 0.7, policy.n_parameters) if tabular else THETA
    beta, gamma, h = 0.7, 0.8, 1e-5

    def objective(theta):
        mdp = with_bonus(policy, theta, beta)
        return exact.policy_gradient(mdp, policy, theta, discount=gamma).expected_return

    truth = [(objective(theta + h * e) - objective(theta - h * e)) / (2 * h) for e in np.eye(len(theta))]
    estimator = kind(discount=gamma, baseline=baseline, entropy=beta)
    estimate = policy_gradient(MDP, policy, theta, estimator, n_trajectories=400_000, seed=5)
    assert (np.abs(estimate.gradient - truth) < 4.5 * estimate.standard_error).all()
    without = exact.policy_gradient(MDP, policy, theta, discount=gamma).gradient
    assert (np.abs(estimate.gradient - without) > 10 * estimate.standard_error).any()


@needs_jit
@pytest.mark.parametrize("tabular", [False, True])
def test_reward_to_go_has_the_bonus_of_its_definition(tabular):
    """Every score times what follows, bonuses too, with γ from then on; and ∇H_t, without γ^t."""
    policy = SoftmaxTabular.for_env(MDP) if tabular else LogisticWithEntropy()
    theta = np.random.default_rng(1).normal(0.0, 0.7, policy.n_parameters) if tabular else THETA
    beta, gamma = 0.7, 0.8
    mdp = with_bonus(policy, theta, beta)
    expected = reward_to_go_expectation(mdp, policy, theta, gamma, MDP.horizon)
    probability, successor, _, ends = MDP.outcomes
    pi = np.array([policy.probabilities(theta, s) for s in range(MDP.n_states)])
    slopes = []
    for s in range(MDP.n_states):
        if tabular:
            whole = np.zeros((MDP.n_states, 2))
            whole[s] = policy.entropy_factor(theta, s)
            slopes.append(whole.ravel())
        else:
            slopes.append(np.array(policy.entropy_score(theta, s)))
    alive = MDP.start.copy()
    for _ in range(MDP.horizon):
        expected = expected + beta * alive @ np.array(slopes)
        flow = (alive[:, None] * pi)[..., None] * probability * ~ends
        alive = np.bincount(successor.ravel(), flow.ravel(), minlength=MDP.n_states)
    estimator = RewardToGo(gamma, "time", entropy=beta)
    estimate = policy_gradient(MDP, policy, theta, estimator, n_trajectories=400_000, seed=6)
    assert (np.abs(estimate.gradient - expected) < 4.5 * estimate.standard_error).all()


@needs_jit
def test_gaussian_bonus_widens():
    """On a bandit-like horizon of one step, the bonus adds β to the derivative by log σ, and nothing else."""
    env = make("Pendulum-v1")
    policy = GaussianLinear.for_env(env)
    settings = {"n_trajectories": 1000, "seed": 1, "horizon": 1}
    with_it = policy_gradient(env, policy, policy.initial(), GPOMDP(entropy=0.3), **settings).gradient
    without = policy_gradient(env, policy, policy.initial(), GPOMDP(), **settings).gradient
    np.testing.assert_allclose(with_it - without, [0.0, 0.0, 0.0, 0.0, 0.3], atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (GPOMDP(entropy="0.1"), TypeError, "entropy='0.1': must be a number"),
        (GPOMDP(entropy=float("inf")), ValueError, "entropy=inf: must be finite"),
        (REINFORCE("optimal", entropy=0.1), ValueError, "baseline='optimal': is for the return alone"),
        (RewardToGo(entropy=0.1), TypeError, "entropy=0.1: Logistic lacks entropy and entropy_score"),
    ],
)
def test_bad_bonuses_are_refused(estimator, error, message):
    with pytest.raises(error, match=message):
        policy_gradient(MDP, Logistic(), THETA, estimator, n_trajectories=10)
