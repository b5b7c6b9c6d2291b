"""Scores of whole trajectories, and adding up their moments.

A score is a short vector (`fastpg.vectors`), a long array, or `Sparse`.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from fastpg import packs
from fastpg.dispatch import compiled_form, compiled_only, inner, lowered, outline
from fastpg.lane_memory import VECTOR
from fastpg.score_queue import MOMENTS, POWERS, Queued, is_queued, score_in, wait
from fastpg.vectors import (
    FLAGS,
    accumulate,
    add,
    add_in_place,
    elements,
    load,
    multiply,
    pack_elements,
    scale,
    section,
    squares,
    store,
    zeros_like,
)


class Sparse(NamedTuple):
    """A long vector that is zero but for sections of it, which may overlap."""

    values: np.ndarray
    starts: np.ndarray  # of the sections
    n_sections: int
    width: int  # of each
    like: Any = ()  # a vector, as long as sections usually are, for its type


class Pair(NamedTuple):
    """Two scores of a trajectory."""

    term: Any  # A
    partner: Any  # B, a vector or an array


def add_products(sums, pair):
    """Add B, A, B², AB and A² of a `Pair` to five parts of `sums`, each as long as they are.

    A `Sparse` A is zero afterwards.
    """
    a, b = _values(pair.term), np.asarray(pair.partner)
    n = len(b)
    for k, power in enumerate((b, a, b**2, a * b, a**2)):
        sums[k * n : (k + 1) * n] += power
    if isinstance(pair.term, Sparse):
        a[:] = 0.0


def add_moments(sums, x, factor):
    """Add x, x·r, x², x²·r and x²·r² (r: the `factor`) to five parts of `sums`, each as long as `x`.

    `x` is a vector, or `Sparse`: then it is zero afterwards.
    """
    values = _values(x)
    n = len(values)
    powers = (values, factor * values, values**2, factor * values**2, factor**2 * values**2)
    for k, power in enumerate(powers):
        sums[k * n : (k + 1) * n] += power
    if isinstance(x, Sparse):
        values[:] = 0.0


def add_powers(sums, x, weight):
    """Add w·x and (w·x)² to two parts of `sums`, each as long as `x`.

    `x` is a vector, or `Sparse`: then it is zero afterwards.
    """
    values = _values(x)
    sums[: len(values)] += weight * values
    sums[len(values) : 2 * len(values)] += (weight * values) ** 2
    if isinstance(x, Sparse):
        values[:] = 0.0


def add_outer(sums, x, factor, offsets, start):
    """Add y yᵀ to the first P² numbers of `sums`, y = x · (factor + offsets[start : start + P]).

    `x` is a vector, or `Sparse`: then it is zero afterwards. Behind the P² numbers is room for y. Of a `Pair`
    it is y = A · factor + B · offsets[start : start + P].
    """
    n = length(x)
    if isinstance(x, Pair):
        move_out(sums, n * n, x.term)
        y = sums[n * n : n * n + n] * factor + x.partner * offsets[start : start + n]
        sums[: n * n] += np.outer(y, y).reshape(-1)
        return
    move_out(sums, n * n, x)
    y = sums[n * n : n * n + n] * (factor + offsets[start : start + n])
    sums[: n * n] += np.outer(y, y).reshape(-1)


def move_out(array, start, x):
    """Write a vector, or `Sparse`, which is zero afterwards, into an array from `start` on."""
    values = _values(x)
    array[start : start + len(values)] = values
    if isinstance(x, Sparse):
        values[:] = 0.0


def length(x):
    """Return how many components a vector has, `Sparse` or not."""
    return len(_values(x))


def _values(x):
    if isinstance(x, Pair):
        return np.asarray(x.partner)
    if isinstance(x, Queued):
        return score_in(x.queue, x.slot).astype(np.float64)
    return x.values if isinstance(x, Sparse) else np.asarray(x)


@compiled_form(length)
def _(x):
    if getattr(x, "instance_class", None) is Sparse:
        return lambda x: len(x.values)
    if getattr(x, "instance_class", None) is Queued:
        return lambda x: x.queue.size
    if getattr(x, "instance_class", None) is Pair:
        return lambda x: len(x.partner)
    return lambda x: len(x)


@compiled_only
def _add_section(sums, start, n, x, factor):
    """Add what `add_moments` does of a vector x to five parts of n numbers, to each from `start` on."""


@lowered(_add_section)
def _(typing, sums, start, n, x, factor):
    # Vectors spelt out, as in `vectors.accumulate`, and of a few numbers at a time: the five sums of those
    # are complete before the next are put together, so that none of them wait outside the registers.
    def codegen(context, builder, signature, args):
        data = context.make_array(sums)(context, builder, args[0]).data
        numbers = elements(builder, args[3], len(x))
        factor, square_of_factor = args[4], builder.fmul(args[4], args[4], flags=FLAGS)
        for first in range(0, len(x), VECTOR):
            values = pack_elements(builder, numbers[first : first + VECTOR])
            factors, squared_factors = (
                pack_elements(builder, [f] * values.type.count) for f in (factor, square_of_factor)
            )
            square = builder.fmul(values, values, flags=FLAGS)
            place = builder.add(args[1], ir.Constant(args[1].type, first))
            products = (
                values,
                builder.fmul(values, factors, flags=FLAGS),
                square,
                builder.fmul(square, factors, flags=FLAGS),
                builder.fmul(square, squared_factors, flags=FLAGS),
            )
            for product in products:
                add_in_place(builder, data, place, product)
                place = builder.add(place, args[2])
        return context.get_dummy_value()

    return types.void(sums, types.intp, types.intp, x, types.float64), codegen


def _add_moments_of_vector(sums, x, factor):
    _add_section(sums, 0, len(x), x, factor)


def _add_moments_of_sparse(sums, x, factor):
    n = len(x.values)
    for k in range(x.n_sections):
        for i in range(x.starts[k], x.starts[k] + x.width):
            value = x.values[i]
            if value != 0.0:
                square = value * value
                sums[i] += value
                sums[n + i] += value * factor
                sums[2 * n + i] += square
                sums[3 * n + i] += square * factor
                sums[4 * n + i] += square * factor * factor
                x.values[i] = 0.0


def _add_moments_of_sections(sums, x, factor):
    if x.width != len(x.like):
        _numbers_of_sparse(sums, x, factor)
        return
    # Never asked whether it is zero: half of them are, and guessing wrong takes longer than adding.
    n = len(x.values)
    for k in range(x.n_sections):
        values = load(x.values, x.starts[k], x.like)
        _add_section(sums, x.starts[k], n, values, factor)
        store(x.values, x.starts[k], zeros_like(values))


_numbers_of_sparse = outline(_add_moments_of_sparse)


def _add_powers_of_vector(sums, x, weight):
    accumulate(sums, 0, x, weight)
    accumulate(sums, len(x), squares(x), weight * weight)


def _add_powers_of_sparse(sums, x, weight):
    n = len(x.values)
    for k in range(x.n_sections):
        for i in range(x.starts[k], x.starts[k] + x.width):
            value = weight * x.values[i]
            sums[i] += value
            sums[n + i] += value * value
            x.values[i] = 0.0


def _add_powers_of_array(sums, x, weight):
    n = len(x)
    first, second = sums[:n], sums[n : 2 * n]
    for i in range(n):
        first[i] += weight * x[i]
    for i in range(n):
        second[i] += (weight * x[i]) * (weight * x[i])


@inner
def _move_array_out(array, start, x):
    for i in range(len(x)):
        array[start + i] = x[i]


def _move_sparse_out(array, start, x):
    for i in range(len(x.values)):
        array[start + i] = x.values[i]
        x.values[i] = 0.0


def _add_outer_of_vector(sums, x, factor, offsets, start):
    y = multiply(x, scale(section(offsets, start, x), 1.0, factor))
    for i in range(len(x)):
        accumulate(sums, i * len(x), y, y[i])


def _add_outer_of_numbers(sums, x, factor, offsets, start):
    n = length(x)
    move_out(sums, n * n, x)
    for i in range(n):
        sums[n * n + i] *= factor + offsets[start + i]
    _add_squares(sums, n)


@inner
def _add_squares(sums, n):
    """Add y yᵀ to P² numbers, for the y behind them."""
    for i in range(n):
        for j in range(i + 1):
            product = sums[n * n + i] * sums[n * n + j]
            sums[i * n + j] += product
            if j < i:
                sums[j * n + i] += product


def _add_outer_of_arrays(sums, x, factor, offsets, start):
    n = length(x)
    move_out(sums, n * n, x.term)
    for i in range(n):
        sums[n * n + i] = sums[n * n + i] * factor + x.partner[i] * offsets[start + i]
    _add_squares(sums, n)


def _add_outer_of_vectors(sums, x, factor, offsets, start):
    y = add(scale(x.term, factor, 0.0), multiply(x.partner, section(offsets, start, x.partner)))
    for i in range(len(y)):
        accumulate(sums, i * len(y), y, y[i])


def _add_products_of_vectors(sums, pair):
    a, b, n = pair.term, pair.partner, len(pair.partner)
    accumulate(sums, 0, b, 1.0)
    accumulate(sums, n, a, 1.0)
    accumulate(sums, 2 * n, squares(b), 1.0)
    accumulate(sums, 3 * n, multiply(a, b), 1.0)
    accumulate(sums, 4 * n, squares(a), 1.0)


def _add_products_of_arrays(sums, pair):
    values, n = _numbers(pair.term), len(pair.partner)
    for i in range(n):
        a, b = values[i], pair.partner[i]
        sums[i] += b
        sums[n + i] += a
        sums[2 * n + i] += b * b
        sums[3 * n + i] += a * b
        sums[4 * n + i] += a * a
        values[i] = 0.0


@compiled_only
def _numbers(x):
    """The array of a long score."""


@compiled_form(_numbers)
def _(x):
    return (lambda x: x) if isinstance(x, types.Array) else (lambda x: x.values)


@compiled_form(add_products)
def _(sums, pair):
    partner = pair[Pair._fields.index("partner")]
    return _add_products_of_arrays if isinstance(partner, types.Array) else _add_products_of_vectors


@compiled_form(add_outer)
def _(sums, x, factor, offsets, start):
    if getattr(x, "instance_class", None) is Pair:
        partner = x[Pair._fields.index("partner")]
        return _add_outer_of_arrays if isinstance(partner, types.Array) else _add_outer_of_vectors
    return _add_outer_of_vector if isinstance(x, types.UniTuple) else _add_outer_of_numbers


@compiled_form(move_out)
def _(array, start, x):
    if isinstance(x, types.UniTuple):
        return lambda array, start, x: store(array, start, x)
    if is_queued(x):
        return lambda array, start, x: _move_array_out(array, start, score_in(x.queue, x.slot))
    if isinstance(x, types.Array):
        return lambda array, start, x: _move_array_out(array, start, x)
    return _move_sparse_out


@compiled_form(add_powers)
def _(sums, x, weight):
    if isinstance(x, types.UniTuple):
        return _add_powers_of_vector
    if is_queued(x):
        return lambda sums, x, weight: wait(sums, x, weight, POWERS)
    return _add_powers_of_array if isinstance(x, types.Array) else _add_powers_of_sparse


@inner
def _add_moments_at(sums, n, i, x, factor):
    square = x * x
    packs.add_to(sums, i, x)
    packs.add_to(sums, n + i, x * factor)
    packs.add_to(sums, 2 * n + i, square)
    packs.add_to(sums, 3 * n + i, square * factor)
    packs.add_to(sums, 4 * n + i, square * (factor * factor))


def _add_moments_of_array(sums, x, factor):
    n, pack = len(x), packs.no_pack()
    whole = n - n % packs.width_of(pack)
    numbers, places = packs.address_of(x), packs.address_of(sums)
    for i in range(0, whole, packs.width_of(pack)):
        _add_moments_at(places, n, i, packs.load_pack(numbers, i, pack), factor)
    for i in range(whole, n):
        _add_moments_at(places, n, i, packs.load_pack(numbers, i, 0.0), factor)


@compiled_form(add_moments)
def _(sums, x, factor):
    if isinstance(x, types.Array):
        return _add_moments_of_array
    if is_queued(x):
        return lambda sums, x, factor: wait(sums, x, factor, MOMENTS)
    if getattr(x, "instance_class", None) is not Sparse:
        return _add_moments_of_vector
    return _add_moments_of_sections if len(x[Sparse._fields.index("like")]) else _add_moments_of_sparse
