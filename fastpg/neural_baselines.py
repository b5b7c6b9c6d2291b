"""Baselines that are networks: their values of the steps of a block, where trajectories are scored.

A baseline with a field `network` is asked for no value in the lanes: there it counts as 0. The values come
in when a neural policy's trajectories are scored (`fastpg.neural_scores`), of all rows of a block at once,
from the observation and the time τ = t / T of each.
"""

import numpy as np
from numba import types

from fastpg.dispatch import compiled_form, inner
from fastpg.scores import is_neural


def baseline_of(accumulator):
    """Return the baseline of an accumulator, or of the one within, if it is a network; else None."""
    if hasattr(accumulator, "baseline"):
        return accumulator.baseline if is_neural(accumulator.baseline) else None
    return baseline_of(accumulator.of) if hasattr(accumulator, "of") else None


@compiled_form(baseline_of)
def _(accumulator):
    if "baseline" in accumulator.fields:
        baseline = accumulator[accumulator.fields.index("baseline")]
        if is_neural(baseline.instance_class):
            return lambda accumulator: accumulator.baseline
        return lambda accumulator: None
    if "of" in accumulator.fields:
        return lambda accumulator: baseline_of(accumulator.of)
    return lambda accumulator: None


def new_appraisal(baseline, rows, n):
    """Return memory for the inputs of a block, of n numbers and τ, and for the network; None without one."""
    if baseline is None:
        return None
    return np.zeros((rows, n + 1), baseline.theta.dtype), baseline.network.workspace(rows, baseline.theta)


def appraise(baseline, appraisal, n_rows):
    """Return the values of the first rows, shape (n_rows, 1), None without a network."""
    if baseline is None:
        return None
    x, work = appraisal
    return baseline.network.forward(baseline.theta, x[:n_rows], work)


def valued(accumulator, mark, values, row):
    """Return the mark of a step with the value in it, if there is one."""
    return mark if values is None else accumulator.with_value(mark, float(values[row, 0]))


@inner
def note_row(baseline, appraisal, row, observations, first, time):
    """Write the inputs of a step into a row of a block, if there is a network."""
    if baseline is not None:
        x = appraisal[0]
        n = x.shape[1] - 1
        for k in range(n):
            x[row, k] = observations[first * n + k]
        x[row, n] = min(time, baseline.longest) / baseline.horizon


@compiled_form(new_appraisal)
def _(baseline, rows, n):
    if isinstance(baseline, types.NoneType):
        return lambda baseline, rows, n: None

    def new_appraisal(baseline, rows, n):
        return np.zeros((rows, n + 1), baseline.theta.dtype), baseline.network.workspace(rows, baseline.theta)

    return new_appraisal


@compiled_form(appraise)
def _(baseline, appraisal, n_rows):
    if isinstance(baseline, types.NoneType):
        return lambda baseline, appraisal, n_rows: None

    def appraise(baseline, appraisal, n_rows):
        return baseline.network.forward(baseline.theta, appraisal[0][:n_rows], appraisal[1])

    return appraise


@compiled_form(valued)
def _(accumulator, mark, values, row):
    if isinstance(values, types.NoneType):
        return lambda accumulator, mark, values, row: mark
    return lambda accumulator, mark, values, row: accumulator.with_value(mark, np.float64(values[row, 0]))
