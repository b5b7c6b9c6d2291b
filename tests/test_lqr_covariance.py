"""Exact covariances on the linear-quadratic environment, against quadrature."""

import itertools
import math

import numpy as np
import pytest
from fastpg.envs import LinearQuadratic

from fastpg import GPOMDP, REINFORCE, GaussianLinear, RewardToGo, exact
from fastpg.estimators.baselines import LinearValue
from fastpg.exact.linear_quadratic_covariance import _quadratic

STEPS = 2
ENV = LinearQuadratic.from_matrices(
    [[0.8]], [[0.6]], [[1.1]], [[0.3]], noise=0.2, start_mean=[0.4], start_covariance=0.7, horizon=STEPS
)
LEARNED = GaussianLinear.for_env(ENV)
THETA = np.array([-0.3, 0.25, -0.4])
VALUE = LinearValue((0.3, -0.9, 0.2), (0.1, -0.2, 0.05), STEPS, float(STEPS))


def played():
    """Weights, scores (points, T, 3), rewards and states (points, T) at the points of a quadrature.

    Products of four quadratic forms have degree 8 in what is drawn; five points of Gauss and Hermite's rule
    in each dimension integrate degree 9 exactly. Written down from the environment's definition.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / math.sqrt(2 * math.pi)
    drawn = np.array(list(itertools.product(nodes, repeat=4)))  # start, action, noise, action
    weight = np.array([math.prod(point) for point in itertools.product(weights, repeat=4)])
    w, bias, log_std = THETA
    x = 0.4 + math.sqrt(0.7) * drawn[:, 0]
    scores, rewards, states = [], [], []
    for xi, noise in ((drawn[:, 1], drawn[:, 2]), (drawn[:, 3], 0.0)):
        u = w * x + bias + math.exp(log_std) * xi
        scores.append(np.stack([xi * x, xi, (xi**2 - 1) * math.exp(log_std)], axis=-1) / math.exp(log_std))
        rewards.append(-1.1 * x**2 - 0.3 * u**2)
        states.append(x)
        x = 0.8 * x + 0.6 * u + math.sqrt(0.2) * noise
    return weight, np.stack(scores, axis=1), np.stack(rewards, axis=1), np.stack(states, axis=1)


def moments(estimator, levels):
    """Mean and covariance of the term with these baselines, (points or 1, T) or (points or 1, T, 3)."""
    weight, scores, rewards, _ = played()
    gamma = estimator.discount
    to_go = np.stack([rewards[:, 0] + gamma * rewards[:, 1], rewards[:, 1]], axis=1)
    if isinstance(estimator, REINFORCE):
        to_go = np.broadcast_to(to_go[:, :1], to_go.shape)
    power = gamma ** np.arange(STEPS) if isinstance(estimator, GPOMDP) else np.ones(STEPS)
    levels = levels if np.ndim(levels) == 3 else np.atleast_2d(levels)[..., np.newaxis]
    terms = np.sum(power[:, np.newaxis] * scores * (to_go[..., np.newaxis] - levels), axis=1)
    mean = weight @ terms
    return mean, (weight[:, np.newaxis] * (terms - mean)).T @ (terms - mean), to_go, weight


ESTIMATORS = REINFORCE(discount=0.9), REINFORCE(), GPOMDP(0.9), GPOMDP(1.0), RewardToGo(0.9)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_covariance_without_a_baseline_and_with_constants(estimator):
    for baseline, levels in (("none", 0.0), (-1.5, -1.5), ([-1.0, -0.25], [-1.0, -0.25])):
        covariance = exact.lqr_covariance(ENV, LEARNED, THETA, estimator, baseline=baseline)
        np.testing.assert_allclose(covariance, moments(estimator, levels)[1], rtol=1e-11)
    np.testing.assert_array_equal(
        exact.lqr_covariance(ENV, LEARNED, THETA, estimator),
        exact.lqr_covariance(ENV, LEARNED, THETA, estimator, baseline=0.0),
    )


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_covariance_with_means(estimator):
    _, _, to_go, weight = moments(estimator, 0.0)
    means = weight @ to_go
    for baseline, levels in (("mean", means.mean()), ("time", means)):
        named = estimator._replace(baseline=baseline)
        covariance = exact.lqr_covariance(ENV, LEARNED, THETA, named)
        np.testing.assert_allclose(covariance, moments(estimator, levels)[1], rtol=1e-11)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_covariance_with_a_value_function(estimator):
    states = played()[3]
    levels = np.stack([[VALUE.value((x,), t) for x in states[:, t]] for t in range(STEPS)], axis=1)
    covariance = exact.lqr_covariance(ENV, LEARNED, THETA, estimator, baseline=VALUE)
    np.testing.assert_allclose(covariance, moments(estimator, levels)[1], rtol=1e-11)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_the_optimal_constant_has_the_least_variance(estimator):
    """A parabola in the constant, whose minimum is known from three of its values."""
    best = np.diag(exact.lqr_covariance(ENV, LEARNED, THETA, estimator._replace(baseline="optimal")))
    at = np.array([np.diag(moments(estimator, level)[1]) for level in (-1.0, 0.0, 1.0)])
    curvature, slope = (at[0] + at[2]) / 2 - at[1], (at[2] - at[0]) / 2
    np.testing.assert_allclose(best, at[1] - slope**2 / (4 * curvature), rtol=1e-10)
    level = -slope / (2 * curvature)
    levels = np.broadcast_to(level, (1, STEPS, 3))
    covariance = exact.lqr_covariance(ENV, LEARNED, THETA, estimator._replace(baseline="optimal"))
    np.testing.assert_allclose(covariance, moments(estimator, levels)[1], rtol=1e-10)


@pytest.mark.parametrize("estimator", [REINFORCE(discount=0.9), GPOMDP(0.9), GPOMDP(1.0)], ids=str)
def test_the_mean_of_the_quadrature_is_the_gradient(estimator):
    """So that it is the right environment that the covariances are held against."""
    truth = exact.lqr_gradient(ENV, LEARNED, THETA, discount=estimator.discount).gradient
    np.testing.assert_allclose(moments(estimator, 0.0)[0], truth, rtol=1e-12)


def test_fixed_log_std_has_the_rows_of_the_weights():
    fixed = GaussianLinear.for_env(ENV, log_std=-0.4)
    learned = exact.lqr_covariance(ENV, LEARNED, THETA, GPOMDP(0.9))
    np.testing.assert_allclose(
        exact.lqr_covariance(ENV, fixed, THETA[:2], GPOMDP(0.9)), learned[:2, :2], rtol=1e-13
    )


def test_a_quadratic_function_is_found_from_its_values():
    rng = np.random.default_rng(1)
    B = rng.normal(size=(4, 4))
    B = B + B.T

    class Quadratic:
        def value(self, observation, time):
            z = np.append(observation, 1.0)
            return (1 + time) * (z @ B @ z)

    np.testing.assert_allclose(_quadratic(Quadratic(), 3, 2), 3 * B, rtol=1e-12, atol=1e-12)


class Cubic:
    def value(self, observation, time):
        return observation[0] ** 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"estimator": "REINFORCE"}, TypeError, "estimator=.*must be a REINFORCE, a GPOMDP or a RewardToGo"),
        ({"estimator": GPOMDP(0.9, entropy=0.1)}, ValueError, "must have entropy=0"),
        ({"baseline": "best"}, ValueError, "baseline='best': must be"),
        ({"estimator": GPOMDP(0.9, "value")}, ValueError, "baseline='value': must be"),
        ({"baseline": [1.0, 2.0, 3.0]}, ValueError, r"has the shape \(3,\), must have \(\) or \(2,\)"),
        ({"baseline": math.nan}, ValueError, "baseline=nan: must be finite"),
        ({"baseline": Cubic()}, ValueError, "must be at most quadratic in the state"),
        ({"horizon": 0}, ValueError, "horizon=0"),
        ({"horizon": 10_000}, ValueError, "GiB of memory"),
        ({"theta": THETA[:2]}, ValueError, "theta: has shape"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    arguments = {"env": ENV, "policy": LEARNED, "theta": THETA, "estimator": GPOMDP(0.9)} | changes
    with pytest.raises(error, match=message):
        exact.lqr_covariance(**arguments)
