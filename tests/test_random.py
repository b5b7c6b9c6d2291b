"""fastpg.random: SplitMix64's published values, uniformity, independence, and draws of categories."""

import numba
import numpy as np
import oracles
import pytest
from scipy import stats

from fastpg.random import (
    MAX_SEED,
    Rng,
    categorical,
    integer,
    mix64,
    mix_gamma,
    next_step,
    normal,
    policy_rng,
    seed_key,
    trajectory_rng,
    uniform,
)

# With the jit off these tests run the same code slowly, so on less of it.
SIZE = 24 if numba.config.DISABLE_JIT else 1_000
# Statistical tests have fixed seeds, so they pass for ever or never; the level was set beforehand.
LEVEL = 1e-3


def rng_with_draw_0(bits):
    """A generator whose draw 0 has these 64 bits."""
    return Rng(np.uint64(oracles.unmix64(bits)), np.uint64(1))


@numba.njit
def table(seed, n_trajectories, n_steps, n_draws, policy):
    """Draws by trajectory, time step and number, from compiled code."""
    draws = np.empty((n_trajectories, n_steps, n_draws))
    key = seed_key(seed)
    for i in range(n_trajectories):
        rng = trajectory_rng(key, i)
        for t in range(n_steps):
            for j in range(n_draws):
                draws[i, t, j] = uniform(policy_rng(rng), j) if policy else uniform(rng, j)
            rng = next_step(rng)
    return draws


@numba.njit
def categories(seed, n, probabilities):
    """Draw 0 of the reset of `n` trajectories as a category."""
    counts = np.zeros(len(probabilities), np.int64)
    key = seed_key(seed)
    for i in range(n):
        counts[categorical(trajectory_rng(key, i), 0, probabilities)] += 1
    return counts


@numba.njit
def category(rng, probabilities):
    return categorical(rng, 0, probabilities)


def test_mix64_gives_the_published_output_of_splitmix64():
    """Seed 1234567 and the default increment, as in the reference implementation's test vectors."""
    outputs = [int(mix64(np.uint64((1234567 + n * 0x9E3779B97F4A7C15) % 2**64))) for n in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_mix_gamma_is_odd_and_changes_bits_often_enough():
    rare = 0
    for z in np.random.default_rng(2).integers(0, 2**64, 2_000, dtype=np.uint64, endpoint=False):
        gamma = int(mix_gamma(z))
        assert gamma == oracles.mix_gamma(int(z))
        assert gamma % 2 == 1
        assert (gamma ^ (gamma >> 1)).bit_count() >= 24
        rare += (gamma ^ 0xAAAAAAAAAAAAAAAA ^ ((gamma ^ 0xAAAAAAAAAAAAAAAA) >> 1)).bit_count() < 24
    assert rare > 0  # the branch that mends an increment was taken


@pytest.mark.parametrize("seed", [0, 1, 1234567, 2**63, MAX_SEED])
def test_streams_are_those_of_the_oracle(seed):
    """Exactly: the same bits for every trajectory, step, half and draw."""
    for policy in (False, True):
        draws = table(np.uint64(seed), 3, 4, 5, policy)
        for (i, t, j), draw in np.ndenumerate(draws):
            assert draw == oracles.Stream(seed, i).uniform(t, j, policy)


def test_a_trajectory_far_along_the_stream_is_that_of_the_oracle():
    rng = trajectory_rng(np.uint64(seed_key(np.uint64(3))), 2**40 + 17)
    assert uniform(Rng(*map(np.uint64, rng)), 7) == oracles.Stream(3, 2**40 + 17).uniform(0, 7)


def test_ordinary_python_draws_what_compiled_code_draws():
    compiled = table(np.uint64(5), 2, 3, 4, False)
    for i in range(2):
        rng = trajectory_rng(np.uint64(seed_key(np.uint64(5))), i)
        for t in range(3):
            rng = Rng(*map(np.uint64, rng))
            assert [uniform(rng, j) for j in range(4)] == compiled[i, t].tolist()
            assert [integer(rng, j, 10) for j in range(4)] == (compiled[i, t] * 10).astype(int).tolist()
            rng = next_step(rng)


def test_smallest_and_largest_draw():
    assert uniform(rng_with_draw_0(0), 0) == 0.0
    assert uniform(rng_with_draw_0(2**64 - 1), 0) == 1.0 - 2.0**-52
    assert integer(rng_with_draw_0(0), 0, 6) == 0
    assert integer(rng_with_draw_0(2**64 - 1), 0, 6) == 5


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("policy", [False, True])
def test_draws_are_uniform(seed, policy):
    """Kolmogorov-Smirnov, and chi-square of the leading and of the trailing bits, at 0.1 % each."""
    draws = table(np.uint64(seed), SIZE, 20, 25, policy).ravel()
    assert 0.0 <= draws.min() and draws.max() < 1.0
    assert stats.kstest(draws, "uniform").pvalue > LEVEL
    mantissas = (draws * 2**52).astype(np.int64)
    for part in (mantissas >> 44, mantissas & 255):
        assert stats.chisquare(np.bincount(part, minlength=256)).pvalue > LEVEL


# Pairs of arrays whose entries come from neighbouring places of the generator.
NEIGHBOURS = {
    "trajectories": lambda draws: (draws()[:-1], draws()[1:]),
    "steps": lambda draws: (draws()[:, :-1], draws()[:, 1:]),
    "draws": lambda draws: (draws()[:, :, :-1], draws()[:, :, 1:]),
    "diagonals": lambda draws: (draws()[:-1, 1:], draws()[1:, :-1]),
    "environment and policy": lambda draws: (draws(), draws(policy=True)),
    "seeds": lambda draws: (draws(), draws(seed=8)),
    "seeds one bit apart": lambda draws: (draws(), draws(seed=7 + 2**63)),
}


@pytest.mark.parametrize("between", NEIGHBOURS)
def test_neighbouring_draws_are_independent(between):
    """Correlation within 4 standard errors; a 16 x 16 table of counts is uniform at 0.1 %."""

    def draws(seed=7, policy=False):
        return table(np.uint64(seed), SIZE, 20, 25, policy)

    a, b = (part.ravel() for part in NEIGHBOURS[between](draws))
    correlation = np.corrcoef(a, b)[0, 1]
    assert abs(correlation) <= 4 / np.sqrt(len(a))
    cells = (16 * a).astype(int) * 16 + (16 * b).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=256)).pvalue > LEVEL


@pytest.mark.parametrize("probabilities", [(0.5, 0.5), (0.9, 0.1), (0.1, 0.2, 0.3, 0.4), (0.25, 0.0, 0.75)])
def test_categories_come_with_their_probabilities(probabilities):
    """Chi-square at 0.1 % over the categories that are possible; the impossible one never comes."""
    n = 200 * SIZE
    counts = categories(np.uint64(11), n, probabilities)
    expected = n * np.array(probabilities)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > LEVEL


def test_the_last_category_takes_the_remainder():
    """Of probabilities that sum to 0.75 the last one, 0.25, becomes 0.5: chi-square at 0.1 %."""
    n = 200 * SIZE
    counts = categories(np.uint64(12), n, (0.25, 0.25, 0.25))
    assert stats.chisquare(counts, [n / 4, n / 4, n / 2]).pvalue > LEVEL


@pytest.mark.parametrize("draw_category", [category, lambda rng, p: categorical(rng, 0, p)])
def test_the_largest_draw_does_not_fall_off_the_end(draw_category):
    tenths = (0.1,) * 10
    assert sum(tenths) < 1.0
    assert draw_category(rng_with_draw_0(2**64 - 1), tenths) == 9
    assert draw_category(rng_with_draw_0(2**64 - 1), (0.3, 0.3, 0.3)) == 2
    assert draw_category(rng_with_draw_0(0), tenths) == 0


@pytest.mark.parametrize("draw_category", [category, lambda rng, p: categorical(rng, 0, p)])
def test_the_boundary_belongs_to_the_next_category(draw_category):
    """Draws lie in [0, 1): a is drawn on [P(<a), P(<=a)), so the impossible category 0 not even at 0."""
    half = rng_with_draw_0(2**63)
    assert uniform(half, 0) == 0.5
    assert draw_category(half, (0.5, 0.5)) == 1
    assert draw_category(rng_with_draw_0(2**63 - 2**12), (0.5, 0.5)) == 0
    assert draw_category(rng_with_draw_0(0), (0.0, 1.0)) == 1


def test_a_numpy_generator_may_stand_in():
    expected = np.random.default_rng(3).random(3)
    rng = np.random.default_rng(3)
    assert uniform(rng, 0) == expected[0]
    assert integer(rng, 0, 10) == int(10 * expected[1])
    assert categorical(rng, 0, (0.2, 0.3, 0.5)) == np.searchsorted([0.2, 0.5], expected[2], side="right")


def test_a_batch_of_categories():
    """Each row by its own draw; the frequencies of each row by chi-square at 0.1 %."""
    rows = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    drawn = categorical(np.random.default_rng(4), 0, np.broadcast_to(rows, (5_000, 2, 3)))
    assert drawn.shape == (5_000, 2)
    for row, column in zip(rows, drawn.T, strict=True):
        assert stats.chisquare(np.bincount(column, minlength=3), 5_000 * row).pvalue > LEVEL


@pytest.mark.parametrize("rng", [None, 3, np.random.RandomState(0)])
def test_what_is_no_generator_is_refused(rng):
    for draw in (lambda: uniform(rng, 0), lambda: normal(rng, 0), lambda: categorical(rng, 0, (0.5, 0.5))):
        with pytest.raises(TypeError, match="rng=.*must be a fastpg.random.Rng or a numpy.random.Generator"):
            draw()


def test_a_batch_needs_a_numpy_generator():
    with pytest.raises(ValueError, match=r"batch.*numpy.random.Generator"):
        categorical(rng_with_draw_0(1), 0, np.full((4, 2), 0.5))
