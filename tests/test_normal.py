"""fastpg.random.normal: standard normal numbers, each independent of all others."""

import math

import numba
import numpy as np
import pytest
from oracles import Stream, unmix64
from scipy import stats

from fastpg.random import MAX_NORMALS, Rng, next_step, normal, seed_key, trajectory_rng, uniform

JIT = not numba.config.DISABLE_JIT
# With the jit off these tests run the same code slowly, so on less of it.
N = 1_000 if JIT else 24
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3


@numba.njit
def table(seed, n_trajectories, n_steps, n_draws):
    """Normal numbers by trajectory, time step and number, from compiled code."""
    draws = np.empty((n_trajectories, n_steps, n_draws))
    key = seed_key(seed)
    for i in range(n_trajectories):
        rng = trajectory_rng(key, i)
        for t in range(n_steps):
            for j in range(n_draws):
                draws[i, t, j] = normal(rng, j)
            rng = next_step(rng)
    return draws


@numba.njit
def pairs(seed, n):
    """Draw 0 of `n` trajectories as a uniform number, next to the normal one that is made of it."""
    draws = np.empty((n, 2))
    key = seed_key(seed)
    for i in range(n):
        rng = trajectory_rng(key, i)
        draws[i, 0] = uniform(rng, 0)
        draws[i, 1] = normal(rng, 0)
    return draws


@pytest.fixture(scope="module")
def draws():
    """10⁶ numbers: 1,000 trajectories of 20 steps with 50 draws."""
    return table(np.uint64(7), N, 20, 50)


def box_muller(u, v):
    # cos(2 pi v), but for the rounding error of 2 pi v
    return math.sqrt(-2.0 * math.log1p(-u)) * math.sin(2.0 * math.pi * (abs(v - 0.5) - 0.25))


@pytest.mark.parametrize("seed", [0, 1, 1234567, 2**64 - 1])
def test_the_transform_of_draws_j_and_j_plus_16384(seed):
    """Against the oracle's draws and the math module, in compiled code and in ordinary Python."""
    compiled = table(np.uint64(seed), 3, 4, 5)
    for i in range(3):
        rng, stream = trajectory_rng(seed_key(seed), i), Stream(seed, i)
        for t in range(4):
            for j in range(5):
                expected = box_muller(stream.uniform(t, j), stream.uniform(t, j + 2**14))
                assert compiled[i, t, j] == pytest.approx(expected, rel=1e-14, abs=1e-15)
                assert normal(rng, j) == compiled[i, t, j]
            rng = next_step(rng)


def test_known_answers():
    """The first numbers of seed 0, computed with mpmath from SplitMix64's integers."""
    assert [normal(trajectory_rng(seed_key(0), i), 0) for i in range(3)] == pytest.approx(
        [-0.28826830436364137, -0.04472852670355452, 1.300858048986083], rel=1e-15
    )


def test_numbers_are_normal(draws):
    """Kolmogorov-Smirnov of a million, and of each of the 50 draws' own, at 0.1 % (the 50 together)."""
    assert stats.kstest(draws.ravel(), "norm").pvalue > LEVEL
    assert min(stats.kstest(draws[:, :, j].ravel(), "norm").pvalue for j in range(50)) > LEVEL / 50


def test_moments(draws):
    """The first six, within 4 standard errors: E[z^k] = 0, 1, 0, 3, 0, 15, and E[z^2k] - E[z^k]²."""
    n = draws.size
    even = {0: 1, 2: 1, 4: 3, 6: 15, 8: 105, 10: 945, 12: 10395}
    for k in range(1, 7):
        mean = even.get(k, 0)
        assert abs((draws**k).mean() - mean) <= 4 * math.sqrt((even[2 * k] - mean**2) / n), k


@pytest.mark.parametrize("bound", [2.0, 3.0, 3.5, 4.0])
def test_tails(draws, bound):
    """Counts beyond ±`bound` by exact binomial tests at 0.1 %."""
    p = stats.norm.sf(bound)
    assert stats.binomtest(int((draws > bound).sum()), draws.size, p).pvalue > LEVEL
    assert stats.binomtest(int((draws < -bound).sum()), draws.size, p).pvalue > LEVEL


def rng_with_draw_0(bits, gamma):
    """A generator whose draw 0 has these 64 bits."""
    return Rng(np.uint64(unmix64(bits)), np.uint64(gamma))


def test_the_smallest_and_the_largest_draw():
    """A radius of 0 from u = 0, and of √(104 log 2) = 8.49 from u = 1 - 2⁻⁵²: never infinite."""
    for gamma in range(1, 200, 2):
        assert normal(rng_with_draw_0(0, gamma), 0) == 0.0
        rng = rng_with_draw_0(2**64 - 1, gamma)
        radius = math.sqrt(104.0 * math.log(2.0))
        angle = 2.0 * math.pi * uniform(rng, MAX_NORMALS)
        assert normal(rng, 0) == pytest.approx(radius * math.cos(angle), rel=1e-13, abs=1e-13)


# Pairs of arrays whose entries come from neighbouring places of the generator.
NEIGHBOURS = {
    "trajectories": lambda z: (z[:-1], z[1:]),
    "steps": lambda z: (z[:, :-1], z[:, 1:]),
    "draws": lambda z: (z[:, :, :-1], z[:, :, 1:]),
    "diagonals": lambda z: (z[:-1, 1:], z[1:, :-1]),
}


@pytest.mark.parametrize("between", NEIGHBOURS)
def test_neighbouring_numbers_are_independent(draws, between):
    """Numbers and their squares are uncorrelated within 4 standard errors; 16 x 16 quantiles at 0.1 %."""
    a, b = (part.ravel() for part in NEIGHBOURS[between](draws))
    for f in (lambda z: z, np.square):
        assert abs(np.corrcoef(f(a), f(b))[0, 1]) <= 4 / math.sqrt(len(a))
    cells = (16 * stats.norm.cdf(a)).astype(int) * 16 + (16 * stats.norm.cdf(b)).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=256)).pvalue > LEVEL


def test_seeds_are_independent(draws):
    """Correlation with the numbers of the next seed within 4 standard errors."""
    other = table(np.uint64(8), N, 20, 50)
    assert abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) <= 4 / math.sqrt(draws.size)


def test_a_normal_number_uses_up_its_uniform_one():
    """They share draw j, and so are dependent, which is why the draws of a step have different numbers."""
    uniforms, normals = pairs(np.uint64(3), 2_000).T
    assert np.corrcoef(uniforms, normals**2)[0, 1] > 0.5


def test_a_numpy_generator_may_stand_in():
    assert normal(np.random.default_rng(3), 5) == np.random.default_rng(3).standard_normal()


@pytest.mark.parametrize("j", [-1, MAX_NORMALS])
def test_numbers_of_draws_are_checked(j):
    with pytest.raises(ValueError, match=f"j={j}: must be between 0 and 16383"):
        normal(trajectory_rng(seed_key(0), 0), j)
