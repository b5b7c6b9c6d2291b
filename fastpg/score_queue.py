"""Scores that wait in a queue for their moments to be added up together.

The sums of a long score leave the first-level cache between two trajectories: for the scores that wait, they
are fetched and stored once.
"""

from typing import NamedTuple

import numpy as np

from fastpg import packs
from fastpg.dispatch import compiled_form, inner, outline
from fastpg.lane_loop import widest_vectors
from fastpg.lane_memory import lines_for

# Between these a sum of squares has none that overflowed, and lacks none that matters to its last digit.
_LEAST, _MOST = 2.0**-100, 2.0**127
MOMENTS, POWERS = 0, 1  # what is added up: see `moments.add_moments` and `moments.add_powers`


class Queue(NamedTuple):
    """Scores whose moments wait to be added up together: the sums are fetched and stored once for all."""

    scores: np.ndarray  # (slots, P and some more), of the policy's precision: each begins with a cache line
    size: int  # P
    slots: np.ndarray  # that wait, in order
    places: np.ndarray  # of the sums of each
    factors: np.ndarray
    chosen: np.ndarray  # where the scores begin that are being added
    weights: np.ndarray  # their factors
    state: np.ndarray  # how many wait, what for (`MOMENTS`, `POWERS`), how many are chosen, slots in use


class Queued(NamedTuple):
    """A score in a queue."""

    queue: Queue
    slot: int


@inner
def new_queue(n_slots, like):
    """Return a queue for scores like an array."""
    numbers, zeros = np.zeros(n_slots), np.zeros(n_slots, np.int64)
    scores = lines_for(n_slots, len(like), like)
    state = np.zeros(4, np.int64)
    return Queue(scores, len(like), zeros, zeros.copy(), numbers, zeros.copy(), numbers.copy(), state)


@inner
def score_in(queue, slot):
    """Return the score in a slot, shape (P,)."""
    return queue.scores[slot][: queue.size]


@inner
def reserve(queue, count, most):
    """Return the first of `count` slots, of the first `most`, that nobody waits in."""
    first = queue.state[3]
    if first + count > most:
        flush(queue)
        first = 0
    queue.state[3] = first + count
    return first


def flush(queue):
    """Add up the moments that wait: in ordinary Python none do."""


def is_queued(x):
    """Whether the type of a score is that of one in a queue."""
    return getattr(x, "instance_class", None) is Queued


@inner
def wait(sums, x, factor, kind):
    """Leave a score in its queue until its moments of that kind, with that factor, are added to `sums`."""
    queue = x.queue
    if queue.state[0] == len(queue.slots) or queue.state[1] != kind:
        flush(queue)
    count = queue.state[0]
    queue.slots[count], queue.factors[count] = x.slot, factor
    queue.places[count] = packs.number_of(packs.address_of(sums))
    queue.state[0], queue.state[1] = count + 1, kind


@inner
def _sums_of_chosen(queue, kind, i, like, zeros):
    """Return what the scores `chosen` come to in one component, or a pack of them, in `zeros`' precision."""
    numbers = packs.address_of(queue.scores)
    s0 = s1 = s2 = s3 = s4 = zeros
    for c in range(queue.state[2]):
        x = packs.as_precise_as(packs.load_pack(numbers, queue.chosen[c] + i, like), zeros)
        factor = packs.fill(queue.weights[c], zeros)
        scaled = x * factor
        if kind == POWERS:
            s0 = s0 + scaled
            s1 = s1 + scaled * scaled
        else:
            square = x * x
            s0 = s0 + x
            s1 = s1 + scaled
            s2 = s2 + square
            s3 = s3 + square * factor
            s4 = s4 + scaled * scaled
    return s0, s1, s2, s3, s4


@inner
def _add_sums(kind, place, n, i, sums):
    packs.add_to(place, i, packs.widened(sums[0]))
    packs.add_to(place, n + i, packs.widened(sums[1]))
    if kind == MOMENTS:
        packs.add_to(place, 2 * n + i, packs.widened(sums[2]))
        packs.add_to(place, 3 * n + i, packs.widened(sums[3]))
        packs.add_to(place, 4 * n + i, packs.widened(sums[4]))


@inner
def _add_chosen_at(queue, kind, place, i, like):
    """Add the scores `chosen` to the sums of one component, or of a pack of them.

    What these few come to is added up in registers first, in their own precision. Where a sum of squares
    shows that squares have left the range of float32, or may have, it is done once more in float64.
    """
    n = queue.size
    sums = _sums_of_chosen(queue, kind, i, like, like)
    safe = packs.all_between(sums[1] if kind == POWERS else sums[2], _LEAST, _MOST)
    if kind == MOMENTS:
        safe &= packs.all_between(sums[4], _LEAST, _MOST)
    if safe:
        _add_sums(kind, place, n, i, sums)
    else:
        _add_sums(kind, place, n, i, _sums_of_chosen(queue, kind, i, like, packs.widened(like)))


@inner
def _add_chosen(queue, kind, place, start, like):
    """Do so for all components from `start` on, as long as they fill a pack; return where the rest begins."""
    width = packs.width_of(like)
    end = start + (queue.size - start) // width * width
    for i in range(start, end, width):
        _add_chosen_at(queue, kind, place, i, like)
    return end


@inner
def _add_all_chosen(queue, kind, place):
    numbers = packs.address_of(queue.scores)
    rest = _add_chosen(queue, kind, place, 0, packs.wide_pack_like(numbers))
    rest = _add_chosen(queue, kind, place, rest, packs.pack_like(numbers))
    _add_chosen(queue, kind, place, rest, packs.number_like(numbers))


@outline
def _flush(queue):
    """For each of the sums that are waited for, those that wait for it, in their order."""
    widest_vectors()
    state = queue.state
    for first in range(state[0]):
        number = queue.places[first]
        state[2] = 0
        for k in range(first, state[0]):
            if queue.places[k] == number and number != 0:
                queue.chosen[state[2]] = queue.slots[k] * queue.scores.shape[1]
                queue.weights[state[2]] = queue.factors[k]
                state[2] += 1
                queue.places[k] = 0
        if state[2] > 0:
            place = packs.address_from(number)
            if state[1] == POWERS:
                _add_all_chosen(queue, POWERS, place)
            else:
                _add_all_chosen(queue, MOMENTS, place)
    state[0] = 0


@compiled_form(flush)
def _(queue):
    def flush(queue):
        if queue.state[0] > 0:
            _flush(queue)

    return flush
