"""The REINFORCE estimate: against the oracle, against exact expectations, and bitwise against itself."""

import itertools
import os
import subprocess
import sys
from typing import NamedTuple

import numba
import numpy as np
import oracles
import pytest
from gymnasium.spaces import Box, Discrete
from scipy import stats

import fastpg
from fastpg import REINFORCE, SoftmaxLinear, dispatch, evaluate, policy_gradient
from fastpg.estimators.optimal import closed
from fastpg.estimators.reinforce import GROUPS, ScoresAndReturns, Trace
from fastpg.estimators.sums import merged, return_statistics
from fastpg.evaluation import _EVALUATION
from fastpg.lanes import Trajectory
from fastpg.random import uniform

BASELINES = ("none", "mean", "optimal")  # constants, for whole trajectories; others: test_gpomdp.py

JIT = not numba.config.DISABLE_JIT
needs_jit = pytest.mark.skipif(not JIT, reason="too slow without the jit, or about compiled code only")
needs_two_threads = pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")

# Keeps the pole up for 90 steps on average, half of them up to the horizon below.
BALANCING = np.array([0.0, -0.2, -1.0, -0.4, 0.0, 0.1, 0.3, 2.0, 1.2, 0.05])
HORIZON = 150
CHANGED = {"gravity": 3.7, "length": 0.8, "force_mag": 6.0, "semi_implicit": True}

CASES = {
    "wild": (None, 500, {}),
    "balancing": (BALANCING, HORIZON, {}),
    "changed parameters": (None, 500, CHANGED),
    "changed reward": (None, 500, {"sutton_barto_reward": True}),
    "short horizon": (None, 7, {}),
}
SIZES = [1, 7, 1000] if JIT else [1, 7, 40]


def thetas(case, theta):
    own, horizon, parameters = CASES[case]
    return (theta if own is None else own), horizon, parameters


def norm_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("n", "baseline"), [(n, b) for n, b in itertools.product(SIZES, BASELINES) if n > 1 or b == "none"]
)
@pytest.mark.parametrize("case", CASES)
def test_estimate_is_the_oracles(case, n, baseline, policy, theta):
    """From the same random numbers; 1e-10 leaves room for rounding that grows along unstable trajectories.

    (At most e^(4.0 τ 150) = 160,000-fold, on 1e-16.) Both in the norm and for each component, in units
    of its standard error, the natural size of what might cancel to zero.
    """
    theta, horizon, parameters = thetas(case, theta)
    env = fastpg.make("CartPole-v1", **parameters)
    estimate = policy_gradient(
        env, policy, theta, REINFORCE(baseline), n_trajectories=n, seed=40, horizon=horizon
    )
    expected = oracles.reinforce(theta, n, 40, horizon, baseline, **parameters)
    assert estimate.n_trajectories == n
    assert estimate.n_steps == expected.lengths.sum()
    assert estimate.mean_length == pytest.approx(expected.lengths.mean(), rel=1e-14)
    assert estimate.mean_return == pytest.approx(expected.mean_return, rel=1e-14, abs=1e-15)
    if baseline != "none" and expected.return_standard_error == 0.0:
        # All returns are equal: zero, but for roundings of the terms (and their roots in the error).
        scores = oracles.simulate(theta, n, 40, horizon, **parameters).scores
        size = np.abs(scores).max() * abs(expected.mean_return)
        np.testing.assert_allclose(estimate.gradient, 0.0, atol=1e-14 * size)
        np.testing.assert_allclose(estimate.standard_error, 0.0, atol=1e-7 * size)
        return
    assert norm_error(estimate.gradient, expected.gradient) < 1e-10
    if n == 1:
        assert np.isnan(estimate.standard_error).all() and np.isnan(estimate.return_standard_error)
        return
    # Sums of squares lose a few digits where the mean is large beside the spread.
    assert estimate.return_standard_error == pytest.approx(
        expected.return_standard_error, rel=1e-10, abs=1e-9
    )
    np.testing.assert_allclose(estimate.standard_error, expected.standard_error, rtol=1e-10)
    assert np.all(np.abs(estimate.gradient - expected.gradient) <= 1e-10 * expected.standard_error)


def test_cases_end_in_every_way(theta):
    """The oracle's trajectories fall, reach the horizon, and sometimes do both in one batch."""
    n = SIZES[-1]
    assert oracles.simulate(theta, n, 40, 500).lengths.max() < 500
    assert (oracles.simulate(theta, n, 40, 7).lengths == 7).all()
    balancing = oracles.simulate(BALANCING, n, 40, HORIZON).lengths
    assert balancing.min() < HORIZON == balancing.max()


# --- exact expectations: a two-armed bandit, whose batches can be enumerated ---

ARMS = np.array([1.0, 3.5])  # the returns
ARM_PROBABILITIES = np.array([0.3, 0.7])
ARM_SCORES = np.array([[0.7, -0.7, 2.0], [-0.3, 0.3, -6.0 / 7.0]])  # E[score] = 0
EXACT = (ARM_PROBABILITIES * ARMS) @ ARM_SCORES


class Point(NamedTuple):
    x: float


class Offset(NamedTuple):
    """One step whose reward is large but for a little."""

    offset: float = 0.0

    horizon = 1
    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Discrete(2)

    def reset(self, rng):
        return Point(uniform(rng, 0) - 0.5)

    def observe(self, state):
        return (state.x,)

    def step(self, state, action, rng):
        return state, self.offset + state.x * (2 * action - 1) + uniform(rng, 0), True


def batches(n):
    """Every batch of n trajectories of the bandit, with its probability."""
    for arms in itertools.product((0, 1), repeat=n):
        yield np.array(arms), np.prod(ARM_PROBABILITIES[list(arms)])


def add(totals, score, total, number):
    """Add a one-step trajectory with this score and return, by the engine's accumulator."""
    trajectory = Trajectory(None, None, None, 1, number, Trace(score, total), (), ())
    ScoresAndReturns(len(totals)).finish(totals, trajectory, score)


def estimate_of_batch(arms, baseline):
    """What the engine makes of these trajectories, by its own accumulator in ordinary Python."""
    estimator = REINFORCE(baseline)
    p = ARM_SCORES.shape[1]
    totals = np.zeros(estimator.totals_shape(p))
    for number, arm in enumerate(arms):
        add(totals, ARM_SCORES[arm], ARMS[arm], number)
    return estimator.gradient(merged(None, totals[np.newaxis], p), len(arms))


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("n", [2, 3, 6])
def test_every_baseline_is_unbiased(baseline, n):
    """The expectation over all 2ⁿ batches is the exact gradient, to rounding."""
    expectation = sum(p * estimate_of_batch(arms, baseline)[0] for arms, p in batches(n))
    np.testing.assert_allclose(expectation, EXACT, rtol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_in_sample_mean_shrinks_the_gradient(n):
    """Why the mean baseline leaves one out: with R̄ itself the expectation is (n - 1)/n of the gradient."""
    expectation = 0.0
    for arms, p in batches(n):
        returns, scores = ARMS[arms], ARM_SCORES[arms]
        in_sample = ((returns - returns.mean())[:, None] * scores).mean(axis=0)
        expectation = expectation + p * in_sample
        np.testing.assert_allclose(estimate_of_batch(arms, "mean")[0], n / (n - 1) * in_sample, atol=1e-14)
    np.testing.assert_allclose(expectation, (n - 1) / n * EXACT, rtol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_squared_standard_error_is_unbiased_without_baseline(n):
    """Its expectation over all batches is the variance of the mean, known exactly."""
    terms = ARMS[:, None] * ARM_SCORES
    variance = ARM_PROBABILITIES @ terms**2 - EXACT**2
    expectation = sum(p * estimate_of_batch(arms, "none")[1] ** 2 for arms, p in batches(n))
    np.testing.assert_allclose(expectation, variance / n, rtol=1e-13)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("n", [2, 5, GROUPS, GROUPS + 1, 100])
def test_sums_give_what_the_terms_give(baseline, n):
    """Batches on both sides of the number of groups, and scores of trajectories that differ in size."""
    rng = np.random.default_rng(41)
    scores, returns = rng.normal(size=(n, 4)) * [1.0, 1e-3, 1e3, 1.0], rng.normal(5.0, 2.0, n)
    estimator = REINFORCE(baseline)
    totals = np.zeros(estimator.totals_shape(4))
    for i in range(n):
        add(totals, scores[i], returns[i], i)
    gradient, error = estimator.gradient(merged(None, totals[np.newaxis], scores.shape[1]), n)
    expected = oracles.mean_and_error(oracles.terms(scores, returns, baseline))
    # The sums cancel, against terms some 10 times as large, a few hundred roundings at most.
    np.testing.assert_allclose(error, expected[1], rtol=1e-11)
    assert np.all(np.abs(gradient - expected[0]) <= 1e-11 * expected[1])


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("sizes", [[3], [1, 2, 7], [40, 1, 30]])
def test_chunks_merge_into_what_one_chunk_holds(baseline, sizes):
    """Whatever return each row's first trajectory had: sums over chunks, in any blocks, are those of all."""
    rng = np.random.default_rng(43)
    n = sum(sizes)
    scores, returns = rng.normal(size=(n, 4)), rng.normal(1e6, 2.0, n)
    estimator = REINFORCE(baseline)
    chunks = np.zeros((len(sizes), *estimator.totals_shape(4)))
    for i, chunk in enumerate(np.repeat(np.arange(len(sizes)), sizes)):
        add(chunks[chunk], scores[i], returns[i], i)
    at_once = merged(None, chunks, 4)
    one_by_one = None
    for chunk in chunks:
        one_by_one = merged(one_by_one, chunk[np.newaxis], 4)
    np.testing.assert_array_equal(at_once, one_by_one)
    expected = oracles.mean_and_error(oracles.terms(scores, returns - 1e6, baseline))
    gradient, error = estimator.gradient(at_once, n)
    if baseline == "none":
        expected = oracles.mean_and_error(oracles.terms(scores, returns, baseline))
    np.testing.assert_allclose(error, expected[1], rtol=1e-8)
    np.testing.assert_allclose(gradient, expected[0], rtol=1e-8, atol=1e-8 * np.abs(expected[1]).max())
    assert return_statistics(at_once)[0] == pytest.approx(returns.mean(), rel=1e-14)


def test_optimal_baseline_survives_a_dominating_score():
    """One trajectory's score is 1e8 times that of the others, as under a nearly deterministic policy.

    The others' sums must not be what a subtraction of nearly equal numbers leaves of them.
    """
    scores = np.full((6, 1), 1e-8)
    scores[2] = 1.0
    returns = np.array([1.0, 2.0, 1000.0, 1.0, 2.0, 1.0])
    estimator = REINFORCE("optimal")
    totals = np.zeros(estimator.totals_shape(1))
    for i in range(6):
        add(totals, scores[i], returns[i], i)
    expected = oracles.terms(scores, returns, "optimal").mean(axis=0)
    np.testing.assert_allclose(
        estimator.gradient(merged(None, totals[np.newaxis], scores.shape[1]), 6)[0], expected, rtol=1e-10
    )


@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
def test_no_score_no_gradient(baseline):
    """Where no trajectory has a score, the estimate and its error are zero and nothing divides by zero."""
    estimator = REINFORCE(baseline)
    totals = np.zeros(estimator.totals_shape(2))
    for i in range(5):
        add(totals, np.zeros(2), float(i), i)
    gradient, error = estimator.gradient(merged(None, totals[np.newaxis], 2), 5)
    assert gradient.tolist() == error.tolist() == [0.0, 0.0]


# --- statistics ---


@needs_jit
def test_errors_are_as_large_as_the_standard_errors_say(env, policy, theta):
    """400 independent estimates with N = 2,000, each baseline: (estimate - truth) / standard error.

    The truth is one estimate with N = 8,000,000 of another seed, whose own error adds 2,000 / 8,000,000 to
    the variance of 1. Components of the two actions are the negatives of each other, so the first five
    are tested: their variance by chi-square, their mean by 4 standard errors. At a level of 0.1 % a
    baseline; the five components share it (Bonferroni).
    """
    repetitions, level = 400, 1e-3 / 5
    truth = policy_gradient(env, policy, theta, REINFORCE("optimal"), n_trajectories=8_000_000, seed=999)
    # A sample variance of N - 1 = repetitions - 1 degrees of freedom, widened by nothing.
    low, high = stats.chi2.ppf([level / 2, 1 - level / 2], repetitions - 1) / (repetitions - 1)
    for baseline in BASELINES:
        z = np.empty((repetitions, 5))
        for seed in range(repetitions):
            estimate = policy_gradient(
                env, policy, theta, REINFORCE(baseline), n_trajectories=2_000, seed=seed
            )
            np.testing.assert_allclose(estimate.gradient[:5], -estimate.gradient[5:], rtol=1e-9, atol=1e-9)
            z[seed] = ((estimate.gradient - truth.gradient) / estimate.standard_error)[:5]
        variance = z.var(axis=0, ddof=1)
        assert np.all((low < variance) & (variance < high)), (baseline, variance)
        assert np.all(np.abs(z.mean(axis=0)) <= 4 / np.sqrt(repetitions)), (baseline, z.mean(axis=0))


@needs_jit
def test_baselines_reduce_the_error_and_agree(env, policy, theta):
    """One batch of 200,000: each better than the one before, all within 4 standard errors of each other."""
    estimates = {
        baseline: policy_gradient(env, policy, theta, REINFORCE(baseline), n_trajectories=200_000)
        for baseline in BASELINES
    }
    errors = [estimates[baseline].standard_error for baseline in ("none", "mean", "optimal")]
    assert np.all(errors[0] > errors[1]) and np.all(errors[1] > errors[2])
    for baseline in ("mean", "optimal"):
        difference = np.abs(estimates[baseline].gradient - estimates["none"].gradient)
        assert np.all(difference <= 4 * errors[0])


# --- reproducibility ---


def same_bits(a, b):
    return all(
        np.array_equal(np.asarray(getattr(a, name)).tobytes(), np.asarray(getattr(b, name)).tobytes())
        for name in ("gradient", "standard_error", "mean_return", "return_standard_error", "mean_length")
    )


@needs_jit
@needs_two_threads
@pytest.mark.parametrize("baseline", BASELINES)
def test_threads_do_not_change_a_bit(env, policy, theta, baseline):
    """At sizes with one trajectory a chunk, with chunks that differ in size, and with several blocks."""
    for n in (3, 1_001, 300_000):
        one, two = (
            policy_gradient(
                env, policy, theta, REINFORCE(baseline), n_trajectories=n, seed=5, threads=threads
            )
            for threads in (1, 2)
        )
        assert same_bits(one, two), n
        assert one.n_steps == two.n_steps


@needs_jit
def test_threads_are_only_borrowed(env, policy, theta):
    before = numba.get_num_threads()
    policy_gradient(env, policy, theta, n_trajectories=10, threads=1)
    assert numba.get_num_threads() == before


SCRIPT = """
import sys
import numpy as np
import fastpg
from fastpg.lanes import simulate_chunks
env = fastpg.make("CartPole-v1")
theta = np.array([float.fromhex(number) for number in sys.argv[1:]])
estimate = fastpg.policy_gradient(
    env, fastpg.SoftmaxLinear.for_env(env), theta, n_trajectories=12_345, seed=2**64 - 1
)
print(estimate.gradient.tobytes().hex(), estimate.standard_error.tobytes().hex())
print(sum(simulate_chunks.stats.cache_misses.values()), sum(simulate_chunks.stats.cache_hits.values()))
"""


@needs_jit
def test_processes_and_caches_do_not_change_a_bit(env, policy, theta, tmp_path):
    """One that has the kernel, one that compiles into an empty cache, and one that loads from it."""
    here = policy_gradient(env, policy, theta, n_trajectories=12_345, seed=2**64 - 1)
    expected = [here.gradient.tobytes().hex(), here.standard_error.tobytes().hex()]
    for compiled, loaded in (("1", "0"), ("0", "1")):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT, *(number.hex() for number in theta.tolist())],
            env={**os.environ, "FASTPG_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.split() == [*expected, compiled, loaded]


def test_same_call_same_bits_other_seed_other_estimate(env, policy, theta):
    first, again, other = (
        policy_gradient(env, policy, theta, n_trajectories=20, seed=seed, horizon=50) for seed in (1, 1, 2)
    )
    assert same_bits(first, again)
    assert not np.allclose(first.gradient, other.gradient)


def test_first_trajectory_continues_the_stream(env, policy, theta):
    """Two halves of 50 add up to 100, to the rounding of another order of the sum."""
    whole, first, second = (
        policy_gradient(env, policy, theta, n_trajectories=n, seed=6, horizon=60, first_trajectory=start)
        for n, start in ((100, 0), (50, 0), (50, 50))
    )
    assert not np.allclose(first.gradient, second.gradient)
    assert norm_error((first.gradient + second.gradient) / 2, whole.gradient) < 1e-12
    assert first.n_steps + second.n_steps == whole.n_steps


def test_single_trajectories_add_up_to_the_batch(env, policy, theta):
    batch = policy_gradient(env, policy, theta, n_trajectories=12, seed=7, horizon=60)
    singles = [
        policy_gradient(env, policy, theta, n_trajectories=1, seed=7, horizon=60, first_trajectory=i)
        for i in range(12)
    ]
    assert norm_error(np.mean([single.gradient for single in singles], axis=0), batch.gradient) < 1e-12


def test_estimator_defaults_to_no_baseline(env, policy, theta):
    default = policy_gradient(env, policy, theta, n_trajectories=10, horizon=50)
    assert same_bits(
        default, policy_gradient(env, policy, theta, REINFORCE("none"), n_trajectories=10, horizon=50)
    )


@needs_jit
def test_progress_counts_up_to_all_trajectories(env, policy, theta):
    seen = []
    policy_gradient(env, policy, theta, n_trajectories=100_001, progress=seen.append)
    assert len(seen) > 1
    assert all(a < b for a, b in itertools.pairwise(seen))
    assert seen[-1] == 100_001


def test_theta_is_not_written_to(env, policy, theta):
    before = theta.copy()
    policy_gradient(env, policy, theta, n_trajectories=2, horizon=5)
    np.testing.assert_array_equal(theta, before)


# --- evaluate ---


@pytest.mark.parametrize("n", SIZES)
def test_evaluation_is_the_oracles(env, policy, n):
    """Returns and lengths in the order of the trajectories' numbers, from evaluation's own streams."""
    result = evaluate(env, policy, BALANCING, n_trajectories=n, seed=3, horizon=HORIZON)
    expected = oracles.simulate(BALANCING, n, _EVALUATION + 3, HORIZON)
    np.testing.assert_array_equal(result.returns, expected.returns)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    assert result.returns.dtype == np.float64 and result.lengths.dtype == np.int64
    assert result.mean_return == pytest.approx(expected.returns.mean(), rel=1e-14)
    assert result.mean_length == pytest.approx(expected.lengths.mean(), rel=1e-14)
    if n == 1:
        assert np.isnan(result.return_standard_error)
    else:
        error = expected.returns.std(ddof=1) / np.sqrt(n)
        assert result.return_standard_error == pytest.approx(error, rel=1e-12)


def test_evaluation_does_not_replay_the_training_trajectories(env, policy, theta):
    n, horizon = 40, 100
    lengths = evaluate(env, policy, theta, n_trajectories=n, seed=4, horizon=horizon).lengths
    assert not np.array_equal(lengths, oracles.simulate(theta, n, 4, horizon).lengths)


@needs_jit
@needs_two_threads
@pytest.mark.parametrize("deterministic", [False, True])
def test_evaluation_is_the_same_for_any_threads(env, policy, theta, deterministic):
    one, two = (
        evaluate(env, policy, theta, n_trajectories=50_001, deterministic=deterministic, threads=threads)
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(one.returns, two.returns)
    np.testing.assert_array_equal(one.lengths, two.lengths)


def test_deterministic_evaluation_takes_the_mode(env, policy, theta):
    """Replayed with the oracle: start states from the streams, the more probable action at every step."""
    n, horizon = 30, 100
    result = evaluate(env, policy, theta, n_trajectories=n, seed=8, horizon=horizon, deterministic=True)
    drawn = evaluate(env, policy, theta, n_trajectories=n, seed=8, horizon=horizon)
    assert not np.array_equal(result.lengths, drawn.lengths)
    cartpole = oracles.CartPole()
    for i in range(n):
        state = cartpole.reset(oracles.Stream(_EVALUATION + 8, i))
        length, failed = 0, False
        while length < horizon and not failed:
            action = int(np.argmax(oracles.probabilities(theta, state)))
            state, _, failed = cartpole.step(state, action)
            length += 1
        assert result.lengths[i] == result.returns[i] == length


@pytest.mark.parametrize("baseline", BASELINES)
def test_returns_that_are_large_and_alike_keep_their_digits(env, policy, theta, baseline):
    """Returns around 1e9 that differ a little: with a baseline, the estimate of the same less 1e9."""

    def estimate(offset):
        game = Offset(offset)
        return policy_gradient(
            game,
            SoftmaxLinear.for_env(game),
            np.array([0.3, -0.2, 0.1, 0.4]),
            REINFORCE(baseline),
            n_trajectories=2000,
        )

    plain, shifted = estimate(0.0), estimate(1e9)
    # 1e9 leaves the returns themselves 7 digits.
    np.testing.assert_allclose(shifted.mean_return - 1e9, plain.mean_return, atol=1e-5)
    np.testing.assert_allclose(shifted.return_standard_error, plain.return_standard_error, rtol=1e-5)
    if baseline != "none":
        np.testing.assert_allclose(shifted.gradient, plain.gradient, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(shifted.standard_error, plain.standard_error, rtol=1e-5)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
def test_sums_have_the_same_bits_interpreted_and_compiled(monkeypatch):
    """What adds up a few numbers is interpreted at first."""
    rng = np.random.default_rng(0)
    totals = rng.normal(size=(5, 16, 5 * 3 + 7))
    totals[..., -2] = rng.integers(0, 3, (5, 16))  # trajectories, none in some groups

    def bits():
        sums = merged(None, totals, 3)
        estimates = [closed(sums, baseline, 700) for baseline in range(3)]
        return [np.asarray(x).view(np.int64).tolist() for x in (sums, *estimates)]

    monkeypatch.setattr(dispatch, "_INTERPRETED", np.inf)
    interpreted = bits()
    monkeypatch.setattr(dispatch, "_INTERPRETED", -1)
    assert bits() == interpreted
