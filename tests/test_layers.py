"""What is done to whole layers: tanh of wide packs, and products of matrices."""

import numba
import numpy as np
import pytest

from fastpg.dispatch import kernel
from fastpg.networks.activations import TANH, activate
from fastpg.networks.products import times, times_transposed

COMPILED = not numba.config.DISABLE_JIT


@kernel
def apply_tanh(z, bias):
    activate(z, bias, TANH)


@kernel
def multiply(x, weight, z, room):
    times_transposed(x, weight, z, room)


# Columns: whole wide packs, some registers of them, and numbers that fill none.
@pytest.mark.parametrize("columns", [1, 5, 16, 37, 64, 128])
def test_tanh_of_a_layer_stays_below_the_bound(columns):
    x = np.random.default_rng(0).uniform(-10.0, 10.0, (100, columns)).astype(np.float32)
    x[: min(10, columns), 0] *= np.float32(1e-4)
    bias = np.linspace(-1.0, 1.0, columns, dtype=np.float32)
    found = x.copy()
    apply_tanh(found, bias)
    true = np.tanh((x + bias).astype(np.float64))
    assert (abs(found - true) / np.spacing(abs(true).astype(np.float32))).max() < 5.5
    assert abs(found).max() <= 1.0


@pytest.mark.parametrize("columns", [3, 64])
def test_edge_values_of_tanh_of_a_layer(columns):
    z = np.zeros((2, columns), np.float32)
    z[0, :3] = np.nan, np.inf, -np.inf
    apply_tanh(z, np.zeros(columns, np.float32))
    np.testing.assert_array_equal(z[0, :3], [np.nan, 1.0, -1.0])
    np.testing.assert_array_equal(z[1], 0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(64, 64), (64, 4), (37, 70), (16, 33), (2, 64)])
@pytest.mark.parametrize("rows", [3, 50])
def test_products_with_transposed_weights(dtype, shape, rows):
    """Numbers so small that every product and sum of them is exact."""
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-8, 9, size).astype(dtype) for size in ((rows, shape[1]), shape))
    for room in (np.zeros(weight.size, dtype), np.zeros(3, dtype)):
        z = np.zeros((rows, shape[0]), dtype)
        multiply(x, weight, z, room)
        np.testing.assert_array_equal(z, x @ weight.T)
        assert not COMPILED or rows < 16 or shape[0] < 16 or room.size < weight.size or room.any()


@kernel
def multiply_rows(a, b, z):
    times(a, b, z)


@kernel
def multiply_columns(a, b, z):
    times(a.T, b, z)


# Rows and columns of all tiles, and of BLAS; and sums longer than are added up at once.
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [2, 8, 16, 33, 64, 100, 200])
@pytest.mark.parametrize("rows", [1, 5, 6, 13, 64])
@pytest.mark.parametrize("depth", [1, 4, 64, 150])
def test_products(dtype, rows, columns, depth):
    """Numbers so small that every product and sum of them is exact; nothing behind z is written."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, size).astype(dtype) for size in ((rows, depth), (depth, columns)))
    for multiplied, left in ((multiply_rows, a), (multiply_columns, np.ascontiguousarray(a.T))):
        z = np.full((rows + 1, columns), 0.5, dtype)
        multiplied(left, b, z[:rows])
        np.testing.assert_array_equal(z[:rows], a @ b)
        assert (z[rows] == 0.5).all()
