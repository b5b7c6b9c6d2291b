"""Recorded trajectories of a table: which action was taken in which state, and scores from counting that.

What a table's `factor` would be is in θ, so a lane notes one number, the `visit`, in place of an observation
and a factor for every step. The score is then Σ_t w_t (e_{a_t} − π(s_t)): in state s the weights of each
action, less π(s) times the weights of all. Compiled code only; policies have it by a method `visit`
(`TabulatedSoftmax`).
"""

import numpy as np

from fastpg import moments
from fastpg.dispatch import inner
from fastpg.lane_memory import lane_count


def has_visits(policy):
    """Whether what is recorded of a policy's trajectories are visits."""
    return hasattr(policy, "visit") and hasattr(policy, "balance")


@inner
def new_visits(theta, like, horizon, n_marks):
    """Return what `records.new_record` returns: visits, room for a score, and for its sections, and marks.

    Of the visits 32 bits are kept, for θ of at most 32 GiB: half as many cache lines. Beside the sections is
    noted which trajectory was the last in each state.
    """
    n = len(theta)
    visits = np.empty(lane_count(like) * horizon, np.uint32)
    return visits, np.zeros(n), np.empty(horizon, np.int64), np.full(n, -1), np.empty(n_marks)


@inner
def note_section(record, n, start, number):
    """Note where a section begins, as number n, and return how many there are: one more if it is new."""
    _, _, starts, latest, _ = record
    starts[n] = start
    n += 1 if latest[start] != number else 0  # and never a branch: nobody could guess it
    latest[start] = number
    return n


@inner
def counted_score(policy, theta, trajectory, record, first):
    """Return the score of a trajectory whose steps all count alike, recorded from step `first` on."""
    visits, score, starts, _, _ = record
    width = len(policy.initial_preferences)
    n = 0
    for step in range(first, first + trajectory.time):
        visit = np.int64(visits[step])
        n = note_section(record, n, visit // width * width, trajectory.number)
        score[visit] += 1.0
    for k in range(n):
        policy.balance(theta, score, starts[k])
    return moments.Sparse(score, starts, n, width, policy.initial_preferences)


@inner
def weighed_score(policy, theta, accumulator, trajectory, record, first):
    """The same if the accumulator weights every step: from the last to the first, as in `records`."""
    visits, score, starts, _, marks = record
    width = len(policy.initial_preferences)
    table = policy.of_states()
    later = accumulator.latest(trajectory.trace)
    n = 0
    for step in range(first + trajectory.time - 1, first - 1, -1):
        visit = np.int64(visits[step])
        state, action = visit // width, visit % width
        factor, mark = table.factor(theta, state, action), (marks[2 * step], marks[2 * step + 1])
        factor, later = accumulator.weigh(table, theta, trajectory.trace, state, factor, mark, later)
        n = note_section(record, n, state * width, trajectory.number)
        table.spread(score, state, factor, 1.0)
    return moments.Sparse(score, starts, n, width, policy.initial_preferences)


@inner
def partner_score(policy, theta, accumulator, trajectory, record, first):
    """The second score that an accumulator wants, an array."""
    visits, _, _, _, marks = record
    width = len(policy.initial_preferences)
    partner = np.zeros(len(theta))
    for step in range(first, first + trajectory.time):
        partner[np.int64(visits[step])] += accumulator.partner_weight((marks[2 * step], marks[2 * step + 1]))
    for start in range(0, len(theta), width):
        policy.balance(theta, partner, start)
    return partner
