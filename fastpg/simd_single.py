"""The elementary functions of `fastpg.simd` for `single` (`fastpg.precision`), in compiled code only.

Shorter polynomials than float64's, made in the same way: next to each stand the interval and the relative
error that the rounded coefficients leave in the function. Errors are in units in the last place of float32;
tests/test_precision.py asserts the bounds.
"""

import inspect
import math

from llvmlite import ir
from numba.extending import intrinsic

from fastpg.dispatch import compiled_only, exact, lowered
from fastpg.precision import single

BOUND = 2.0**13
"""`sin_bounded` and `cos_bounded` are NaN beyond this."""

_MAGIC = 1.5 * 2.0**23  # adding it rounds to an integer, and leaves that in the low bits of the sum
_LOG2E = 1.4426950408889634
_LN2_1, _LN2_2 = 0.693145751953125, 1.428606765330187e-06  # n * _LN2_1 is exact
_ONE_OVER_PI, _PI_1, _PI_2 = 0.3183098861837907, 3.1415927410125732, -8.742277657347586e-08
_SQRT_HALF_BITS, _ONE_BITS, _MANTISSA = 0x3F3504F3, 0x3F800000, 0x7FFFFF


# Not dispatch.lowered: see `simd.fma`.
@intrinsic
def fma(typing, a, b, c):
    """Return a * b + c with a single rounding."""

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return single(single, single, single), codegen


def _on_bits(function):
    """Decorate what generates instructions on the bits of `single` numbers: ``function(builder, *bits)``."""

    def definition(typing, *kinds):
        def codegen(context, builder, signature, args):
            result = function(builder, *(builder.bitcast(arg, ir.IntType(32)) for arg in args))
            return builder.bitcast(result, ir.FloatType())

        return single(*(single,) * len(kinds)), codegen

    definition.__signature__ = inspect.signature(function)  # Numba leaves out the first, here the builder
    name = compiled_only(function)
    lowered(name)(definition)
    return name


def _bits(value):
    return ir.Constant(ir.IntType(32), value)


@_on_bits
def _power_of_two(builder, t):
    """2**(n - 127), n the low 8 bits of t."""
    return builder.shl(t, _bits(23))


@_on_bits
def _first_factor(builder, t):
    """2**(floor(m / 2) - 127), m the low bits of t."""
    return builder.and_(builder.shl(t, _bits(22)), _bits(-(1 << 23)))


@_on_bits
def _second_factor(builder, t):
    """2**(m - 127) divided by that, times 2**127."""
    first = builder.and_(builder.shl(t, _bits(22)), _bits(-(1 << 23)))
    return builder.sub(builder.shl(t, _bits(23)), first)


@_on_bits
def _with_parity(builder, x, t):
    """x, negated if the lowest bit of t is 1."""
    return builder.xor(x, builder.shl(t, _bits(31)))


@_on_bits
def _mantissa(builder, x):
    """X times a power of two, between sqrt(1/2) and sqrt(2)."""
    moved = builder.add(x, _bits(_ONE_BITS - _SQRT_HALF_BITS))
    return builder.add(builder.and_(moved, _bits(_MANTISSA)), _bits(_SQRT_HALF_BITS))


@compiled_only
def _exponent(x):
    """The logarithm to the base 2 of x divided by its `_mantissa`."""


@lowered(_exponent)
def _(typing, x):
    def codegen(context, builder, signature, args):
        moved = builder.add(builder.bitcast(args[0], ir.IntType(32)), _bits(_ONE_BITS - _SQRT_HALF_BITS))
        return builder.sitofp(builder.sub(builder.ashr(moved, _bits(23)), _bits(127)), ir.FloatType())

    return single(single), codegen


@exact
def _exp_reduced(x, bias):
    """Return t and exp(r) with x = n * ln(2) + r; the low bits of t hold n + bias."""
    t = fma(x, _LOG2E, _MAGIC + bias)
    n = t - (_MAGIC + bias)
    r = fma(-n, _LN2_2, fma(-n, _LN2_1, x))
    # |r| <= ln(2)/2, exp(r) = 1 + r + r**2 q(r), degree 4, 2**-28.3
    q = fma(0.0013814613654619173, r, 0.008368709813228915)
    q = fma(fma(fma(q, r, 0.04166838735668688), r, 0.16666520689941391), r, 0.4999999345171983)
    return t, fma(r * r, q, r) + 1.0


@exact
def exp_of_negative(x):
    """Below 1.1 ULP; 1.7e-38 in place of anything smaller."""
    x = -87.0 if x < -87.0 else x
    t, mantissa = _exp_reduced(x, 127.0)
    return mantissa * _power_of_two(t)


@exact
def exp(x):
    """Below 1.1 ULP, for denormal results as well."""
    x = -104.0 if x < -104.0 else x
    x = 89.0 if x > 89.0 else x
    t, mantissa = _exp_reduced(x, 254.0)
    return mantissa * _first_factor(t) * _second_factor(t)


@exact
def _log(x):
    f = _mantissa(x) - 1.0
    k = _exponent(x)
    z = f * f
    # sqrt(1/2) <= 1 + f < sqrt(2), log(1 + f) = f - f**2 / 2 + f**3 p(f), degree 8, 2**-30.3
    a = fma(fma(0.06746639456530058, f, -0.11675650239539213), f, 0.11888161903560616)
    b = fma(fma(-0.12405589212130438, f, 0.14219552463393165), f, -0.16667995837426114)
    c = fma(fma(0.2000211865174765, f, -0.25000009599667666), f, 0.33333312604203613)
    p = fma(fma(a, z * f, b), z * f, c)
    low = fma(k, _LN2_2, fma(z * f, p, -0.5 * z))
    return fma(k, _LN2_1, f + low)


@exact
def log_bounded(x):
    """Below 1 ULP for 2**-126 <= x < inf; nonsense beyond."""
    return _log(x)


@exact
def log(x):
    """Below 1 ULP."""
    denormal = x < 2.0**-126
    value = _log(x * 2.0**25 if denormal else x)
    value = value - 25.0 * 0.6931471805599453 if denormal else value
    value = value if x < math.inf else x
    return value if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


@exact
def _sine(r):
    """The sine for |r| <= pi/2 and a little."""
    z = r * r
    # degree 3 in z, 2**-27.3
    s = fma(fma(2.605780633099553e-06, z, -0.00019809602899445555), z, 0.008333066246042681)
    return fma(fma(s, z, -0.16666659550425927) * z, r, r)


@exact
def sin_bounded(x):
    """Error below 1.1e-7 (below 1.8 ULP for |x| <= pi); NaN beyond `BOUND`."""
    t = fma(x, _ONE_OVER_PI, _MAGIC)
    n = t - _MAGIC
    r = fma(-n, _PI_2, fma(-n, _PI_1, x))
    return _with_parity(_sine(r if abs(x) <= BOUND else math.nan), t)


@exact
def cos_bounded(x):
    """The same: cos(x) = sin(pi/2 - |x - 2 pi n|)."""
    n = fma(x, 0.5 * _ONE_OVER_PI, _MAGIC) - _MAGIC
    r = fma(-n, 2.0 * _PI_2, fma(-n, 2.0 * _PI_1, x))
    r = r if abs(x) <= BOUND else math.nan
    return _sine((0.5 * _PI_1 - abs(r)) + 0.5 * _PI_2)


@exact
def cos_turns(x):
    """Error below 2e-7 for multiples of 2**-24 from 0 to 1."""
    y = abs(x - 0.5) - 0.25
    z = y * y
    # |y| <= 1/4, degree 5 in z, 2**-35.5
    q = fma(fma(-14.381390621571713, z, 42.00779711592873), z, -76.70417025101403)
    return y * fma(fma(fma(q, z, 81.60522369009898), z, -41.341702096925694), z, 6.28318530704669)


@exact
def sin_cos_near(x):
    """Sine and cosine for |x| <= pi/4, below 1 ULP and a half."""
    z = x * x
    # degree 2 in z, 2**-28.0
    s = fma(fma(-0.00019515283192181267, z, 0.008332160761881272), z, -0.16666654609549655)
    # cos(x) = 1 - z / 2 + z**2 c(z), degree 2, 2**-33.0
    c = fma(fma(2.4433157053127015e-05, z, -0.0013887316254303401), z, 0.04166664568297395)
    return fma(s * z, x, x), fma(c, z * z, fma(z, -0.5, 1.0))
