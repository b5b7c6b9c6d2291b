"""What is done to whole layers, element by element, written so that LLVM vectorises it.

An activation is a number, the place of its name in `ACTIVATIONS`, so that another one compiles nothing. With
h = f(z), each derivative is a function of h alone: f'(z) = 1 - h² for tanh, 1{h > 0} for relu (0 at z = 0),
and 1 for the identity.
"""

import numpy as np
from numba import types

from fastpg.dispatch import compiled_form, compiled_only, outline
from fastpg.lane_memory import widest_vectors
from fastpg.simd import tanh, tanh_float32

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


@compiled_only
def _tanh(x):
    """The hyperbolic tangent in the precision of x."""


@compiled_form(_tanh)
def _(x):
    return (lambda x: tanh_float32(x)) if x == types.float32 else (lambda x: tanh(x))


@outline
def _activate(z, bias, activation):
    widest_vectors()
    zero = bias.dtype.type(0.0)
    for i in range(z.shape[0]):
        if activation == TANH:
            for j in range(z.shape[1]):
                z[i, j] = _tanh(z[i, j] + bias[j])
        elif activation == RELU:
            for j in range(z.shape[1]):
                z[i, j] = max(z[i, j] + bias[j], zero)
        else:
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
