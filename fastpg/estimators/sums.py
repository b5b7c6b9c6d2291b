"""What all estimators sum up over trajectories: the returns; and how sums are brought together.

A row of sums ends with the columns Σ(R - c), Σ(R - c)², Σ length, the number of trajectories, and c: R is the
undiscounted return, and c the first one that came in, so that nothing cancels where returns are large and
alike. Before it come Σ(D - c), the number c of its own, where D is the return that the estimator uses, which
may be discounted. Sums with different c are brought to the same one before they are added.
"""

import math

import numpy as np

from fastpg.dispatch import inline, late_kernel

COLUMNS = 7  # Σ(D - c_D), c_D, Σ(R - c), Σ(R - c)², Σ length, number, c
_MOMENTS, _PLAIN = 5, 2


@inline
def add_returns(row, start, used, total, length):
    """Add a trajectory to the columns of a row from `start` on; return the used return less its reference."""
    if row[start + 5] == 0.0:
        row[start + 1] = used
        row[start + 6] = total
    used -= row[start + 1]
    total -= row[start + 6]
    row[start] += used
    row[start + 2] += total
    row[start + 3] += total * total
    row[start + 4] += length
    row[start + 5] += 1.0
    return used


@late_kernel
def add_rows(sums, totals, n_groups, width, p):
    """Add totals of chunks to `sums`, one after the other, each brought to the references c of `sums`.

    Both are rows of `width` numbers one after the other (compiling that is faster than arrays of three axes),
    a row for each group, and in `totals` those of chunk after chunk. In front of the returns are p columns
    each of Σs, Σs(D - c), Σs², Σs²(D - c) and Σs²(D - c)², or others that know no reference.
    """
    start = width - COLUMNS
    count = 0.0
    for group in range(n_groups):
        count += sums[group * width + start + 5]
    if count == 0.0:  # the first chunk: its first row tells the references
        j = start
        while totals[j + 5] == 0.0 and j < (n_groups - 1) * width:
            j += width
        for group in range(n_groups):
            i = group * width + start
            sums[i + 1], sums[i + 6] = totals[j + 1], totals[j + 6]
    for row in range(len(totals) // width):
        i, j = row % n_groups * width, row * width
        count = totals[j + start + 5]
        if count == 0.0:
            continue
        shift = totals[j + start + 1] - sums[i + start + 1]
        for k in range(start):
            sums[i + k] += totals[j + k]
        if start == _MOMENTS * p:
            for k in range(p):
                s, s2, s2d = totals[j + k], totals[j + 2 * p + k], totals[j + 3 * p + k]
                sums[i + p + k] += shift * s
                sums[i + 3 * p + k] += shift * s2
                sums[i + 4 * p + k] += shift * (2.0 * s2d + shift * s2)
        i, j = i + start, j + start
        sums[i] += totals[j] + shift * count
        shift = totals[j + 6] - sums[i + 6]
        d = totals[j + 2]
        sums[i + 2] += d + shift * count
        sums[i + 3] += totals[j + 3] + shift * (2.0 * d + shift * count)
        sums[i + 4] += totals[j + 4]
        sums[i + 5] += count


def merged(sums, totals, p):
    """Return `sums` (None at first) with the `totals` of further chunks, shape (chunks, groups, columns).

    One after the other: the order of the additions must not depend on how chunks came together.
    """
    n_groups, width = totals.shape[1:]
    if sums is None:
        sums = np.zeros((n_groups, width))
    add_rows(sums.reshape(-1), totals.reshape(-1), n_groups, width, p)
    return sums


def return_statistics(sums):
    """Return the mean return, its standard error, and the mean length, from the sums."""
    total, squares, length, count, _ = sums[:, -5:].sum(axis=0).tolist()
    mean, error = mean_and_error(total, squares, count)
    return float(sums[0, -1]) + mean, error, length / count


def mean_and_error(total, squares, n):
    """Return the mean of n numbers and its standard error (NaN if n = 1), from their sum and squares'."""
    mean = total / n
    if n == 1:
        return mean, math.nan
    return mean, math.sqrt(max(squares / n - mean * mean, 0.0) / (n - 1))  # rounding may leave less than 0


def mean_term(sums, n):
    """Return the mean of terms x, and its standard error, from a row that begins with Σx and Σx²."""
    x, x2 = sums[0, :-COLUMNS].reshape(2, -1) / n
    if n == 1:
        return x, np.full_like(x, np.nan)
    return x, np.sqrt(np.maximum(x2 - x * x, 0.0) / (n - 1))  # rounding may leave less than nothing
