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
    """Return 2s - 1 of a component that is scaled by its bounds."""
    return min(max((o - low) * (2.0 / (high - low)) - 1.0, -1.0), 1.0)


@inner
def _squashed(low, high, o):
    return o / (abs(o) + 1.0)


# Polynomials in t² for sin(πt/4) / t and cos(πt/4), |t| <= 1: Chebyshev's, in error by less than 5e-17.
_SINE = (
    *(0.7853981633974483, -0.08074551218828054, 0.002490394570188844, -3.657620415891387e-05),
    *(3.133616225433416e-07, -1.7571500746983935e-09, 6.877360573166326e-12),
)
_COSINE = (
    *(1.0, -0.30842513753403783, 0.015854344243741547, -0.00032599188648354014),
    *(3.590859179850238e-06, -2.4609507094028117e-08, 1.1365469207731353e-10),
)


@inner
def _of_square(c, x, square):
    """A polynomial of degree 6 in x, its two halves side by side."""
    even = ((c[6] * square + c[4]) * square + c[2]) * square + c[0]
    return ((c[5] * square + c[3]) * square + c[1]) * x + even


@inner
def _turned(features, t):
    """Return exp(iπs), and exp(iπs/2) times √2: four numbers."""
    x = t * t
    square = x * x
    sine, cosine = t * _of_square(_SINE, x, square), _of_square(_COSINE, x, square)
    return -2.0 * sine * cosine, 1.0 - 2.0 * sine * sine, cosine - sine, cosine + sine


@inner
def _widths(features, t):
    return t * 0.5 + 0.5, -0.5 / (features.width * features.width), 1.0 if features.normalised else 0.0


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
        if _is_one(x) or _is_one(y):
            return y if _is_one(x) else x
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

    def generate(context, builder, features, t):
        code = _Code(builder)
        values = [_one((t,)), (t,)][:size]
        while len(values) < size:
            values.append(code.times(values[-1], (t,)))
        return values

    return generate


def _turns(typing, kind, size):
    """1, z, z², ... for z = exp(iπs), times exp(-iπs (size - 1) / 2), and √2 if there is no middle one."""
    base = vectors.callable_in_code(typing, _turned, kind, types.float64)

    def generate(context, builder, features, t):
        code = _Code(builder)
        re, im, half_re, half_im = vectors.elements(builder, base(context, builder, features, t), 4)
        z = re, im
        upper = [_one(z)] if size % 2 else [(half_re, half_im)]  # the upper half; the lower one is conjugate
        while 2 * len(upper) < size:
            upper.append(code.times(upper[-1], z))
        lower = [code.conjugate(x) for x in upper[size % 2 :]]
        return [*lower[::-1], *upper]

    return generate


def _is_one(x):
    """Whether it is known to be: LLVM has to multiply a number by 0, which may be NaN."""
    return all(isinstance(part, ir.Constant) for part in x) and x[0].constant == 1.0


def _one(like):
    return (ir.Constant(ir.DoubleType(), 1.0), ir.Constant(ir.DoubleType(), 0.0))[: len(like)]


def _bumps(typing, kind, size):
    """exp(-½ (u - c)² / width²), normalised or not."""
    widths = vectors.callable_in_code(typing, _widths, kind, types.float64)
    nearest = vectors.callable_in_code(typing, _nearest, types.float64)
    bump = vectors.callable_in_code(typing, _bump, *[types.float64] * 3)

    def generate(context, builder, features, t):
        code = _Code(builder)
        s, factor, normalised = vectors.elements(builder, widths(context, builder, features, t), 3)
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
    """What generates from the map and the observation numbers s, and a list of L_i, R_j for it, and which s.

    That is s_n L_i R_j, with 1 for s, or cos M and sin M where they are folded.
    """
    sizes = [len(functions) for functions in shape]
    columns = [_FUNCTIONS[kind.instance_class](typing, kind, size) for size in sizes]
    scales = [
        vectors.callable_in_code(
            typing, _scaled if isinstance(functions[0], types.Float) else _squashed, *[types.float64] * 3
        )
        for functions in shape
    ]
    places = [kind.fields.index(name) for name in ("low", "high")]
    middle, n_left = 0, maps.parts_of(sizes)[0]
    while math.prod(sizes[:middle]) < n_left:
        middle += 1

    def generate(context, builder, features, observation):
        low, high = (vectors.elements(builder, builder.extract_value(features, place), n) for place in places)
        functions = []
        for k, o in enumerate(vectors.elements(builder, observation, n)):
            t = scales[k](context, builder, low[k], high[k], o)
            functions.append(columns[k](context, builder, features, t))
        code, one = _Code(builder), _one(functions[0][0])
        left = code.outer(functions[:middle], one)
        right = code.outer(functions[middle:], one)
        if len(one) == 1:
            return one, [(x, [y for (y,) in right], 0) for (x,) in left]
        before, behind = (n_left + 1) // 2, (len(right) + 1) // 2
        cosines = [x for x, _ in right[::-1][:behind]]
        sines = [y for _, y in right[behind:]]
        rows = [
            (x, part, number) for x, _ in left[::-1][:before] for part, number in ((cosines, 0), (sines, 1))
        ]
        for _, y in left[before:]:
            rows += [(y, cosines, 1), (builder.fneg(y), sines, 0)]
        # Each √2 is a factor of the products and of those for M.
        scale = ir.Constant(ir.DoubleType(), 0.5 ** sum(size % 2 == 0 for size in sizes))
        middles = code.times(left[-1], right[-1])
        return [code.fmul(part, scale) for part in middles], [row for row in rows if row[1]]

    return generate


@lowered(logits)
def _(typing, theta, features, shape, observation, actions):
    factors = _factors(typing, features, shape, len(observation))

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        scales, rows = factors(context, builder, args[1], args[3])
        weights = vectors.elements(builder, args[0], len(theta))
        values = []
        for _ in range(len(actions) - 1):
            parts = [[] for _ in scales]
            for x, right, number in rows:
                products = [code.fmul(y, weights.pop(0)) for y in right]
                parts[number].append(code.fmul(x, code.total(products)))
            parts = [part or [context.get_constant(types.float64, 0.0)] for part in parts]
            values.append(
                code.total(
                    [code.fmul(scale, code.total(part)) for scale, part in zip(scales, parts, strict=True)]
                )
            )
        return cgutils.pack_array(builder, [*values, context.get_constant(types.float64, 0.0)])

    return vectors.float_vector(len(actions))(theta, features, shape, observation, actions), codegen


@lowered(outer)
def _(typing, errors, features, shape, observation):
    factors = _factors(typing, features, shape, len(observation))
    n = math.prod(len(functions) for functions in shape)

    def codegen(context, builder, signature, args):
        code = _Code(builder)
        scales, rows = factors(context, builder, args[1], args[3])
        values = []
        for error in vectors.elements(builder, args[0], len(errors)):
            scaled = [code.fmul(error, scale) for scale in scales]
            for x, right, number in rows:
                weighted = code.fmul(scaled[number], x)
                values += [code.fmul(weighted, y) for y in right]
        return cgutils.pack_array(builder, values)

    return vectors.float_vector(len(errors) * n)(errors, features, shape, observation), codegen


def _constant(kind, numbers):
    return ir.Constant(ir.VectorType(kind, numbers.size), numbers.ravel().tolist())


def _signs(n):
    """With which sign what is mirrored has its own number added: 1 before the middle, -1 behind."""
    return np.sign(n - 1.0 - 2.0 * np.arange(n))


@lowered(unfolded)
def _(typing, rows, features, shape):
    n_left, n_right = maps.parts_of([len(functions) for functions in shape])
    folded, n = features.instance_class is maps.FoldedFourier, n_left * n_right
    places = np.arange(n).reshape(n_left, n_right)
    mirrors = [
        (
            _constant(ir.IntType(32), places[:, ::-1]),
            _constant(ir.DoubleType(), _signs(n_right) + 0 * places),
        ),
        (
            _constant(ir.IntType(32), places[::-1]),
            _constant(ir.DoubleType(), _signs(n_left)[:, np.newaxis] + 0 * places),
        ),
    ]

    def codegen(context, builder, signature, args):
        values = vectors.elements(builder, args[0], len(rows))
        for start in range(0, len(rows) if folded else 0, n):
            pack = vectors.pack_elements(builder, values[start : start + n])
            for mirror, signs in mirrors:
                mirrored = builder.shuffle_vector(pack, pack, mirror)
                pack = builder.fadd(
                    mirrored, builder.fmul(pack, signs, flags=vectors.FLAGS), flags=vectors.FLAGS
                )
            values[start : start + n] = vectors.unpack_elements(builder, pack)
        return cgutils.pack_array(builder, values)

    return rows(rows, features, shape), codegen
