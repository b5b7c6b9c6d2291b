"""Sums along a trajectory: a time step adds to them, and never looks at them."""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.dispatch import lowered
from fastpg.lane_memory import put, putting, take, taking


class RunningSum(NamedTuple):
    """A sum along a trajectory that a time step adds to and never looks at.

    `take_increments` gives it as zero and `put_increments` adds what has become of it, so that a long one is
    fetched, added to and stored number by number. With all of it fetched before the step and stored after
    it, LLVM keeps its order, and what the registers do not hold is stored and fetched twice.
    """

    total: Any

    def plus(self, x):
        """Return the sum with a vector added."""
        return RunningSum(vectors.add(self.total, x))


def take_increments(memory, lane, like):
    """Return what a lane holds, with zeros for its running sums."""
    return _on_sums(np.zeros_like, take(memory, lane, like))


def put_increments(memory, lane, value, like):
    """Put a value into a lane, but add its running sums to those that are there."""
    put(memory, lane, _on_sums(np.add, value, take(memory, lane, like)), like)


def _on_sums(function, value, *others):
    """Return a nest of tuples with ``function(own, *others)`` for each running sum."""
    if not isinstance(value, tuple):
        return value
    if isinstance(value, RunningSum):
        return RunningSum(function(value.total, *(other.total for other in others)))
    items = [_on_sums(function, *parts) for parts in zip(value, *others, strict=True)]
    return type(value)._make(items) if hasattr(value, "_fields") else tuple(items)


def _is_sum(ty):
    return getattr(ty, "instance_class", None) is RunningSum


lowered(take_increments)(taking(_is_sum))
lowered(put_increments)(putting(_is_sum))
