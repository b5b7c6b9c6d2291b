"""Elementary functions that LLVM vectorises: exp, log, sin, cos and tanh, float64 to float64.

`tanh_float32` is float32 to float32, for the activations of neural networks.

The llvmlite wheels carry no vector math library, so a loop that calls math.exp stays scalar. These are
straight-line code: fused multiply-adds, selects and integer operations on the bits, polynomials in
Estrin form (in a loop over independent elements the chain of dependent operations is what costs).
They inline into the caller's loop, leave no call behind, and raise nothing. math.sqrt and np.floor
are not repeated here: they lower to single instructions and vectorise as they are (math.floor adds a
conversion to int64). A processor without a fused multiply-add computes the same bits, slowly.

Errors are in units in the last place (ULP), bounds on what was seen in some 25 million arguments against
80-bit arithmetic and 10**5, over all exponents and next to the multiples of pi/2, against mpmath;
tests/test_simd.py asserts them. Edge values are NumPy's.

`sin` and `cos` hold for every float64. For that they look up the bits of 2/pi, in a vectorised loop for
every element, needed or not, and a gather is slow (microcoded where it leaks, "Downfall"): a loop with
both takes 6 times as long as with `sin_bounded` and `cos_bounded`, which are for |x| <= 2**21.

The polynomials are weighted minimax fits made for this file: Remez exchange in 60 digits on the relative
error of the function, coefficients then rounded to double, low order first where that paid. Next to each
stand the interval and the relative error that the rounded polynomial leaves in the function.
"""

import math
import struct
from functools import wraps

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastpg import simd_single
from fastpg.dispatch import compiled_form, exact, lowered
from fastpg.packs import Pack, as_pack, call_of_packs
from fastpg.precision import has_single, narrowed, single, widened

_STRICT = {"forceinline": True, "error_model": "numpy", "fastmath": False}


def elementary(function):
    """A function of a number: float64, or in compiled code that of `fastpg.simd_single` if it is a `single`.

    Where that has none, it is the float64's, rounded.
    """
    compiled = exact(function)
    form = getattr(simd_single, function.__name__, None)

    @wraps(function)
    def either(x):
        return compiled(x)

    @compiled_form(either, _STRICT)
    def _(x):
        if x != single:
            return function
        return form.py_func if form else lambda x: narrowed(compiled(widened(x)))

    return either


def fma(a, b, c):
    """Return a * b + c with a single rounding; one instruction in compiled code."""
    from fractions import Fraction  # slow to import, and for ordinary Python only

    a, b, c = float(a), float(b), float(c)
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):  # where a * b alone could overflow to the other infinity
        return c
    value = Fraction(a) * Fraction(b) + Fraction(c)
    if value == 0:  # then a * b is exact, and the plain expression has the sign that IEEE 754 asks for
        return a * b + c
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def float_from_bits(bits):
    """Return the float64 whose bits are those of a 64-bit integer, signed or unsigned."""
    return np.float64(struct.unpack("<d", (int(bits) & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))[0])


def bits_from_float(x):
    """Return the bits of a float64 as an int64."""
    return np.float64(x).view(np.int64)


# Not dispatch.lowered: the fast-math flags of a caller would let LLVM drop the sign of a zero sum.
@intrinsic
def _fma(typing_context, a, b, c):
    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@compiled_form(fma, _STRICT)
def _(a, b, c):
    if has_single(types.Tuple((a, b, c))):
        return lambda a, b, c: simd_single.fma(a, b, c)
    return lambda a, b, c: _fma(a, b, c)


@lowered(float_from_bits)
def _(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@lowered(bits_from_float)
def _(typing_context, x):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


# Adding this rounds to an integer and leaves it in the low bits of the sum: without AVX-512DQ there is
# no packed conversion between float64 and int64.
_MAGIC = 1.5 * 2.0**52
_SIGN = -(1 << 63)
_EXPONENT = -(1 << 52)
_MANTISSA = (1 << 52) - 1

_LOG2E = 1.4426950408889634
_LN2_1, _LN2_2 = 0.6931471805599453, 2.3190468138462996e-17


@exact
def _exp_reduced(x, bias):
    """Return b, r, z, q with exp(x) = 2**n * (1 + r + z * q); the low 12 bits of b hold n + bias."""
    t = fma(x, _LOG2E, _MAGIC + bias)
    n = t - (_MAGIC + bias)
    r = fma(-n, _LN2_2, fma(-n, _LN2_1, x))
    # |r| <= ln(2)/2, degree 11, 2**-55.2 of expm1(r) and 2**-56.4 of exp(r)
    z = r * r
    z2 = z * z
    q01 = fma(0.16666666666666602, r, 0.5)
    q23 = fma(0.008333333333388426, r, 0.04166666666662004)
    q45 = fma(0.00019841269709220853, r, 0.001388888892047761)
    q67 = fma(2.7557425216923585e-06, r, 2.480151639396182e-05)
    q89 = fma(2.5045843964102245e-08, r, 2.7622206352627474e-07)
    return bits_from_float(t), r, z, fma(fma(q89, z2, fma(q67, z, q45)), z2, fma(q23, z, q01))


@elementary
def exp(x):
    """e**x, error below 1.0 ULP, for denormal results as well.

    2**n * exp(r) with x = n * ln(2) + r. The result overflows to inf above 709.78 and reaches 0 through
    the denormals below -745.13; exp(-inf) = 0, exp(inf) = inf, NaN propagates.
    """
    x = np.float64(x)
    x = -746.0 if x < -746.0 else x
    x = 710.0 if x > 710.0 else x
    bits, r, z, q = _exp_reduced(x, 2046.0)
    mantissa = 1.0 + fma(z, q, r)
    # 2**n in two factors, floor(n/2) and the rest: n itself leaves the exponent range at both ends.
    half = (bits << 51) & _EXPONENT
    return mantissa * float_from_bits(half) * float_from_bits((bits << 52) - half)


@elementary
def exp_of_negative(x):
    """e**x for x <= 0, error below 1.0 ULP; 3.3e-308 in place of anything smaller. NaN propagates.

    Cheaper than `exp`: the weights of a softmax, of which one is 1.
    """
    x = np.float64(x)
    x = -708.0 if x < -708.0 else x
    bits, r, z, q = _exp_reduced(x, 1023.0)
    return (1.0 + fma(z, q, r)) * float_from_bits(bits << 52)


@elementary
def tanh(x):
    """Hyperbolic tangent, error below 1.7 ULP.

    em / (em + 2) with em = expm1(2|x|), summed from 2**n - 1 down, so relatively accurate to the denormals.
    tanh(-0.0) = -0.0, tanh(+-inf) = +-1, NaN propagates.
    """
    x = np.float64(x)
    y = 2.0 * abs(x)
    y = 40.0 if y > 40.0 else y  # from 38.2 the result rounds to 1
    bits, r, z, q = _exp_reduced(y, 1023.0)
    scale = float_from_bits(bits << 52)
    high = fma(scale, r, scale - 1.0)
    em = high + fma(scale * z, q, fma(scale, r, (scale - 1.0) - high))
    # One Newton step on the quotient, with the rounding error of the denominator taken in.
    denominator = em + 2.0
    inverse = 1.0 / denominator
    value = em * inverse
    value += inverse * fma(-value, em - (denominator - 2.0), fma(-value, denominator, em))
    return float_from_bits(bits_from_float(value) | (bits_from_float(x) & _SIGN))


def fma_float32(a, b, c):
    """Return a * b + c of three float32, in compiled code also of packs, with a single rounding."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))  # the product is exact


@intrinsic
def _fma_float32(typing_context, a, b, c):
    kinds = a, b, c
    result = next((kind for kind in kinds if isinstance(kind, Pack)), types.float32)

    def generate(context, builder, signature, arguments):
        if not isinstance(result, Pack):
            return builder.fma(*arguments)
        pairs = zip(arguments, kinds, strict=True)
        return call_of_packs(builder, "fma", result, *(as_pack(context, builder, *p, result) for p in pairs))

    return result(*(kind if isinstance(kind, Pack) else types.float32 for kind in kinds)), generate


compiled_form(fma_float32, {"forceinline": True, "fastmath": False})(
    lambda a, b, c: lambda a, b, c: _fma_float32(a, b, c)
)

# tanh(y) / y = P(y²) / Q(y²) for 0 <= y <= 9.02, degrees 5 and 4, 2**-29.4: linear programmes on the weighted
# error, each with the weight's denominator of the one before (Loeb's algorithm).
_P0 = _Q0 = np.float32(1.0)
_P1, _P2 = np.float32(0.13681536337374245), np.float32(0.003870333479217691)
_P3, _P4 = np.float32(2.8046368122472506e-05), np.float32(3.067234649956427e-08)
_P5 = np.float32(-1.2262611125163511e-11)
_Q1, _Q2 = np.float32(0.4701486882238001), np.float32(0.027253245994663795)
_Q3, _Q4 = np.float32(0.00039421118850842745), np.float32(1.2900018269687185e-06)
TANH_BOUND = np.float32(9.02)


@exact
def tanh_fraction(y):
    """Return numerator and denominator of tanh(y) of a float32, or a pack of them, for |y| <= `TANH_BOUND`.

    Their quotient may round beyond 1.
    """
    z = y * y
    p = fma_float32(fma_float32(fma_float32(_P5, z, _P4), z, _P3), z, _P2)
    p = fma_float32(fma_float32(p, z, _P1), z, _P0)
    q = fma_float32(fma_float32(_Q4, z, _Q3), z, _Q2)
    q = fma_float32(fma_float32(q, z, _Q1), z, _Q0)
    return y * p, q


@exact
def tanh_float32(x):
    """Hyperbolic tangent of a float32, error below 5.5 ULP of float32.

    A rational function; beyond 9.01 the result rounds to 1. tanh(-0.0) = -0.0, tanh(+-inf) = +-1, NaN
    propagates.
    """
    x = np.float32(x)
    y = -TANH_BOUND if x < -TANH_BOUND else x
    y = TANH_BOUND if y > TANH_BOUND else y
    numerator, denominator = tanh_fraction(y)
    value = numerator / denominator
    value = _P0 if value > _P0 else value
    return -_P0 if value < -_P0 else value


_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_ONE_BITS = 0x3FF0000000000000
_SMALLEST_NORMAL = 2.0**-1022
_LN2_SHORT, _LN2_REST = 0.6931471803691238, 1.9082149292705877e-10  # k * _LN2_SHORT is exact
_SHIFT_52 = np.uint64(52)


@exact
def _log(x, bias):
    """log(x) - k' log(2) for a normal x > 0, where `bias` is 2**52 + 1023 + k'."""
    bits = bits_from_float(x) + (_ONE_BITS - _SQRT_HALF_BITS)
    f = float_from_bits((bits & _MANTISSA) + _SQRT_HALF_BITS) - 1.0
    # k + 1023 fills the low bits of a float64 in [2**52, 2**53): a conversion by subtraction.
    k = float_from_bits((np.uint64(bits) >> _SHIFT_52) | np.uint64(0x4330000000000000)) - bias
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    # |s| <= 0.1716, degree 7 in z, 2**-58.6
    a = fma(0.39999999999417035, z, 0.6666666666666734)
    b = fma(0.22222198621128328, z, 0.2857142874189736)
    c = fma(0.15314110522946914, z, 0.18183561920356411)
    remainder = z * fma(fma(fma(0.14795350783546016, z2, c), z2, b), z2, a)
    half = 0.5 * f * f
    return fma(k, _LN2_SHORT, f - (half - fma(s, half + remainder, k * _LN2_REST)))


@elementary
def log(x):
    """Natural logarithm, error below 0.9 ULP.

    x = 2**k * (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), s = f / (2 + f), and
    log(1 + f) = f - f*f/2 + s * (f*f/2 + R(s*s)): the scheme of fdlibm's e_log.c (Sun, 1993), with its
    coefficients computed anew. log(0) = -inf, log(x < 0) = NaN, log(inf) = inf, NaN propagates.
    """
    x = np.float64(x)
    denormal = x < _SMALLEST_NORMAL
    value = _log(x * 2.0**54 if denormal else x, 2.0**52 + 1077.0 if denormal else 2.0**52 + 1023.0)
    value = value if x < math.inf else x
    return value if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


@elementary
def log_bounded(x):
    """Natural logarithm for 2**-1022 <= x < inf, error below 0.9 ULP; nonsense beyond."""
    return _log(np.float64(x), 2.0**52 + 1023.0)


_TWO_OVER_PI = 0.6366197723675814
# pi/2: 53 bits, the next 29 (so that n * _PI_2 is exact up to n = 2**24), and 53 more.
_PI_1, _PI_2, _PI_3 = 1.5707963267948966, 6.12323399409214e-17, 1.6446256936324258e-26
_PI_REST = 6.123233995736766e-17  # pi/2 - _PI_1
BOUND = 2.0**21
"""`sin_bounded` and `cos_bounded` are NaN beyond this."""


@exact
def _reduce(x):
    """Return b, r, e with x = n * pi/2 + r - e and |r| <= pi/4; the low bits of b hold n mod 4.

    Cody and Waite's reduction (1980) with fused multiply-adds. x - n * _PI_1 is exact (a multiple of 2**-53
    below 1), and so is the rounding error of the next step. Without e sin and cos err by up to 1.42 ULP.
    """
    t = fma(x, _TWO_OVER_PI, _MAGIC)
    n = t - _MAGIC
    near = fma(-n, _PI_1, x)
    r = fma(-n, _PI_2, near)
    return bits_from_float(t), r, fma(n, _PI_3, fma(n, _PI_2, r - near))


@exact
def _polynomials(r):
    """Return r - sin(r) and w, q, z2 with cos(r) = w + q * z2, for |r| <= pi/4."""
    z = r * r
    z2 = z * z
    # degree 5 in z, 2**-57.3
    a = fma(-0.008333333333321842, z, 0.1666666666666663)
    b = fma(-2.755731354023558e-06, z, 0.00019841269829361488)
    c = fma(-1.5895470365925187e-10, z, 2.5050734792510682e-08)
    # A zero added to the product, so that subtracting it from r = -0.0 leaves -0.0.
    deficit = fma(fma(fma(c, z2, b), z2, a) * z, r, 0.0)
    # degree 5 in z, 2**-63.9
    a = fma(-0.0013888888888873342, z, 0.041666666666666595)
    b = fma(-2.7557314217073165e-07, z, 2.48015872890021e-05)
    c = fma(-1.1358750159174211e-11, z, 2.0875705406634547e-09)
    return deficit, fma(z, -0.5, 1.0), fma(fma(c, z2, b), z2, a), z2


@exact
def _sin_cos(r, e):
    """Sine and cosine of r - e for |r| <= pi/4."""
    deficit, w, q, z2 = _polynomials(r)
    rounding = fma(r * r, -0.5, 1.0 - w)
    return r - fma(e, w, deficit), w + fma(q, z2, fma(r, e, rounding))


@exact
def _as_sin(bits, sine, cosine):
    """The sine of n * pi/2 + r, from n mod 4 in `bits` and the sine and cosine of r."""
    return float_from_bits(bits_from_float(cosine if bits & 1 else sine) ^ ((bits << 62) & _SIGN))


@exact
def _as_cos(bits, sine, cosine):
    """The cosine of n * pi/2 + r."""
    return float_from_bits(bits_from_float(sine if bits & 1 else cosine) ^ (((bits + 1) << 62) & _SIGN))


@exact
def _bounded(x):
    """Return n mod 4, sin(r) and cos(r), without the compensations of `_reduce` and `_sin_cos`."""
    t = fma(x, _TWO_OVER_PI, _MAGIC)
    n = t - _MAGIC
    r = fma(-n, _PI_3, fma(-n, _PI_2, fma(-n, _PI_1, x)))
    r = r if abs(x) <= BOUND else math.nan
    deficit, w, q, z2 = _polynomials(r)
    return bits_from_float(t), r - deficit, fma(q, z2, w)


@elementary
def sin_bounded(x):
    """Sine for |x| <= 2**21, error below 1.45 ULP; NaN beyond. sin_bounded(-0.0) = -0.0."""
    return _as_sin(*_bounded(np.float64(x)))


@elementary
def cos_bounded(x):
    """Cosine for |x| <= 2**21, error below 1.45 ULP; NaN beyond. Shares its work with `sin_bounded` of x."""
    return _as_cos(*_bounded(np.float64(x)))


@elementary
def cos_turns(x):
    """Cosine of 2 pi x for 0 <= x <= 1, error below 2.5 ULP; nonsense beyond.

    It is the sine of 2 pi y with y = |x - 1/2| - 1/4, which has no rounding error where x is a multiple of
    2**-53, as random numbers are.
    """
    y = abs(np.float64(x) - 0.5) - 0.25
    z = y * y
    z2 = z * z
    # |y| <= 1/4, degree 8 in z, 2**-54.4
    a = fma(81.6052492759189, z, -41.34170224039928)
    b = fma(42.05869274795134, z, -76.70585973361466)
    c = fma(3.819197275323708, z, -15.094602325482718)
    d = fma(0.07293615182812745, z, -0.7106486777055103)
    q = fma(fma(d, z2, c), z2 * z2, fma(b, z2, a))
    return y * fma(q, z, 6.283185307179586)


@elementary
def sin_cos_near(x):
    """Sine and cosine for |x| <= pi/4, errors below 1 ULP and a half."""
    x = np.float64(x)
    deficit, w, q, z2 = _polynomials(x)
    return x - deficit, fma(q, z2, w)


# floor(2**1216 * 2/pi) in hexadecimal, from mpmath at 450 digits.
_TWO_OVER_PI_BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6bab",
    16,
)


def _two_over_pi_table():
    """For each exponent e from 21: (2**(e-52) * 2/pi) mod 4 in four doubles of 53 bits; last a row of NaN."""
    places = [(1216 + 53 * (3 - j) - 158, 2.0 ** (2 - 53 * (j + 1))) for j in range(4)]
    mask = (1 << 53) - 1
    rows = [
        ((_TWO_OVER_PI_BITS >> (place - exponent)) & mask) * scale
        for exponent in range(21, 1024)
        for place, scale in places
    ]
    return np.array([*rows, *[np.nan] * 4])


_TABLE = _two_over_pi_table()
_FIRST_ROW = 1023 + 21


@exact
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@exact
def _reduce_huge(x):
    """Like `_reduce`, for any x >= 2**21: Payne and Hanek's reduction (1983) in doubles.

    x = m * 2**(e-52) with a 53-bit integer m, so multiples of 4 in 2**(e-52) * 2/pi fall out. The 212 bits
    in the table leave an error of 2**-157; no double comes nearer than about 2**-61 to a multiple of pi/2.
    Everything is exact until the nearest integer is subtracted.
    """
    bits = bits_from_float(x)
    m = float_from_bits((bits & _MANTISSA) | 0x4330000000000000)
    # Clamped: where a vector lane does not need the table its load is masked out or lands on row 0.
    row = 4 * ((max(bits, _FIRST_ROW << 52) >> 52) - _FIRST_ROW)
    c1, c2 = _TABLE[np.uint64(row)], _TABLE[np.uint64(row + 1)]
    c3, c4 = _TABLE[np.uint64(row + 2)], _TABLE[np.uint64(row + 3)]
    p1, p2, p3 = m * c1, m * c2, m * c3
    e1, e2, e3 = fma(m, c1, -p1), fma(m, c2, -p2), fma(m, c3, -p3)
    a = (p1 - 4.0 * np.floor(0.25 * p1)) + e1
    high, low = _two_sum(a, p2)
    t = high + _MAGIC
    high, low = _two_sum(high - (t - _MAGIC), low)
    middle, low3 = _two_sum(e2, p3)
    high, low2 = _two_sum(high, middle)
    low = low + low2 + (low3 + fma(m, c4, e3))
    f = high + low
    low = (high - f) + low
    r = f * _PI_1
    return bits_from_float(t), r, fma(f, -_PI_1, r) - fma(f, _PI_REST, low * _PI_1)


@exact
def _reduce_any(x):
    bits, r, e = _reduce(x)
    if x > BOUND:
        bits, r, e = _reduce_huge(x)
    return bits, r, e


@elementary
def sin(x):
    """Sine of any float64, error below 0.85 ULP; sin(-0.0) = -0.0, sin(+-inf) = NaN, NaN propagates."""
    x = np.float64(x)
    bits, r, e = _reduce_any(abs(x))
    return float_from_bits(bits_from_float(_as_sin(bits, *_sin_cos(r, e))) ^ (bits_from_float(x) & _SIGN))


@elementary
def cos(x):
    """Cosine of any float64, error below 0.85 ULP; cos(+-inf) = NaN, NaN propagates."""
    bits, r, e = _reduce_any(abs(np.float64(x)))
    return _as_cos(bits, *_sin_cos(r, e))
