r"""A convolution and its derivative by the kernel: P W and Pᵀ Δ, where the rows of P are patches of images.

A number x_{rkc} of an image is in the patches of pixels (r - u, k - v) alone, u, v < s. So in compiled code
each number that is not 0 adds its multiple of a piece of the kernel to what these become, or its multiple of
their Δ to the derivative by that piece. Of a game's image, which is mostly 0, that is a fraction of the work
of the product of matrices, and no patches are copied, which would take longer than the product.

Pixels k - s + 1 to k of a row are one after the other, and so are their pieces in a kernel whose columns are
turned round, shape (C, s, s, F): for each u it is one sum of s · F numbers.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastpg.dispatch import compiled_form, compiled_only, inline, lowered, outline
from fastpg.lane_loop import widest_vectors
from fastpg.packs import FLAGS, pack_width


def patches_of(x, side, input_shape):
    """Return P, shape (B·H'·W', side²·C)."""
    windows = np.lib.stride_tricks.sliding_window_view(
        x.reshape(len(x), *input_shape), (side, side), axis=(1, 2)
    )
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * input_shape[2])


def add_products(x, weight, side, input_shape, kernel, z):
    """Write P W, shape (B, H'·W'·F), into z; `kernel` is memory as long as W."""
    patches = patches_of(x, side, input_shape).astype(z.dtype)
    z[:] = (patches @ weight.reshape(patches.shape[1], -1)).reshape(z.shape)


def correlate(x, d, side, input_shape, kernel, gradient):
    """Write Pᵀ Δ, as long as W, into `gradient`; `kernel` is memory for as much."""
    patches = patches_of(x, side, input_shape).astype(d.dtype)
    gradient[:] = (patches.T @ d.reshape(len(patches), -1)).ravel()


# What follows is compiled only.


@compiled_only
def _add_multiple(target, start, source, begin, n, factor):
    """Add a multiple of n numbers of `source`, from `begin` on, to those of `target` from `start` on."""


@lowered(_add_multiple)
def _(typing, target, start, source, begin, n, factor):
    # Vectors spelt out: LLVM's own loop would be made for longer sums, and do these one number at a time.
    def codegen(context, builder, signature, args):
        number = context.get_value_type(target.dtype)
        width = pack_width() * 64 // target.dtype.bitwidth
        vector = ir.VectorType(number, width)
        to, of = (
            builder.gep(context.make_array(ty)(context, builder, array).data, [first], inbounds=True)
            for ty, array, first in ((target, *args[:2]), (source, *args[2:4]))
        )
        n, align = args[4], target.dtype.bitwidth // 8
        first = builder.insert_element(
            ir.Constant(vector, ir.Undefined), args[5], ir.Constant(ir.IntType(32), 0)
        )
        places = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        multiples = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), places)

        def add(at, kind, multiple):
            slot, piece = (
                builder.bitcast(builder.gep(place, [at], inbounds=True), kind.as_pointer())
                for place in (to, of)
            )
            product = builder.fmul(builder.load(piece, align=align), multiple, flags=FLAGS)
            total = builder.fadd(builder.load(slot, align=align), product, flags=FLAGS)
            builder.store(total, slot, align=align)

        step = ir.Constant(n.type, width)
        whole = builder.sub(n, builder.srem(n, step))
        with cgutils.for_range_slice(builder, ir.Constant(n.type, 0), whole, step, n.type) as (at, _):
            add(at, vector, multiples)
        with cgutils.for_range(builder, n, start=whole, intp=n.type) as loop:
            add(loop.index, number, args[5])
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp, target.dtype), codegen


@inline
def _turn(weight, side, channels, filters, kernel, back):
    """Write W, shape (side, side, C, F), into `kernel`, shape (C, side, side, F), columns turned round.

    Or if `back` write `kernel` into W.
    """
    at = 0
    for c in range(channels):
        for u in range(side):
            for v in range(side - 1, -1, -1):
                place = ((u * side + v) * channels + c) * filters
                for f in range(filters):
                    if back:
                        weight[place + f] = kernel[at + f]
                    else:
                        kernel[at + f] = weight[place + f]
                at += filters


@outline
def _add_products(x, weight, side, input_shape, kernel, z):
    widest_vectors()
    rows, columns, channels = input_shape
    high, wide = rows - side + 1, columns - side + 1
    filters = z.shape[1] // (high * wide)
    run = side * filters
    _turn(weight, side, channels, filters, kernel, False)
    for b in range(len(x)):
        image, out = x[b], z[b]
        out[:] = 0.0
        at = 0
        for r in range(rows):
            first, last = max(0, r - high + 1), min(side - 1, r)  # u
            for k in range(columns):
                left = max(0, side - 1 - k)  # pixels of the run that there are not
                n = (min(side, wide - k + side - 1) - left) * filters
                for c in range(channels):
                    if image[at]:
                        factor = z.dtype.type(image[at])
                        for u in range(first, last + 1):
                            start = ((r - u) * wide + k - side + 1 + left) * filters
                            begin = (c * side + u) * run + left * filters
                            _add_multiple(out, start, kernel, begin, n, factor)
                    at += 1


@outline
def _correlate(x, d, side, input_shape, kernel, gradient):
    widest_vectors()
    rows, columns, channels = input_shape
    high, wide = rows - side + 1, columns - side + 1
    filters = d.shape[1] // (high * wide)
    run = side * filters
    kernel[: len(gradient)] = 0.0
    for b in range(len(x)):
        image, out = x[b], d[b]
        at = 0
        for r in range(rows):
            first, last = max(0, r - high + 1), min(side - 1, r)
            for k in range(columns):
                left = max(0, side - 1 - k)
                n = (min(side, wide - k + side - 1) - left) * filters
                for c in range(channels):
                    if image[at]:
                        factor = d.dtype.type(image[at])
                        for u in range(first, last + 1):
                            start = ((r - u) * wide + k - side + 1 + left) * filters
                            begin = (c * side + u) * run + left * filters
                            _add_multiple(kernel, begin, out, start, n, factor)
                    at += 1
    _turn(gradient, side, channels, filters, kernel, True)


@compiled_form(add_products)
def _(x, weight, side, input_shape, kernel, z):
    return lambda x, weight, side, input_shape, kernel, z: _add_products(
        x, weight, side, input_shape, kernel, z
    )


@compiled_form(correlate)
def _(x, d, side, input_shape, kernel, gradient):
    return lambda x, d, side, input_shape, kernel, gradient: _correlate(
        x, d, side, input_shape, kernel, gradient
    )
