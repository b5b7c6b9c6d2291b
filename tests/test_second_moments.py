"""Covariance, Fisher information, the natural gradient, and sampling until an estimate is precise."""

import numba
import numpy as np
import oracles
import pytest
from test_gpomdp import MDP, THETA, Logistic, terms

from fastpg import GPOMDP, REINFORCE, RewardToGo, SoftmaxTabular, exact, policy_gradient
from fastpg.estimators import gradient
from fastpg.estimators.baselines import Constant
from fastpg.estimators.natural import fisher_vector_product, natural_gradient
from fastpg.estimators.problem import Problem

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="needs compiled kernels")
HORIZON, N = (40, 200) if not numba.config.DISABLE_JIT else (12, 20)
ESTIMATORS = [
    *(REINFORCE(baseline) for baseline in ("none", "mean", "optimal")),
    REINFORCE("optimal", 0.9),
    GPOMDP(0.9),
    GPOMDP(0.9, "value"),
    RewardToGo(0.9, "time"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_covariance_of_the_estimate(env, policy, theta, estimator):
    """Its diagonal is the squared standard error; without a pilot batch, all of it is NumPy's."""
    estimate = policy_gradient(
        env, policy, theta, estimator, n_trajectories=N, seed=2, horizon=HORIZON, covariance=True
    )
    np.testing.assert_allclose(np.diag(estimate.covariance), estimate.standard_error**2, rtol=1e-9)
    trajectories = oracles.simulate(theta, N, 2, HORIZON)
    if isinstance(estimator, REINFORCE):
        gamma = estimator.discount
        returns = np.array([gamma ** np.arange(len(r)) @ r for _, _, r in trajectories.steps])
        x = oracles.terms(trajectories.scores, returns, estimator.baseline)
    elif estimator.baseline == "none":
        x = terms(trajectories.steps, estimator, Constant(0.0))
    else:
        return
    expected = np.cov(x, rowvar=False) / N
    np.testing.assert_allclose(estimate.covariance, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("estimator", [REINFORCE("mean"), GPOMDP(0.9, "time")])
def test_fisher_information_is_the_second_moment_of_scores(env, policy, theta, estimator):
    estimate = policy_gradient(
        env, policy, theta, estimator, n_trajectories=N, seed=2, horizon=HORIZON, fisher=True
    )
    scores = oracles.simulate(theta, N, 2, HORIZON).scores
    np.testing.assert_allclose(estimate.fisher, scores.T @ scores / N, rtol=1e-10, atol=1e-12)
    assert estimate.covariance is None


@needs_jit
def test_fisher_information_and_covariance_are_the_exact_ones():
    """N = 400,000, within 2 % of the largest entry."""
    estimate = policy_gradient(
        MDP, Logistic(), THETA, REINFORCE("mean"), n_trajectories=400_000, covariance=True, fisher=True
    )
    truth = exact.policy_gradient(MDP, Logistic(), THETA, covariance=True)
    covariance = truth.baseline_covariance("mean") / 400_000
    for given, expected in ((estimate.fisher, truth.fisher), (estimate.covariance, covariance)):
        np.testing.assert_allclose(given, expected, atol=0.02 * np.abs(expected).max())


@needs_jit
def test_conjugate_gradients_solve_what_the_matrix_solves():
    """A tabular policy, whose Fisher information is singular and whose trajectories are recorded."""
    policy = SoftmaxTabular.for_env(MDP)
    theta = np.random.default_rng(0).normal(size=policy.n_parameters)
    estimate = policy_gradient(MDP, policy, theta, REINFORCE("mean"), n_trajectories=5000, fisher=True)
    asked = Problem(MDP, policy, theta, 5000, MDP.horizon, 0, 0, None, [])
    product = fisher_vector_product(asked, theta)
    np.testing.assert_allclose(product, estimate.fisher @ theta, rtol=1e-10, atol=1e-12)
    dense = natural_gradient(estimate.gradient, estimate.fisher, 1e-3)
    iterated = natural_gradient(estimate.gradient, lambda v: fisher_vector_product(asked, v), 1e-3)
    np.testing.assert_allclose(iterated, dense, atol=1e-5 * np.abs(dense).max())


def test_tabular_natural_gradient_is_the_advantage():
    """Exact F and ∇J: x with F x = ∇J is E[Σ_t A_t | s, a] over the visits to s, up to what F cannot see.

    A single visit a trajectory: a state for each step, so the natural gradient is the advantage itself
    (Kakade 2002, theorem 2).
    """
    from fastpg.envs import FiniteMDP

    rng = np.random.default_rng(3)
    depth, width = 4, 3
    n_states = depth * width
    transition = np.zeros((n_states, 2, n_states))
    for layer in range(depth):
        rows = slice(layer * width, (layer + 1) * width)
        ahead = ((layer + 1) % depth) * width
        transition[rows, :, ahead : ahead + width] = rng.dirichlet(np.ones(width), (width, 2))
    start = np.zeros(n_states)
    start[:width] = 1 / width
    reward = rng.normal(size=(n_states, 2))
    mdp = FiniteMDP.from_arrays(transition, reward, start, horizon=depth)
    policy = SoftmaxTabular.for_env(mdp)
    theta = rng.normal(size=policy.n_parameters)
    truth = exact.policy_gradient(mdp, policy, theta, covariance=True)
    pi = np.array([policy.probabilities(theta, s) for s in range(n_states)])
    values = np.zeros(n_states)
    advantage = np.zeros((n_states, 2))
    for layer in reversed(range(depth)):
        rows = slice(layer * width, (layer + 1) * width)
        q = reward[rows] + transition[rows] @ (values if layer < depth - 1 else np.zeros(n_states))
        values[rows] = (pi[rows] * q).sum(axis=1)
        advantage[rows] = q - values[rows, None]
    natural = natural_gradient(truth.gradient, truth.fisher).reshape(n_states, 2)
    # The shortest solution has mean 0 in each state; the advantage is one with mean 0 under the policy.
    natural -= (pi * natural).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(natural, advantage, rtol=1e-8, atol=1e-9)


@needs_jit
@pytest.mark.parametrize("estimator", [REINFORCE("mean"), REINFORCE("optimal"), GPOMDP(0.9)])
def test_sampling_until_precise_is_a_fixed_batch(env, policy, theta, estimator):
    """It ends precise enough, and is the batch of the N that it ended with, to rounding."""
    until = policy_gradient(env, policy, theta, estimator, relative_error=0.05, seed=4)
    assert np.linalg.norm(until.standard_error) <= 0.05 * np.linalg.norm(until.gradient)
    assert until.n_trajectories > 1024
    fixed = policy_gradient(env, policy, theta, estimator, n_trajectories=until.n_trajectories, seed=4)
    np.testing.assert_allclose(until.gradient, fixed.gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(until.standard_error, fixed.standard_error, rtol=1e-10)
    assert (until.n_steps, until.mean_return) == (fixed.n_steps, pytest.approx(fixed.mean_return, rel=1e-13))


def test_sampling_stops_at_the_most_allowed(env, policy, theta):
    estimate = policy_gradient(env, policy, theta, relative_error=1e-6, max_trajectories=100, horizon=5)
    assert estimate.n_trajectories == 100


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, TypeError, "n_trajectories=None: must be an integer"),
        ({"n_trajectories": 5, "relative_error": 0.1}, ValueError, "n_trajectories=5: must not be given"),
        ({"relative_error": 0.0}, ValueError, "relative_error=0.0: must be positive"),
        ({"relative_error": "1"}, TypeError, "relative_error='1': must be a number"),
        ({"relative_error": 0.1, "max_trajectories": 1}, ValueError, "max_trajectories=1: must be between 2"),
    ],
)
def test_bad_arguments_are_refused(env, policy, theta, changes, error, message):
    with pytest.raises(error, match=message):
        policy_gradient(env, policy, theta, **changes)


@needs_jit
def test_of_many_parameters_no_matrix_is_formed(monkeypatch):
    """The information is what multiplies; it and its natural gradient are those of the matrix."""
    policy = SoftmaxTabular.for_env(MDP)
    theta = np.random.default_rng(0).normal(size=policy.n_parameters)
    asked = {"n_trajectories": 3000, "fisher": True, "seed": 2, "first_trajectory": 10}
    matrix = policy_gradient(MDP, policy, theta, REINFORCE("mean"), **asked)
    monkeypatch.setattr(gradient, "MAX_DENSE", policy.n_parameters - 1)
    products = policy_gradient(MDP, policy, theta, REINFORCE("mean"), **asked)
    np.testing.assert_array_equal(products.gradient, matrix.gradient)
    np.testing.assert_allclose(products.fisher(theta), matrix.fisher @ theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(products.fisher.diagonal, np.diagonal(matrix.fisher), rtol=1e-10)
    found, expected = (natural_gradient(e.gradient, e.fisher, 1e-3) for e in (products, matrix))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(ValueError, match="covariance=True: a matrix of"):
        policy_gradient(MDP, policy, theta, n_trajectories=10, covariance=True)


def test_conjugate_gradients_stay_where_the_matrix_sees_next_to_nothing():
    """A gradient beyond the range of a singular matrix: not ten times as far as the shortest solution."""
    rng = np.random.default_rng(1)
    n, rank = 200, 40
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0][:, :rank]
    fisher = basis * rng.uniform(0.5, 2.0, rank) @ basis.T
    inside, outside = basis @ rng.normal(size=rank), rng.normal(size=n)
    solved = natural_gradient(inside, lambda v: fisher @ v)
    np.testing.assert_allclose(solved, natural_gradient(inside, fisher), atol=1e-5 * np.abs(solved).max())
    shortest = natural_gradient(inside + 0.1 * outside, fisher)
    found = natural_gradient(inside + 0.1 * outside, lambda v: fisher @ v)
    assert np.linalg.norm(found) < 10 * np.linalg.norm(shortest)
    assert found @ (inside + 0.1 * outside) > 0


def test_a_few_steps_of_conjugate_gradients_are_of_use():
    """Where the residual grows at first: eigenvalues from 1e-5 to 1. The gain is that in bᵀx - ½ xᵀFx."""
    rng = np.random.default_rng(0)
    values, b = np.geomspace(1e-5, 1.0, 1000), rng.normal(size=1000)

    def gain(iterations):
        x = natural_gradient(b, lambda v: values * v, 1e-2, iterations)
        return b @ x - 0.5 * x @ ((values + 1e-2) * x)

    most = 0.5 * b @ (b / (values + 1e-2))
    gains = [gain(iterations) / most for iterations in (1, 5, 10, 50)]
    assert 0 < gains[0] < gains[1] < gains[2] < gains[3] <= 1 and gains[1] > 0.5 and gains[3] > 0.99


def test_what_is_not_a_number_stays_none():
    assert np.isnan(natural_gradient(np.array([np.nan, 1.0]), lambda v: v)).all()
    assert np.isnan(natural_gradient(np.ones(2), lambda v: v * np.nan)).all()
