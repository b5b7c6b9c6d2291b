"""What is done to whole layers, element by element, written so that LLVM vectorises it.

An activation is a number, the place of its name in `ACTIVATIONS`, so that another one compiles nothing. With
h = f(z), each derivative is a function of h alone: f'(z) = 1 - h² for tanh, 1{h > 0} for relu (0 at z = 0),
and 1 for the identity.
"""

import numpy as np
from numba import types

from fastpg import packs
from fastpg.dispatch import compiled_form, inner, outline
from fastpg.lane_loop import widest_vectors
from fastpg.simd import TANH_BOUND, tanh, tanh_float32, tanh_fraction

ACTIVATIONS = ("identity", "relu", "tanh")
IDENTITY, RELU, TANH = range(3)


def converted(x, theta):
    """Return what goes into a network in the type of its θ."""
    return x.astype(theta.dtype, copy=False)


def activate(z, bias, activation):
    """Replace z, shape (B, n), by ``f(z + bias)``."""
    z += bias
    if activation == RELU:
        np.maximum(z, 0.0, out=z)
    elif activation == TANH:
        np.tanh(z, out=z)


def through_activation(d, h, activation):
    """Multiply d, shape (B, n), by f', where h is what `activate` left."""
    if activation == RELU:
        d *= h > 0.0
    elif activation == TANH:
        d *= 1.0 - np.square(h)


def add_columns(total, d, first, last):
    """Write the sum of rows first to last - 1 of d, shape (B, n), into `total`, shape (n,)."""
    total[:] = d[first:last].sum(axis=0)


# What follows is compiled only.


@inner
def _tanh_of_pack(x):
    """`tanh_float32` of a pack, but for how it divides: below 5.5 ULP, too."""
    numerator, denominator = tanh_fraction(packs.at_most(packs.magnitude(x), TANH_BOUND))
    return packs.with_sign(packs.at_most(packs.quotient(numerator, denominator), np.float32(1.0)), x)


def _tanh_of_sums(z, bias):
    """Replace z, shape (B, n), by ``tanh(z + bias)``; compiled code only."""


@inner
def _tanh_of_packs(address, start, stop, pack):
    """Replace numbers from `start` on, as long as they fill a pack; return where the rest begins."""
    width = packs.width_of(pack)
    end = start + (stop - start) // width * width
    for i in range(start, end, width):
        packs.store_pack(address, i, _tanh_of_pack(packs.load_pack(address, i, pack)))
    return end


@outline
def _tanh_of_floats(z, bias):
    widest_vectors()
    numbers, addend = packs.address_of(z), packs.address_of(bias)
    pack = packs.wide_pack_like(numbers)
    width = packs.width_of(pack)
    if len(bias) % width == 0:
        for row in range(0, z.size, len(bias)):
            for j in range(0, len(bias), width):
                x = packs.load_pack(numbers, row + j, pack) + packs.load_pack(addend, j, pack)
                packs.store_pack(numbers, row + j, _tanh_of_pack(x))
        return
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += bias[j]
    start = _tanh_of_packs(numbers, 0, z.size, pack)
    start = _tanh_of_packs(numbers, start, z.size, packs.pack_like(numbers))
    flat = z.reshape(z.size)
    for i in range(start, z.size):
        flat[i] = tanh_float32(flat[i])


@outline
def _tanh_of_doubles(z, bias):
    widest_vectors()
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] = tanh(z[i, j] + bias[j])


@compiled_form(_tanh_of_sums)
def _(z, bias):
    if z.dtype == types.float32:
        return lambda z, bias: _tanh_of_floats(z, bias)
    return lambda z, bias: _tanh_of_doubles(z, bias)


@outline
def _activate(z, bias, activation):
    widest_vectors()
    zero = bias.dtype.type(0.0)
    if activation == TANH:
        _tanh_of_sums(z, bias)
    elif activation == RELU:
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] = max(z[i, j] + bias[j], zero)
    else:
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] += bias[j]


@outline
def _through(d, h, activation):
    widest_vectors()
    flat, values, one = d.reshape(d.size), h.reshape(h.size), d.dtype.type(1.0)
    if activation == TANH:
        for i in range(len(flat)):
            flat[i] *= one - values[i] * values[i]
    elif activation == RELU:
        zero = d.dtype.type(0.0)
        for i in range(len(flat)):
            flat[i] = flat[i] if values[i] > zero else zero


@outline
def _add_columns(total, d, first, last):
    widest_vectors()
    for j in range(len(total)):
        total[j] = d[first, j]
    for i in range(first + 1, last):
        for j in range(len(total)):
            total[j] += d[i, j]


@compiled_form(converted)
def _(x, theta):
    if x.dtype == theta.dtype:
        return lambda x, theta: x
    return lambda x, theta: x.astype(theta.dtype)


@compiled_form(activate)
def _(z, bias, activation):
    return lambda z, bias, activation: _activate(z, bias, activation)


@compiled_form(through_activation)
def _(d, h, activation):
    return lambda d, h, activation: _through(d, h, activation)


@compiled_form(add_columns)
def _(total, d, first, last):
    return lambda total, d, first, last: _add_columns(total, d, first, last)
