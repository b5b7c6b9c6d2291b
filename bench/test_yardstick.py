"""The C yardstick computes what fastpg computes: same trajectories, same sums, before anyone times it.

Rounding differs (-ffast-math, other polynomials), and CartPole is chaotic, so now and then a draw that
falls within rounding of a probability takes the other action and a trajectory ends elsewhere. Short
episodes agree to rounding, long ones to a fraction of a standard error.
"""

import numpy as np
import pytest

import fastpg
from bench.policies import BALANCING, UNIFORM
from bench.references import yardstick

pytestmark = pytest.mark.skipif(yardstick.compiler() is None, reason="the C yardstick needs gcc")

ENV = fastpg.make("CartPole-v1")
POLICY = fastpg.SoftmaxLinear.for_env(ENV)
TILTED = np.array([0.3, -0.5, 1.0, 0.2, 0.1, -0.2, 0.4, -1.5, 0.3, 0.0])


def estimate(theta, n, baseline="none", **options):
    """Return fastpg's estimate."""
    return fastpg.policy_gradient(ENV, POLICY, theta, fastpg.REINFORCE(baseline), n_trajectories=n, **options)


@pytest.mark.parametrize("n", [1, 7, 8, 31, 32, 33, 1000, 4097])
def test_short_trajectories_agree_to_rounding(n):
    """Whatever the chunks and lanes leave over: none is lost, none counted twice."""
    ours, c = estimate(TILTED, n, seed=5), yardstick.gradient(TILTED, n, seed=5)
    assert c.n_steps == ours.n_steps
    assert c.mean_return == ours.mean_return
    np.testing.assert_allclose(c.gradient, ours.gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("theta", [UNIFORM, TILTED, BALANCING], ids=["uniform", "tilted", "balancing"])
def test_same_gradient(theta, seed):
    """Within one standard error, and as many steps to one in a thousand."""
    ours, c = estimate(theta, 20_000, seed=seed), yardstick.gradient(theta, 20_000, seed=seed, threads=2)
    assert np.all(np.abs(c.gradient - ours.gradient) <= ours.standard_error)
    assert abs(c.n_steps - ours.n_steps) <= 1e-3 * ours.n_steps
    assert abs(c.mean_return - ours.mean_return) <= ours.return_standard_error


@pytest.mark.parametrize("theta", [UNIFORM, TILTED, BALANCING], ids=["uniform", "tilted", "balancing"])
def test_float32_lanes(theta):
    """Rounding sends trajectories other ways, chaotic as CartPole is; the gradient stays within its error."""
    n = 100_000
    single = yardstick.load(yardstick.SINGLE, yardstick.SINGLE_LANES)
    ours, c = estimate(theta, n, seed=1), yardstick.gradient(theta, n, seed=1, threads=2, library=single)
    assert np.all(np.abs(c.gradient - ours.gradient) <= 4.0 * ours.standard_error)
    assert abs(c.mean_return - ours.mean_return) <= 4.0 * ours.return_standard_error


def test_same_horizon():
    """A horizon cuts trajectories off at the same step."""
    ours, c = estimate(UNIFORM, 1000, horizon=15), yardstick.gradient(UNIFORM, 1000, horizon=15)
    assert c.n_steps == ours.n_steps < 15_000


def test_same_sums():
    """C does all of the work: its sums give fastpg's standard errors and baselines."""
    n = 20_000
    c, n_steps = yardstick.sums(TILTED, n, seed=3)
    plain, mean, optimal = (estimate(TILTED, n, b, seed=3) for b in ("none", "mean", "optimal"))

    error = np.sqrt((c.s2r2 / n - (c.sr / n) ** 2) / (n - 1))
    np.testing.assert_allclose(error, plain.standard_error, rtol=1e-9)
    np.testing.assert_allclose((c.sr - c.r / n * c.s) / (n - 1), mean.gradient, rtol=1e-6)
    return_error = np.sqrt((c.r2 / n - (c.r / n) ** 2) / (n - 1))
    np.testing.assert_allclose(return_error, plain.return_standard_error, rtol=1e-9)
    assert c.length == n_steps == plain.n_steps
    one_group = (c.sr - c.s2r / c.s2 * c.s) / n  # fastpg leaves a sixteenth out of each baseline
    assert np.all(np.abs(one_group - optimal.gradient) <= 0.1 * optimal.standard_error)


def test_threads_change_the_rounding_only():
    """Chunks are the same on two threads; the order of their sum is not."""
    one, two = (yardstick.gradient(UNIFORM, 10_000, threads=threads) for threads in (1, 2))
    assert one.n_steps == two.n_steps
    np.testing.assert_allclose(one.gradient, two.gradient, rtol=1e-9, atol=1e-9)
