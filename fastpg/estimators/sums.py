"""What all estimators sum up over trajectories: the returns; and how sums are brought together.

A row of sums ends with the columns Σ(R - c), Σ(R - c)², Σ length, the number of trajectories, and c: R is the
undiscounted return, and c the first one that came in, so that nothing cancels where returns are large and
alike. Before it come Σ(D - c), the number c of its own, where D is the return that the estimator uses, which
may be discounted. Sums with different c are brought to the same one before they are added.
"""

import math

import numpy as np

from fastpg.dispatch import inline, plain_kernel

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


@plain_kernel
def add_rows(sums, totals, p):
    """Add totals of chunks to `sums`, one after the other, each brought to the references c of `sums`.

    In front of the returns are p columns each of Σs, Σs(D - c), Σs², Σs²(D - c) and Σs²(D - c)², or others
    that know no reference.
    """
    start = totals.shape[2] - COLUMNS
    if sums[:, start + 5].sum() == 0.0:  # the first chunk: its first row tells the references
        group = 0
        while totals[0, group, start + 5] == 0.0 and group < totals.shape[1] - 1:
            group += 1
        sums[:, start + 1] = totals[0, group, start + 1]
        sums[:, start + 6] = totals[0, group, start + 6]
    for chunk in range(totals.shape[0]):
        for group in range(totals.shape[1]):
            row, total = totals[chunk, group], sums[group]
            count = row[start + 5]
            if count == 0.0:
                continue
            shift = row[start + 1] - total[start + 1]
            if start == _MOMENTS * p:
                for k in range(p):
                    s, sd, s2 = row[k], row[p + k], row[2 * p + k]
                    s2d, s2d2 = row[3 * p + k], row[4 * p + k]
                    total[k] += s
                    total[p + k] += sd + shift * s
                    total[2 * p + k] += s2
                    total[3 * p + k] += s2d + shift * s2
                    total[4 * p + k] += s2d2 + shift * (2.0 * s2d + shift * s2)
            else:
                for k in range(start):
                    total[k] += row[k]
            total[start] += row[start] + shift * count
            shift = row[start + 6] - total[start + 6]
            d, d2 = row[start + 2], row[start + 3]
            total[start + 2] += d + shift * count
            total[start + 3] += d2 + shift * (2.0 * d + shift * count)
            total[start + 4] += row[start + 4]
            total[start + 5] += count


def merged(sums, totals, p):
    """Return `sums` (None at first) with the `totals` of further chunks, shape (chunks, groups, columns).

    One after the other: the order of the additions must not depend on how chunks came together.
    """
    if sums is None:
        sums = np.zeros(totals.shape[1:])
    add_rows(sums, totals, p)
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
