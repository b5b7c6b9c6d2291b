"""The scores of recorded trajectories under a neural policy: forward once more, and back.

With the outputs y_t at step t, recorded factors f_t = ∂ log π(a_t) / ∂ y_t, and weights w_t of the steps, the
score is the derivative by θ of Σ_t w_t f_t · y_t with w_t f_t held fixed, which is what backpropagation
gives. The trajectories that finish in the same sweep over the lanes go through the network together, as far
as a block of rows holds them (`gather`); a longer one goes alone, in blocks of steps from the last to the
first: what was earned later is what the weight of a reward-to-go is made of.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import score_queue, vectors
from fastpg.dispatch import compiled_form, inner
from fastpg.lane_memory import MAX_LANES, last_bit, raised, take
from fastpg.neural_baselines import appraise, baseline_of, new_appraisal, note_row, valued
from fastpg.neural_lanes import row_at
from fastpg.scores import is_weighted

# Of a block: its layers stay in the second-level cache, and with 64 units its products are within the million
# multiplications up to which OpenBLAS takes its kernels for small matrices, faster by a fifth to a half.
ROWS = 10**6 // 64**2
SLOTS = 16  # trajectories in a block


class ScoreMemory(NamedTuple):
    """Where scores are made."""

    x: np.ndarray  # (rows, n), observations of a block
    d_outputs: np.ndarray  # (rows, outputs), weighted factors
    work: Any  # the network's
    part: np.ndarray  # (P,), what a block adds to a score
    queue: score_queue.Queue
    slots: np.ndarray  # of each lane whose score is made, or -1
    lanes: np.ndarray  # of each slot
    firsts: np.ndarray  # rows
    appraisal: Any  # of a baseline that is a network


@inner
def score_memory(policy, theta, accumulator, observation, horizon):
    """Return memory for a block."""
    rows = min(ROWS, SLOTS * horizon)
    return ScoreMemory(
        vectors.new_rows(rows, observation, theta.dtype),
        np.zeros((rows, len(policy.row())), theta.dtype),
        policy.workspace(rows, theta),
        np.zeros(len(theta), theta.dtype),
        score_queue.new_queue(SLOTS + 1, theta),
        np.full(MAX_LANES, -1),
        np.zeros(SLOTS, np.int64),
        np.zeros(SLOTS, np.int64),
        new_appraisal(baseline_of(accumulator), rows, vectors.n_components(observation)),
    )


def weigh_step(accumulator, policy, row, trajectory, observation, factor, mark, later):
    """Return a step's factor, weighted if the accumulator weights steps, and what the one before needs."""
    if not is_weighted(accumulator):
        return factor, later
    return accumulator.weigh(policy, row, trajectory.trace, observation, factor, mark, later)


def latest_of(accumulator, trajectory):
    """Return what the last step needs to know, if the accumulator weights steps."""
    return accumulator.latest(trajectory.trace) if is_weighted(accumulator) else (0.0, 0.0)


@compiled_form(weigh_step)
def _(accumulator, policy, row, trajectory, observation, factor, mark, later):
    if not is_weighted(accumulator.instance_class):

        def as_it_is(accumulator, policy, row, trajectory, observation, factor, mark, later):
            return factor, later

        return as_it_is

    def weigh_step(accumulator, policy, row, trajectory, observation, factor, mark, later):
        return accumulator.weigh(policy, row, trajectory.trace, observation, factor, mark, later)

    return weigh_step


def mark_of(accumulator, marks, step, values, row):
    """Return the mark of a step, with the value of a baseline that is a network."""
    if not is_weighted(accumulator):
        return 0.0, 0.0
    return valued(accumulator, (marks[2 * step], marks[2 * step + 1]), values, row)


@compiled_form(mark_of)
def _(accumulator, marks, step, values, row):
    if not is_weighted(accumulator.instance_class):
        return lambda accumulator, marks, step, values, row: (0.0, 0.0)

    def mark_of(accumulator, marks, step, values, row):
        return valued(accumulator, (marks[2 * step], marks[2 * step + 1]), values, row)

    return mark_of


@compiled_form(latest_of)
def _(accumulator, trajectory):
    if is_weighted(accumulator.instance_class):
        return lambda accumulator, trajectory: accumulator.latest(trajectory.trace)
    return lambda accumulator, trajectory: (0.0, 0.0)


@inner
def _weigh(policy, accumulator, trajectory, record, first, size, outputs, values, row, later, observation):
    """Write weighted factors of recorded steps into rows of a block; return what the step before needs."""
    observations, factors, _, memory, marks = record
    d_outputs = memory.d_outputs
    n, m, flat = memory.x.shape[1], d_outputs.shape[1], d_outputs.reshape(d_outputs.size)
    rows = outputs.reshape(outputs.size)
    for k in range(size - 1, -1, -1):
        step = first + k
        at = row_at(rows, row + k, trajectory.factor)
        seen = vectors.load(observations, step * n, observation)
        factor = vectors.load(factors, step * m, trajectory.factor)
        mark = mark_of(accumulator, marks, step, values, row + k)
        factor, later = weigh_step(accumulator, policy, at, trajectory, seen, factor, mark, later)
        vectors.store(flat, (row + k) * m, factor)
    return later


@inner
def _copy_observations(accumulator, record, first, size, row, time):
    """Copy those of steps `first`, ... into rows of a block, the first of them that of `time`."""
    observations, x = record[0], record[3].x
    baseline = baseline_of(accumulator)
    for k in range(size):
        note_row(baseline, record[3].appraisal, row + k, observations, first + k, time + k)
    n, flat = x.shape[1], x.reshape(x.size)
    for k in range(size * n):
        flat[row * n + k] = observations[first * n + k]


@inner
def score_alone(policy, theta, accumulator, trajectory, record, lane, horizon, observation, score):
    """Write the score of a finished trajectory, from what is recorded of it; shape (n_parameters,)."""
    memory = record[3]
    x, d_outputs, work, part = memory.x, memory.d_outputs, memory.work, memory.part
    score[:] = 0.0
    later = latest_of(accumulator, trajectory)
    stop = trajectory.time
    while stop > 0:
        start = max(0, stop - len(x))
        size, first = stop - start, lane * horizon + start
        _copy_observations(accumulator, record, first, size, 0, start)
        outputs = policy.forward(theta, x[:size], work)
        values = appraise(baseline_of(accumulator), memory.appraisal, size)
        later = _weigh(
            policy, accumulator, trajectory, record, first, size, outputs, values, 0, later, observation
        )
        policy.network.backward(theta, x[:size], work, d_outputs[:size], part)
        for k in range(len(score)):
            score[k] += part[k]
        stop = start


@inner
def gather(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
    """Make the scores of the trajectories that have just finished, as many as a block holds."""
    x, d_outputs, work, _, queue, slots, lanes, firsts, appraisal = record[3]
    n_rows = count = 0
    for block in range((n_lanes - 1) >> 6, -1, -1):
        finished = raised(memory, block, like)
        while finished != 0:
            position = last_bit(finished)
            finished ^= np.uint64(1) << np.uint64(position)
            lane = 64 * block + position
            if lane < n_lanes and count < SLOTS:
                time = take(memory, lane, like).time
                if n_rows + time <= len(x):
                    _copy_observations(accumulator, record, lane * horizon, time, n_rows, 0)
                    lanes[count], firsts[count] = lane, n_rows
                    n_rows += time
                    count += 1
    if count == 0:
        return
    outputs = policy.forward(theta, x[:n_rows], work)
    values = appraise(baseline_of(accumulator), appraisal, n_rows)
    for slot in range(count):
        trajectory, first = take(memory, lanes[slot], like), lanes[slot] * horizon
        later = latest_of(accumulator, trajectory)
        size, row = trajectory.time, firsts[slot]
        _weigh(policy, accumulator, trajectory, record, first, size, outputs, values, row, later, observation)
    policy.network.propagate(theta, work, d_outputs[:n_rows])
    place = score_queue.reserve(queue, count, SLOTS)
    for slot in range(count):
        stop = firsts[slot + 1] if slot + 1 < count else n_rows
        score = score_queue.score_in(queue, place + slot)
        policy.network.collect(x[:n_rows], work, d_outputs[:n_rows], firsts[slot], stop, score)
        slots[lanes[slot]] = place + slot


@inner
def gathered_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """Return the score of a finished trajectory, made by `gather` or now."""
    queue, slots = record[3].queue, record[3].slots
    slot = slots[lane]
    if slot < 0:
        slot = SLOTS
        score_queue.flush(queue)  # where the last one of these may wait
        score = score_queue.score_in(queue, slot)
        score_alone(policy, theta, accumulator, trajectory, record, lane, horizon, observation, score)
    slots[lane] = -1
    return score_queue.Queued(queue, slot)
