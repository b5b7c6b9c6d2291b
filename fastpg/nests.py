"""Nests of tuples, with numbers or arrays of them as leaves, in ordinary Python."""

import numpy as np


def count_leaves(value):
    """Return how many numbers are in a nest of tuples and vectors, in ordinary Python."""
    if isinstance(value, tuple):
        return sum(map(count_leaves, value))
    return np.size(value)


def leaves_of(value):
    """Return the numbers, or arrays of them, in a nest of tuples."""
    return [leaf for item in value for leaf in leaves_of(item)] if isinstance(value, tuple) else [value]


def filled(like, leaves):
    """Return a nest of tuples like `like` with other numbers, from an iterator."""
    if not isinstance(like, tuple):
        return next(leaves)
    items = [filled(item, leaves) for item in like]
    return type(like)(*items) if hasattr(like, "_fields") else tuple(items)


def element(columns, i):
    """Return element i of each array in a nest of tuples, as a nest of numbers (or of arrays: copies)."""
    items = [column[i] for column in leaves_of(columns)]
    return filled(columns, iter([item.copy() if np.ndim(item) else item.item() for item in items]))
