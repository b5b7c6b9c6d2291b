"""Products of the matrices of a network, which are small: a loop of our own is faster than BLAS."""

import numpy as np
from numba.core.errors import TypingError

from fastpg import packs, tiles
from fastpg.dispatch import compiled_form, inner, outline
from fastpg.lane_loop import widest_vectors

_FEW = 16  # rows or outputs, for which to transpose takes longer than it saves
_DEPTH = 64  # rows of the second matrix, that stay in the first-level cache while all of the first pass by
_MANY = 2**14  # numbers of the second matrix: beyond it leaves the first-level cache, and BLAS copies parts


def times(a, b, z):
    """Write a b into z, shape (m, n); rows of b and z lie one after the other, and columns of a may."""
    np.dot(a, b, z)


def times_transposed(x, weight, z, room):
    """Write x Wᵀ into z, shape (B, m); `room` is overwritten.

    With Wᵀ as it lies in memory a product takes a third longer (128 rows, 64 × 64) to twice as long (16 rows)
    as with Wᵀ row after row.
    """
    np.dot(x, weight.T, z)


@inner
def _turn(weight, turned):
    """Transpose a matrix, in squares as far as they go."""
    m, n = weight.shape
    source, target = packs.address_of(weight), packs.address_of(turned)
    side = packs.square_side(source)
    whole_m, whole_n = m - m % side, n - n % side
    for i in range(0, whole_m, side):
        for j in range(0, whole_n, side):
            packs.turn_square(source, i * n + j, n, target, j * m + i, m)
        for j in range(whole_n, n):
            for k in range(i, i + side):
                turned[j, k] = weight[k, j]
    for i in range(whole_m, m):
        for j in range(n):
            turned[j, i] = weight[i, j]


@inner
def _rows(tile, operands, rows, columns, sums):
    """Add up those of a product's rows that fill tiles; return where the rest begins.

    `rows` and `sums` are the first and the last of each but one: of the rows, and of the products in a sum.
    """
    a, row, step, b, z, width = operands
    height, (start, end), (first, last) = tiles.rows_of(tile), rows, sums
    end = start + (end - start) // height * height
    for i in range(start, end, height):
        total = tiles.load_tile(tile, z, i * width + columns, width) if first > 0 else tile
        for k in range(first, last):
            total = tiles.plus_products(total, a, i * row + k * step, row, b, k * width + columns)
        tiles.store_tile(total, z, i * width + columns, width)
    return end


@inner
def _strips(wide, operands, m, n):
    """Multiply, as many columns at a time as a tile has; the last of them may have had their turn already."""
    z, width = operands[4], operands[5]
    high, flat = tiles.high_tile(z, wide), tiles.flat_tile(z, wide)
    at_once = tiles.columns_of(flat)
    for j in range(0, width, at_once):
        columns = min(j, width - at_once)
        for first in range(0, max(n, 1), _DEPTH):
            sums = first, min(first + _DEPTH, n)
            rest = _rows(high, operands, (0, m), columns, sums)
            _rows(flat, operands, (rest, m), columns, sums)


@outline
def _times(a, row, step, b, z):
    """Write a b into z; rows and columns of a are `row` and `step` apart."""
    widest_vectors()
    (m, width), n = z.shape, len(b)
    operands = packs.address_of(a), row, step, packs.address_of(b), packs.address_of(z), width
    if width >= tiles.columns_of(tiles.flat_tile(operands[4], (0,))):
        _strips((0,), operands, m, n)
    else:
        _strips((), operands, m, n)


@compiled_form(times)
def _(a, b, z):
    turned = a.layout == "F"
    if a.layout not in "CF" or b.layout != "C" or z.layout != "C" or not a.dtype == b.dtype == z.dtype:
        raise TypingError(f"no product of {a} and {b} for {z}")
    if not tiles.has_multiply_add():
        return lambda a, b, z: np.dot(a, b, z)

    def times(a, b, z):
        if z.shape[1] < packs.width_of(packs.pack_like(packs.address_of(z))) or b.size > _MANY:
            np.dot(a, b, z)
        elif turned:
            _times(a, 1, a.shape[0], b, z)
        else:
            _times(a, a.shape[1], 1, b, z)

    return times


@outline
def _times_transposed(x, weight, z, room):
    widest_vectors()
    m, n = weight.shape
    if len(x) < _FEW or m < _FEW or len(room) < weight.size:
        np.dot(x, weight.T, z)
        return
    turned = room[: n * m].reshape((n, m))
    _turn(weight, turned)
    times(x, turned, z)


@compiled_form(times_transposed)
def _(x, weight, z, room):
    return lambda x, weight, z, room: _times_transposed(x, weight, z, room)
