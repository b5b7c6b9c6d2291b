r"""Features so few that a lane carries Σ_t e_t φ(o_t) along: their sizes are in a type, and no loop is left.

The mathematics is that of `fastpg.linear_forms`: with the components split in two, φ_ij = Re(L_i R_j), and
neither θ·φ = Re Σ_i L_i Σ_j θ_ij R_j nor the products e φ_ij = Re((e L_i) R_j) need the features themselves.
Here L and R are tuples, so all of it is straight code in the loop over lanes.

What that code depends on is in the types of a shape: for each component a tuple as long as it has functions,
of floats if it is scaled by its bounds, of integers if it has none and is squashed.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastpg import features as maps
from fastpg import linear_forms, simd, vectors
from fastpg.dispatch import inner, lowered

MAX_CARRIED = 64  # numbers in a lane: with more, recording costs less


def shape_of(features):
    """Return the shape of a complete map, or None if it is not one of products."""
    if type(features) not in _FUNCTIONS:
        return None
    bounded = np.isfinite(np.subtract(features.high, features.low))
    return tuple((0.0 if b else 0,) * n for n, b in zip(features.sizes, bounded, strict=True))


def logits(theta, features, shape, observation, actions):
    """Return θ_a·φ(observation) for A actions, up to what is the same for all; shape (..., A)."""
    return linear_forms.logits(theta, features, observation, actions)


def outer(errors, features, shape, observation):
    """Return the products ``e_a φ(observation)``, row by row; shape (..., len(errors)·F)."""
    products = np.asarray(errors)[..., :, np.newaxis] * features(observation)[..., np.newaxis, :]
    return products.reshape(*products.shape[:-2], -1)


# What follows is compiled only. A value of a function is a pair if it is complex, else a tuple of one.


@inner
def _scaled(low, high, o):
    s = (o - low) * (1.0 / (high - low))
    return min(max(s, 0.0), 1.0)


@inner
def _squashed(low, high, o):
    return o / (abs(o) + 1.0) * 0.5 + 0.5


@inner
def _centred(features, s):
    return (s * 2.0 - 1.0,)


@inner
def _turned(features, s):
    sine, cosine = simd.sin_cos_near(0.5 * math.pi * (s - 0.5))  # of half the angle from the middle
    return -2.0 * sine * cosine, 1.0 - 2.0 * sine * sine


@inner
def _widths(features, s):
    return s, -0.5 / (features.width * features.width), 1.0 if features.normalised else 0.0


@inner
def _bump(distance, least, factor):
    return simd.exp((distance * distance - least) * factor)


@inner
def _nearest(u):
    nearest = u - np.floor(u + 0.5)
    return nearest * nearest


class _Code:
    """Instructions on numbers, real and complex."""

    def __init__(self, builder):
        self.builder = builder

    def __getattr__(self, name):
        return lambda x, y: getattr(self.builder, name)(x, y, flags=vectors.FLAGS)

    def times(self, x, y):
        """The product."""
        if len(x) == 1:
            return (self.fmul(x[0], y[0]),)
        re = self.fsub(self.fmul(x[0], y[0]), self.fmul(x[1], y[1]))
        return re, self.fadd(self.fmul(x[0], y[1]), self.fmul(x[1], y[0]))

    def real(self, x, y):
        """The real part of the product."""
        product = self.fmul(x[0], y[0])
        return product if len(x) == 1 else self.fsub(product, self.fmul(x[1], y[1]))

    def total(self, values):
        """The sum."""
        total, *others = values
        for value in others:
            total = self.fadd(total, value)
        return total

    def outer(self, columns, one):
        """The products of one number from each column, the last column fastest."""
        products = [one]
        for i, column in enumerate(columns):
            products = [self.times(x, y) for x in products for y in column] if i else column
        return products


def _powers(typing, kind, size):
    """1, x, x², ... of the centred component, or of the complex number that turns with it."""
    base = vectors.callable_in_code(
        typing, _turned if kind.instance_class is maps.Fourier else _centred, kind, types.float64
    )

    def generate(context, builder, features, s):
        code, numbers = _Code(builder), base(context, builder, features, s)
        x = tuple(vectors.elements(builder, numbers, len(numbers.type.elements)))
        values = [_one(x), x][:size]
        while len(values) < size:
            values.append(code.times(values[-1], x))
        return values

    return generate


def _one(like):
    return (ir.Constant(ir.DoubleType(), 1.0), ir.Constant(ir.DoubleType(), 0.0))[: len(like)]


def _bumps(typing, kind, size):
    """exp(-½ (u - c)² / width²), normalised or not."""
    widths = vectors.callable_in_code(typing, _widths, kind, types.float64)
    nearest = vectors.callable_in_code(typing, _nearest, types.float64)
    bump = vectors.callable_in_code(typing, _bump, *[types.float64] * 3)

    def generate(context, builder, features, s):
        code = _Code(builder)
        s, factor, normalised = vectors.elements(builder, widths(context, builder, features, s), 3)
        u = code.fmul(s, ir.Constant(s.type, size - 1.0))
        least = code.fmul(nearest(context, builder, u), normalised)
        distances = [code.fsub(u, ir.Constant(s.type, float(c))) for c in range(size)]
        values = [bump(context, builder, distance, least, factor) for distance in distances]
        one = ir.Constant(s.type, 1.0)
        divisor = builder.select(builder.fcmp_ordered("==", normalised, one), code.total(values), one)
        scale = code.fdiv(one, divisor)
        return [(code.fmul(value, scale),) for value in values]

    return generate


_FUNCTIONS = {maps.Polynomial: _powers, maps.Fourier: _powers, maps.RadialBasis: _bumps}


def _factors(typing, kind, shape, n):
    """What generates the factors L and R, as lists, from the map and the observation."""
    sizes = [len(functions) for functions in shape]
    columns = [_FUNCTIONS[kind.instance_class](typing, kind, size) for size in sizes]
    scales = [
        vectors.callable_in_code(
            typing, _scaled if isinstance(functions[0], types.Float) else _squashed, *[types.float64] * 3
        )
        for functions in shape
    ]
    places = [kind.fields.index(name) for name in ("low", "high")]
    middle, left = 0, 1
    while middle < n and (left * sizes[middle]) ** 2 <= np.prod(sizes):  # as `linear_forms.split` does
        left *= sizes[middle]
        middle += 1

    def generate(context, builder, features, observation):
        low, high = (vectors.elements(builder, builder.extract_value(features, place), n) for place in places)
        functions = []
        for k, o in enumerate(vectors.elements(builder, observation, n)):
            s = scales[k](context, builder, low[k], high[k], o)
            functions.append(columns[k](context, builder, features, s))
        code, one = _Code(builder), _one(functions[0][0])
        return code.outer(functions[:middle], one), code.outer(functions[middle:], one)

    return generate


@lowered(logits)
def _(typing, theta, features, shape, observation, actions):
    factors = _factors(typing, features, shape, len(observation))

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        left, right = factors(context, builder, args[1], args[3])
        weights = vectors.elements(builder, args[0], len(theta))
        n = len(left) * len(right)
        last, values = weights[-n:], []
        for start in range(0, len(theta) - n, n):
            contrast = [code.fsub(w, v) for w, v in zip(weights[start : start + n], last, strict=True)]
            parts = []
            for i, x in enumerate(left):
                pairs = list(zip(contrast[i * len(right) : (i + 1) * len(right)], right, strict=True))
                sums = [code.total([code.fmul(y[c], w) for w, y in pairs]) for c in range(len(x))]
                parts.append(code.real(x, sums))
            values.append(code.total(parts))
        return cgutils.pack_array(builder, [*values, context.get_constant(types.float64, 0.0)])

    return vectors.float_vector(len(actions))(theta, features, shape, observation, actions), codegen


@lowered(outer)
def _(typing, errors, features, shape, observation):
    factors = _factors(typing, features, shape, len(observation))
    n = int(np.prod([len(functions) for functions in shape]))

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        left, right = factors(context, builder, args[1], args[3])
        values = []
        for error in vectors.elements(builder, args[0], len(errors)):
            for x in left:
                weighted = [code.fmul(error, part) for part in x]
                values += [code.real(weighted, y) for y in right]
        return cgutils.pack_array(builder, values)

    return vectors.float_vector(len(errors) * n)(errors, features, shape, observation), codegen
