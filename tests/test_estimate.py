"""An estimate: its signal-to-noise ratio, intervals, table and line; Student's t."""

import math
import warnings

import numba
import numpy as np
import pytest
from scipy import stats

import fastpg
from fastpg.intervals import student_t


def estimate_of(gradient, standard_error, n_trajectories=100, **more):
    return fastpg.Estimate(
        gradient=np.array(gradient, float),
        standard_error=np.array(standard_error, float),
        mean_return=12.5,
        return_standard_error=0.25,
        mean_length=12.5,
        n_trajectories=n_trajectories,
        n_steps=1250,
        seconds=0.5,
        **more,
    )


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 9, 10, 30, 99, 999, 10**5, 10**6, 10**7, 10**12])
def test_quantiles_of_students_t(degrees):
    assert student_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-6)


def test_a_single_value_has_no_interval():
    assert math.isnan(student_t(0))


def test_signal_to_noise_is_the_ratio_of_the_norms():
    assert estimate_of([3.0, 4.0], [0.3, 0.4]).signal_to_noise == pytest.approx(10.0, rel=1e-15)


def test_signal_to_noise_where_there_is_no_noise_or_none_is_known():
    assert math.isnan(estimate_of([1.0], [np.nan], n_trajectories=1).signal_to_noise)
    assert math.isnan(estimate_of([0.0], [0.0]).signal_to_noise)
    assert estimate_of([1.0], [0.0]).signal_to_noise == math.inf


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a million trajectories")
def test_noise_alone_has_a_ratio_near_one_and_signal_grows_as_the_root_of_n(env, policy):
    """Every reward of CartPole is 1, so with a horizon of 1 all returns are equal: the gradient is 0."""
    theta = policy.initial()
    squares = [
        fastpg.policy_gradient(env, policy, theta, n_trajectories=200, horizon=1, seed=s).signal_to_noise ** 2
        for s in range(100)
    ]
    # E‖∇Ĵ‖² = tr Cov(∇Ĵ) without a signal, so the mean of the squares is 1, within its standard error.
    assert abs(np.mean(squares) - 1) < 4 * np.std(squares) / 10
    few, many = (fastpg.policy_gradient(env, policy, theta, n_trajectories=n) for n in (10**4, 10**6))
    error = np.linalg.norm(few.standard_error) / np.linalg.norm(few.gradient)  # of the former ratio, about
    assert many.signal_to_noise / few.signal_to_noise == pytest.approx(10, rel=4 * error)


def test_confidence_intervals_cover():
    estimate = estimate_of([1.0, -2.0], [0.1, 0.2], n_trajectories=10)
    width = stats.t.ppf(0.975, 9) * estimate.standard_error
    expected = np.column_stack([estimate.gradient - width, estimate.gradient + width])
    np.testing.assert_allclose(estimate.confidence_interval, expected, rtol=1e-6)


def test_the_table_holds_every_number():
    text = str(estimate_of([0.5, -1.25], [0.01, 0.02], n_trajectories=10**6))
    assert text.splitlines() == [
        "∇J(θ) from 1,000,000 trajectories, 1,250 steps in 0.5 s",
        "mean return 12.5 ± 0.25, mean length 12.5",
        "signal-to-noise ratio 60.21",
        "component     gradient  std. error                95 % interval",
        "        0          0.5        0.01 [      0.4804,       0.5196]",
        "        1        -1.25        0.02 [     -1.2892,      -1.2108]",
    ]


def test_the_middle_of_a_long_table_is_left_out():
    lines = str(estimate_of(np.arange(500.0), np.ones(500))).splitlines()[4:]
    shown = [line.split()[0] for line in lines]
    assert shown == [*map(str, range(10)), "…", *map(str, range(490, 500))]
    whole = str(estimate_of(np.arange(20.0), np.ones(20))).splitlines()[4:]
    assert [line.split()[0] for line in whole] == [*map(str, range(20))]


def test_a_single_trajectory_has_no_errors(env, policy):
    estimate = fastpg.policy_gradient(env, policy, policy.initial(), n_trajectories=1)
    first = str(estimate).splitlines()[4].split()
    assert first[0] == "0" and first[2:] == ["–", "–"]
    assert "1 trajectory" in str(estimate) and "±" not in str(estimate) and "nan " not in str(estimate)
    assert "1 trajectory>" in repr(estimate)


def test_the_effective_sample_size_is_shown_where_there_is_one():
    assert "effective sample size" not in str(estimate_of([1.0], [0.1]))
    assert "effective sample size 1,234.5" in str(estimate_of([1.0], [0.1], effective_sample_size=1234.5))


def test_the_line_is_short():
    text = repr(estimate_of(np.ones(500), np.ones(500)))
    assert text == (
        "<Estimate of 500 components: mean return 12.5 ± 0.25, signal-to-noise 1, 100 trajectories>"
    )


def test_no_time_at_all_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        str(fastpg.Estimate(np.ones(1), np.zeros(1), 1.0, 0.0, 1.0, 2, 0, 0.0))


def test_a_gradient_that_is_not_finite_says_where_to_look():
    assert "fastpg.check_env(env)" in str(estimate_of([np.nan], [np.nan]))
    assert "check_env" not in str(estimate_of([1.0], [0.1]))
