"""Products with transposed weights, which BLAS multiplies faster if they are transposed in memory first."""

import numpy as np

from fastpg import packs
from fastpg.dispatch import compiled_form, inner, outline
from fastpg.lane_loop import widest_vectors

_FEW = 16  # rows or outputs, for which to transpose takes longer than it saves


def times_transposed(x, weight, z, room):
    """Write x Wᵀ into z, shape (B, m); `room` is overwritten.

    With Wᵀ as it lies in memory a product takes a third longer (128 rows, 64 × 64) to twice as long (16 rows)
    as with Wᵀ row after row: OpenBLAS has no kernel for small matrices of the first kind, and copies both.
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


@outline
def _times_transposed(x, weight, z, room):
    widest_vectors()
    m, n = weight.shape
    if len(x) < _FEW or m < _FEW or len(room) < weight.size:
        np.dot(x, weight.T, z)
        return
    turned = room[: n * m].reshape((n, m))
    _turn(weight, turned)
    np.dot(x, turned, z)


@compiled_form(times_transposed)
def _(x, weight, z, room):
    return lambda x, weight, z, room: _times_transposed(x, weight, z, room)
