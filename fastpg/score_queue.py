"""Scores that wait in a queue for their moments to be added up together.

The sums of a long score leave the first-level cache between two trajectories: for the scores that wait, they
are fetched and stored once.
"""

from typing import NamedTuple

import numpy as np

from fastpg import packs
from fastpg.dispatch import compiled_form, inner, outline
from fastpg.lane_loop import widest_vectors

MOMENTS, POWERS = 0, 1  # what is added up: see `moments.add_moments` and `moments.add_powers`


class Queue(NamedTuple):
    """Scores whose moments wait to be added up together: the sums are fetched and stored once for all."""

    scores: np.ndarray  # (slots, P), of the policy's precision
    slots: np.ndarray  # that wait, in order
    places: np.ndarray  # of the sums of each
    factors: np.ndarray
    chosen: np.ndarray  # those that are being added
    state: np.ndarray  # how many wait, what for (`MOMENTS`, `POWERS`), how many are chosen, slots in use


class Queued(NamedTuple):
    """A score in a queue."""

    queue: Queue
    slot: int


@inner
def new_queue(n_slots, like):
    """Return a queue for scores like an array."""
    numbers, zeros = np.zeros(n_slots), np.zeros(n_slots, np.int64)
    scores = np.zeros((n_slots, len(like)), like.dtype)
    return Queue(scores, zeros, zeros.copy(), numbers, zeros.copy(), np.zeros(4, np.int64))


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
def _add_chosen_at(queue, kind, place, n, i, like):
    """Add the scores `chosen` to the sums of one component, or of a pack of them.

    What these few come to is added up in registers, in the precision of the scores, and then to the sums.
    """
    numbers, chosen, factors = packs.address_of(queue.scores), queue.chosen, queue.factors
    s0 = s1 = s2 = s3 = s4 = like
    if kind == POWERS:
        for c in range(queue.state[2]):
            x = packs.load_pack(numbers, queue.slots[chosen[c]] * n + i, like) * packs.fill(
                factors[chosen[c]], like
            )
            s0 = s0 + x
            s1 = s1 + x * x
    else:
        for c in range(queue.state[2]):
            x = packs.load_pack(numbers, queue.slots[chosen[c]] * n + i, like)
            factor = packs.fill(factors[chosen[c]], like)
            square, scaled = x * x, x * factor
            s0 = s0 + x
            s1 = s1 + scaled
            s2 = s2 + square
            s3 = s3 + square * factor
            s4 = s4 + scaled * scaled
        packs.add_to(place, 2 * n + i, packs.widened(s2))
        packs.add_to(place, 3 * n + i, packs.widened(s3))
        packs.add_to(place, 4 * n + i, packs.widened(s4))
    packs.add_to(place, i, packs.widened(s0))
    packs.add_to(place, n + i, packs.widened(s1))


@inner
def _add_chosen(queue, kind, place, start, like):
    """Do so for all components from `start` on, as long as they fill a pack; return where the rest begins."""
    n, width = queue.scores.shape[1], packs.width_of(like)
    end = start + (n - start) // width * width
    for i in range(start, end, width):
        _add_chosen_at(queue, kind, place, n, i, like)
    return end


@outline
def _flush(queue):
    """For each of the sums that are waited for, those that wait for it, in their order."""
    widest_vectors()
    state, numbers = queue.state, packs.address_of(queue.scores)
    for first in range(state[0]):
        number = queue.places[first]
        state[2] = 0
        for k in range(first, state[0]):
            if queue.places[k] == number and number != 0:
                queue.chosen[state[2]] = k
                state[2] += 1
                queue.places[k] = 0
        if state[2] > 0:
            place = packs.address_from(number)
            rest = _add_chosen(queue, state[1], place, 0, packs.wide_pack_like(numbers))
            rest = _add_chosen(queue, state[1], place, rest, packs.pack_like(numbers))
            _add_chosen(queue, state[1], place, rest, packs.number_like(numbers))
    state[0] = 0


@compiled_form(flush)
def _(queue):
    def flush(queue):
        if queue.state[0] > 0:
            _flush(queue)

    return flush
