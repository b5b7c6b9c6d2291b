"""The score of a recorded trajectory under a neural policy: forward once more, and back, in blocks of steps.

With the outputs y_t at step t, recorded factors f_t = ∂ log π(a_t) / ∂ y_t, and weights w_t of the steps, the
score is the derivative by θ of Σ_t w_t f_t · y_t with w_t f_t held fixed, which is what backpropagation
gives. The blocks are taken from the last to the first: what was earned later is what the weight of a
reward-to-go is made of.
"""

import numpy as np

from fastpg import vectors
from fastpg.dispatch import compiled_form, inner
from fastpg.neural_lanes import row_at
from fastpg.scores import is_weighted

BLOCK = 128  # steps, so that their layers stay in the second-level cache


@inner
def score_memory(policy, theta, observation, horizon):
    """Return memory for a block of steps: observations, factors, the network's, and a gradient."""
    size = min(BLOCK, horizon)
    x = np.zeros((size, vectors.n_components(observation)), theta.dtype)
    d_outputs = np.zeros((size, len(policy.row())), theta.dtype)
    return x, d_outputs, policy.workspace(size, theta), np.zeros(len(theta), theta.dtype)


def weigh_step(accumulator, policy, row, trajectory, observation, factor, marks, step, later):
    """Return a step's factor, weighted if the accumulator weights steps, and what the one before needs."""
    if not is_weighted(accumulator):
        return factor, later
    mark = marks[2 * step], marks[2 * step + 1]
    return accumulator.weigh(policy, row, trajectory.trace, observation, factor, mark, later)


def latest_of(accumulator, trajectory):
    """Return what the last step needs to know, if the accumulator weights steps."""
    return accumulator.latest(trajectory.trace) if is_weighted(accumulator) else (0.0, 0.0)


@compiled_form(weigh_step)
def _(accumulator, policy, row, trajectory, observation, factor, marks, step, later):
    if not is_weighted(accumulator.instance_class):

        def as_it_is(accumulator, policy, row, trajectory, observation, factor, marks, step, later):
            return factor, later

        return as_it_is

    def weigh_step(accumulator, policy, row, trajectory, observation, factor, marks, step, later):
        mark = marks[2 * step], marks[2 * step + 1]
        return accumulator.weigh(policy, row, trajectory.trace, observation, factor, mark, later)

    return weigh_step


@compiled_form(latest_of)
def _(accumulator, trajectory):
    if is_weighted(accumulator.instance_class):
        return lambda accumulator, trajectory: accumulator.latest(trajectory.trace)
    return lambda accumulator, trajectory: (0.0, 0.0)


@inner
def neural_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """Return the score of a finished trajectory, from what is recorded of it; shape (n_parameters,)."""
    observations, factors, score, memory, marks = record
    x, d_outputs, work, part = memory
    n, m = x.shape[1], d_outputs.shape[1]
    flat_x, flat_d = x.reshape(x.size), d_outputs.reshape(d_outputs.size)
    score[:] = 0.0
    later = latest_of(accumulator, trajectory)
    stop = trajectory.time
    while stop > 0:
        start = max(0, stop - len(x))
        size, first = stop - start, lane * horizon + start
        for k in range(size * n):
            flat_x[k] = observations[first * n + k]
        outputs = policy.forward(theta, x[:size], work)
        for step in range(first + size - 1, first - 1, -1):
            row = row_at(outputs, step - first, trajectory.factor)
            seen = vectors.load(observations, step * n, observation)
            factor = vectors.load(factors, step * m, trajectory.factor)
            factor, later = weigh_step(accumulator, policy, row, trajectory, seen, factor, marks, step, later)
            vectors.store(flat_d, (step - first) * m, factor)
        policy.network.backward(theta, x[:size], work, d_outputs[:size], part)
        for k in range(len(score)):
            score[k] += part[k]
        stop = start
    return score
