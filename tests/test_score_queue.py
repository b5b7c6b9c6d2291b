"""Moments of scores that wait in a queue, against NumPy in float64."""

import numba
import numpy as np
import pytest

from fastpg import moments, score_queue
from fastpg.dispatch import kernel

if numba.config.DISABLE_JIT:
    pytest.skip("NUMBA_DISABLE_JIT: scores wait in compiled code only", allow_module_level=True)

N = 150  # components: wide packs, packs and single numbers


@kernel
def add_all(scores, factors, powers, sums):
    queue = score_queue.new_queue(5, scores[0])
    for k in range(len(scores)):
        slot = score_queue.reserve(queue, 1, 5)
        score_queue.score_in(queue, slot)[:] = scores[k]
        if powers:
            moments.add_powers(sums, score_queue.Queued(queue, slot), factors[k])
        else:
            moments.add_moments(sums, score_queue.Queued(queue, slot), factors[k])
    score_queue.flush(queue)


def expected(scores, factors, powers):
    x, f = scores.astype(np.float64), factors[:, None]
    terms = (f * x, (f * x) ** 2) if powers else (x, f * x, x**2, f * x**2, (f * x) ** 2)
    return np.concatenate([term.sum(axis=0) for term in terms])


@pytest.mark.parametrize("powers", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Squares are ordinary; too small for float32; too large; both; or weighted out of its range.
@pytest.mark.parametrize(
    ("low", "high", "factor"),
    [(-1, 1, 3), (-36, -20, 3), (20, 36, 3), (-30, 30, 3), (-1, 1, 1e-30), (-1, 1, 1e60)],
)
def test_moments_are_those_of_float64(dtype, powers, low, high, factor):
    rng = np.random.default_rng(0)
    scores = (10.0 ** rng.uniform(low, high, (13, N)) * rng.choice([-1, 1], (13, N))).astype(dtype)
    scores[:, 5] = 0.0
    factors = factor * rng.uniform(0.5, 2.0, 13)
    sums = np.zeros((2 if powers else 5) * N)
    add_all(scores, factors, powers, sums)
    true = expected(scores, factors, powers)
    scale = expected(abs(scores), factors, powers)
    assert (scale.reshape(-1, N)[:, 5] == 0.0).all() and (scale > 0.0).sum() == len(scale) * (N - 1) // N
    error = abs(sums - true) / np.where(scale > 0.0, scale, 1.0)
    assert error.max() < (1e-5 if dtype == np.float32 else 1e-14)


def test_what_is_not_a_number_shows():
    scores = np.ones((3, N), np.float32)
    scores[1, 7], scores[2, 40] = np.nan, np.inf
    sums = np.zeros(5 * N)
    add_all(scores, np.ones(3), False, sums)
    found = sums.reshape(5, N)
    assert np.isnan(found[:, 7]).all() and np.isinf(found[:, 40]).all()
    assert np.isfinite(np.delete(found, [7, 40], axis=1)).all()
