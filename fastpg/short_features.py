r"""Features so few that a lane carries Σ_t e_t φ(o_t) along: their sizes are in a type, and no loop is left.

The mathematics is that of `fastpg.linear_forms`: with the components split in two, neither
θ·φ = Σ_i L_i Σ_j θ_ij R_j nor the products e φ_ij = (e L_i) R_j need the features themselves; those of
`Fourier` are folded. Here L and R are tuples, so all of it is straight code in the loop over lanes. The rows
of θ are differences from the last one.

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
    if type(linear_forms.as_folded(features)) not in _FUNCTIONS:
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


def unfolded(rows, features, shape):
    """Return folded rows, one after the other, as they should be (`linear_forms.fold`)."""
    whole = np.reshape(rows, (*np.shape(rows)[:-1], -1, features.n_features))
    return linear_forms.fold(whole, features).reshape(np.shape(rows))


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
    """Return exp(iπs) and exp(iπs/2): four numbers."""
    sine, cosine = simd.sin_cos_near(0.5 * math.pi * (s - 0.5))  # of half the angle from the middle
    half = (cosine - sine) * math.sqrt(0.5), (cosine + sine) * math.sqrt(0.5)
    return -2.0 * sine * cosine, 1.0 - 2.0 * sine * sine, half[0], half[1]


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

    def conjugate(self, x):
        """The conjugate."""
        return x[0], self.builder.fneg(x[1], flags=vectors.FLAGS)

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
    """1, x, x², ... of the centred component."""
    base = vectors.callable_in_code(typing, _centred, kind, types.float64)

    def generate(context, builder, features, s, centred):
        code = _Code(builder)
        (x,) = vectors.elements(builder, base(context, builder, features, s), 1)
        values = [_one((x,)), (x,)][:size]
        while len(values) < size:
            values.append(code.times(values[-1], (x,)))
        return values

    return generate


def _turns(typing, kind, size):
    """1, z, z², ... for z = exp(iπs), or if `centred` times exp(-iπs (size - 1) / 2)."""
    base = vectors.callable_in_code(typing, _turned, kind, types.float64)

    def generate(context, builder, features, s, centred):
        code = _Code(builder)
        re, im, half_re, half_im = vectors.elements(builder, base(context, builder, features, s), 4)
        z = re, im
        if not centred:
            values = [_one(z), z][:size]
            while len(values) < size:
                values.append(code.times(values[-1], z))
            return values
        upper = [_one(z)] if size % 2 else [(half_re, half_im)]  # the upper half; the lower one is conjugate
        while 2 * len(upper) < size:
            upper.append(code.times(upper[-1], z))
        lower = [code.conjugate(x) for x in upper[size % 2 :]]
        return [*lower[::-1], *upper]

    return generate


def _one(like):
    return (ir.Constant(ir.DoubleType(), 1.0), ir.Constant(ir.DoubleType(), 0.0))[: len(like)]


def _bumps(typing, kind, size):
    """exp(-½ (u - c)² / width²), normalised or not."""
    widths = vectors.callable_in_code(typing, _widths, kind, types.float64)
    nearest = vectors.callable_in_code(typing, _nearest, types.float64)
    bump = vectors.callable_in_code(typing, _bump, *[types.float64] * 3)

    def generate(context, builder, features, s, centred):
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


_FUNCTIONS = {maps.Polynomial: _powers, maps.FoldedFourier: _turns, maps.RadialBasis: _bumps}


def _factors(typing, kind, shape, n):
    """What generates from the map and the observation a list of L_i with the R_j that go with it: numbers."""
    sizes = [len(functions) for functions in shape]
    columns = [_FUNCTIONS[kind.instance_class](typing, kind, size) for size in sizes]
    scales = [
        vectors.callable_in_code(
            typing, _scaled if isinstance(functions[0], types.Float) else _squashed, *[types.float64] * 3
        )
        for functions in shape
    ]
    places = [kind.fields.index(name) for name in ("low", "high")]
    middle, n_left = 0, linear_forms.parts_of(sizes)[0]
    while math.prod(sizes[:middle]) < n_left:
        middle += 1

    def generate(context, builder, features, observation):
        low, high = (vectors.elements(builder, builder.extract_value(features, place), n) for place in places)
        functions = []
        for k, o in enumerate(vectors.elements(builder, observation, n)):
            s = scales[k](context, builder, low[k], high[k], o)
            functions.append(columns[k](context, builder, features, s, k < middle))
        code, one = _Code(builder), _one(functions[0][0])
        left = code.outer(functions[:middle], one)
        if len(one) == 1:
            right = [x for (x,) in code.outer(functions[middle:], one)]
            return [(x, right) for (x,) in left]
        # Folded: from the mean angle of L, whose first one is as far below it as the last above.
        turn, half = code.conjugate(left[0]), (len(left) + 1) // 2
        first, *others = functions[middle:]
        right = code.outer([[code.times(turn, x) for x in first], *others], one)
        cosines, sines = ([x[part] for x in right] for part in (0, 1))
        return [(x, cosines) for x, _ in left[:half]] + [(y, sines) for _, y in left[half:]]

    return generate


@lowered(logits)
def _(typing, theta, features, shape, observation, actions):
    factors = _factors(typing, features, shape, len(observation))

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        rows = factors(context, builder, args[1], args[3])
        weights = vectors.elements(builder, args[0], len(theta))
        values = []
        for _ in range(len(actions) - 1):
            parts = []
            for x, right in rows:
                products = [code.fmul(y, weights.pop(0)) for y in right]
                parts.append(code.fmul(x, code.total(products)))
            values.append(code.total(parts))
        return cgutils.pack_array(builder, [*values, context.get_constant(types.float64, 0.0)])

    return vectors.float_vector(len(actions))(theta, features, shape, observation, actions), codegen


@lowered(outer)
def _(typing, errors, features, shape, observation):
    factors = _factors(typing, features, shape, len(observation))
    n = math.prod(len(functions) for functions in shape)

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        rows = factors(context, builder, args[1], args[3])
        values = []
        for error in vectors.elements(builder, args[0], len(errors)):
            for x, right in rows:
                weighted = code.fmul(error, x)
                values += [code.fmul(weighted, y) for y in right]
        return cgutils.pack_array(builder, values)

    return vectors.float_vector(len(errors) * n)(errors, features, shape, observation), codegen


@lowered(unfolded)
def _(typing, rows, features, shape):
    n_left, n_right = linear_forms.parts_of([len(functions) for functions in shape])
    folded = features.instance_class is maps.FoldedFourier

    def codegen(context, builder, signature, args):
        code, values = _Code(builder), vectors.elements(builder, args[0], len(rows))
        for start in range(0, len(rows) if folded else 0, n_left * n_right):
            for i in range(n_left // 2):
                for j in range(n_right):
                    first = start + i * n_right + j
                    second = start + (n_left - 1 - i) * n_right + j
                    x, y = values[first], values[second]
                    values[first], values[second] = code.fadd(x, y), code.fsub(x, y)
        return cgutils.pack_array(builder, values)

    return rows(rows, features, shape), codegen
