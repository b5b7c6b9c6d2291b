"""simd.py against mpmath in ULP, its edge values against NumPy, and that loops over it vectorise."""

import math
import os
import platform
import re
import subprocess
import sys

import llvmlite.binding as llvm
import mpmath
import numba
import numpy as np
import pytest

from fastpg import simd
from fastpg.dispatch import FASTMATH, exact

NAMES = ["exp", "exp_of_negative", "log", "tanh", "sin", "cos", "sin_bounded", "cos_bounded"]
# The bounds that the docstrings state.
BOUNDS = {"exp": 1.0, "exp_of_negative": 1.0, "log": 0.9, "tanh": 1.7, "sin": 0.85, "cos": 0.85}
BOUNDS |= {"sin_bounded": 1.45, "cos_bounded": 1.45}
JIT = not numba.config.DISABLE_JIT
N = 1500 if JIT else 150


def array_loop(function):
    """Return a loop over arrays that does other work as well."""

    @numba.njit(error_model="numpy", fastmath=FASTMATH)
    def loop(x, other, out):
        for i in range(x.size):
            out[i] = function(x[i]) - 0.5 * other[i]

    return loop


@pytest.fixture(scope="module")
def loops():
    """One compiled loop a function; and the loop as a function of an array, which returns the values."""
    return {name: array_loop(getattr(simd, name)) for name in NAMES}


def run(loop, x):
    x = np.asarray(x, dtype=np.float64)
    out = np.empty_like(x)
    loop(x, np.zeros_like(x), out)
    return out


def base_name(name):
    return name.removesuffix("_bounded").removesuffix("_of_negative")


def reference(name):
    return getattr(mpmath, base_name(name))


def numpy_function(name):
    return getattr(np, base_name(name))


def max_ulp(name, x, got):
    with mpmath.workdps(45):
        errors = []
        for argument, value in zip(x, got, strict=True):
            true = reference(name)(mpmath.mpf(float(argument)))
            spacing = np.spacing(abs(float(true)))
            errors.append(abs(mpmath.mpf(float(value)) - true) / mpmath.mpf(float(spacing)))
        return float(max(errors))


def log_uniform(rng, low, high, n=N):
    return 2.0 ** rng.uniform(low, high, n) * rng.choice([-1.0, 1.0], n)


def near_multiples(rng, low, high, n):
    """Return the doubles next to n * pi/2, from 2**low to 2**high."""
    with mpmath.workdps(400):
        counts = [mpmath.floor(mpmath.mpf(2) ** float(e)) for e in rng.uniform(low, high, n)]
        nearest = np.array([float(count * mpmath.pi / 2) for count in counts])
    return np.concatenate([nearest, np.nextafter(nearest, 0.0), -nearest])


def arguments(name):
    rng = np.random.default_rng(20)
    if name == "exp":
        wide = rng.uniform(-708.0, 709.78, N)
        return [rng.uniform(-2.0, 2.0, N), wide, rng.uniform(-745.1, -708.0, N), log_uniform(rng, -1074, 1)]
    if name == "exp_of_negative":
        return [rng.uniform(-2.0, 0.0, N), rng.uniform(-708.0, 0.0, N), -abs(log_uniform(rng, -1074, 1))]
    if name == "log":
        # The largest errors are at both ends of the reduced range, next to sqrt(1/2) and sqrt(2).
        ends = np.concatenate([rng.uniform(0.70, 0.72, N), rng.uniform(1.39, 1.43, N)])
        near_one = 1.0 + log_uniform(rng, -52, -1.1)
        return [rng.uniform(0.0, 4.0, N), ends, near_one, 2.0 ** rng.uniform(-1074, 1024, N)]
    if name == "tanh":
        return [rng.uniform(-1.0, 1.0, N), rng.uniform(-20.0, 20.0, N), log_uniform(rng, -1074, 5)]
    near = near_multiples(rng, 0, 20, N // 5)
    common = [rng.uniform(-7.0, 7.0, N), rng.uniform(-2e6, 2e6, N), near, log_uniform(rng, -1074, 2)]
    if name.endswith("_bounded"):
        return common
    huge = [log_uniform(rng, 20.9, 1024, N // 2), near_multiples(rng, 20, 1022, N // 10)]
    # The double closest to a multiple of pi/2 (Muller, Elementary Functions), and other well-known ones.
    worst = [6381956970095103.0 * 2.0**797, 5.319372648326541e255, 1e22, 1e300, sys.float_info.max, 2.0**1023]
    return [*common, *huge, np.array(worst)]


@pytest.mark.parametrize("name", NAMES)
def test_error_stays_below_the_documented_bound(name, loops):
    bound = BOUNDS[name]
    assert f"below {bound} ULP" in getattr(simd, name).__doc__
    for x in arguments(name):
        assert max_ulp(name, x, run(loops[name], x)) < bound


EDGES = {
    "exp": [709.782712893384, 709.7827128933841, 800.0, -745.1332191019411, -745.1332191019412, -800.0],
    "log": [-1.0, -5e-324, 5e-324, 1.0, 2.0**-1022, sys.float_info.max],
    "tanh": [5e-324, -5e-324, 1e-300, 19.0, -19.1, 1e300],
    "sin": [5e-324, -5e-324, 1e-300],
    "cos": [5e-324, -1e-300, 1e-9],
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "exp_of_negative"])
def test_edge_values_are_those_of_numpy(name, loops):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, *EDGES[base_name(name)]])
    with np.errstate(all="ignore"):
        expected = numpy_function(name)(x)
    got = run(loops[name], x)
    np.testing.assert_array_equal(got, expected)
    # Of a NaN the sign means nothing; of a zero it does.
    defined = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[defined]), np.signbit(expected[defined]))


def test_exp_of_negative_stops_short_of_the_denormals(loops):
    got = run(loops["exp_of_negative"], [0.0, -0.0, math.nan, -708.0, -708.5, -1e300, -math.inf])
    assert got[:2].tolist() == [1.0, 1.0] and math.isnan(got[2])
    assert (got[3:] == got[3]).all() and 0.0 < got[3] < 3.4e-308


@pytest.mark.parametrize("name", ["sin_bounded", "cos_bounded"])
def test_bounded_is_nan_rather_than_wrong(name, loops):
    got = run(loops[name], [simd.BOUND, -simd.BOUND, math.nextafter(simd.BOUND, 1e9), -1e7, 1e300])
    np.testing.assert_array_equal(np.isnan(got), [False, False, True, True, True])


def test_whole_range_agrees_with_bounded_where_both_hold(loops):
    """Errors of 0.85 and 1.45 ULP, and two roundings: at most 2 units apart."""
    x = np.random.default_rng(0).uniform(-simd.BOUND, simd.BOUND, N)
    for name in ("sin", "cos"):
        np.testing.assert_array_max_ulp(run(loops[name], x), run(loops[name + "_bounded"], x), maxulp=2)


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_python_call_equals_the_loop(name, loops):
    x = [0.3, 1.7, 2.5] if name != "exp_of_negative" else [-0.3, -1.7, 0.0]
    function = getattr(simd, name)
    assert [function(value) for value in x] == run(loops[name], x).tolist()
    integer = int(x[-1]) - 1
    assert function(integer) == function(float(integer)) == function(np.float32(integer))


@pytest.mark.skipif(not JIT, reason="NUMBA_DISABLE_JIT: nothing is compiled")
@pytest.mark.parametrize("name", NAMES)
def test_loop_vectorises(name, loops):
    run(loops[name], [1.0])
    (assembly,) = loops[name].inspect_asm().values()
    if platform.machine().lower() in ("aarch64", "arm64"):
        packed = r"fml[as]\s+v\d+\.2d"
    else:
        if not llvm.get_host_cpu_features().get("fma"):
            pytest.skip("no fused multiply-add on this processor")
        packed = r"vfn?m(add|sub)\d+pd\s.*[xyz]mm"
    assert len(re.findall(packed, assembly)) > 5


@pytest.mark.skipif(not JIT, reason="NUMBA_DISABLE_JIT: nothing is compiled")
def test_exact_stays_strict_in_a_fastmath_caller():
    """Numba lets a function without a fastmath option of its own inherit its caller's; nsz drops x + 0.0."""

    @exact
    def add_zero(x):
        return x + 0.0

    @numba.njit(fastmath=FASTMATH)
    def caller(x):
        return add_zero(x)

    assert math.copysign(1.0, caller(-0.0)) == 1.0


@pytest.fixture(scope="module")
def tanh_loop():
    @numba.njit(error_model="numpy", fastmath=FASTMATH)
    def loop(x, out):
        for i in range(x.size):
            out[i] = simd.tanh_float32(x[i])

    def run(x):
        x = np.asarray(x, np.float32)
        out = np.empty_like(x)
        loop(x, out)
        return out

    run.loop = loop
    return run


def test_tanh_float32_stays_below_the_documented_bound(tanh_loop):
    assert "below 5.5 ULP" in simd.tanh_float32.__doc__
    n = 500_000 if JIT else 500
    x = np.concatenate([np.linspace(-9.5, 9.5, n), np.geomspace(1e-45, 1e38, n)]).astype(np.float32)
    true = np.tanh(x.astype(np.float64))
    got = tanh_loop(x)
    assert (np.abs(got - true) / np.spacing(np.abs(true).astype(np.float32))).max() < 5.5


def test_edge_values_of_tanh_float32_are_those_of_float64(tanh_loop):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 12.0, -20.0, 3e38], np.float32)
    got, expected = tanh_loop(x), np.tanh(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[x == 0]), np.signbit(expected[x == 0]))
    assert [float(simd.tanh_float32(value)) for value in (0.5, -3.0)] == tanh_loop([0.5, -3.0]).tolist()


@pytest.mark.skipif(not JIT, reason="NUMBA_DISABLE_JIT: nothing is compiled")
def test_tanh_float32_vectorises(tanh_loop):
    tanh_loop([1.0])
    (assembly,) = tanh_loop.loop.inspect_asm().values()
    packed = (
        r"fml[as]\s+v\d+\.4s"
        if platform.machine().lower() in ("aarch64", "arm64")
        else r"vfn?m(add|sub)\d+ps"
    )
    assert len(re.findall(packed, assembly)) > 5


def test_what_normal_numbers_are_made_of():
    """Cosines of random turns against mpmath, and logarithms of random numbers as `log` has them."""
    x = np.random.default_rng(3).integers(0, 2**52, N) * 2.0**-52
    x[:4] = 0.0, 0.5, 1.0 - 2.0**-52, 2.0**-52
    cosines = run(array_loop(simd.cos_turns), x)
    with mpmath.workdps(45):
        true = [mpmath.cos(2 * mpmath.pi * mpmath.mpf(value)) for value in x.tolist()]
        spacings = np.spacing([abs(float(value)) for value in true]).tolist()
        errors = [abs(a - b) / ulp for a, b, ulp in zip(cosines.tolist(), true, spacings, strict=True)]
    assert max(errors) < 2.5
    assert "below 2.5 ULP" in simd.cos_turns.__doc__
    assert run(array_loop(simd.cos_turns), [0.25, 0.75]).tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(
        run(array_loop(simd.log_bounded), 1.0 - x), run(array_loop(simd.log), 1.0 - x)
    )


def test_fma_rounds_once():
    cases = [
        (1.0 + 2.0**-30, 1.0 - 2.0**-30, -1.0),  # the product alone rounds to 1
        (0.1, 10.0, -1.0),
        (1e308, 10.0, -1e308),
        (1e308, -10.0, 1e308),
        (1e200, 1e200, -math.inf),
        (0.0, -1.0, -0.0),
        (2.0, 3.0, -6.0),
        (5e-324, 0.5, 5e-324),
    ]
    expected = [-(2.0**-60), 2.0**-54, math.inf, -math.inf, -math.inf, -0.0, 0.0, 1e-323]

    @numba.njit
    def compiled(a, b, c):
        return simd.fma(a, b, c)

    for function in (simd.fma, compiled):
        got = [function(*case) for case in cases]
        assert got == expected
        assert np.signbit(got).tolist() == np.signbit(expected).tolist()


def test_bit_casts():
    @numba.njit
    def compiled_from_bits(bits):
        return simd.float_from_bits(bits)

    @numba.njit
    def compiled_to_bits(x):
        return simd.bits_from_float(x)

    bits = [0, 0x3FF0000000000000, -0x8000000000000000, -0x4008000000000000]
    expected = [0.0, 1.0, -0.0, -1.5]
    for to_float, to_bits in (
        (simd.float_from_bits, simd.bits_from_float),
        (compiled_from_bits, compiled_to_bits),
    ):
        got = [to_float(np.int64(b)) for b in bits]
        assert got == expected
        assert np.signbit(got).tolist() == np.signbit(expected).tolist()
        assert to_float(np.uint64(0xC000000000000000)) == -2.0
        assert [to_bits(x) for x in expected] == bits


@pytest.mark.skipif(not JIT, reason="NUMBA_DISABLE_JIT: this process is already what the test starts")
def test_ordinary_python_has_the_same_bits(loops):
    x = [-0.0, 0.4, 3.0, 1e-310, 1e5, 1e22, 1e300, math.inf, math.nan, -0.4, -300.0]
    code = (
        "import numpy as np\nfrom fastpg import simd\n"
        f"x = np.array({[value.hex() for value in x]!r})\n"
        f"for name in {NAMES!r}:\n"
        "    print(*[float(getattr(simd, name)(float.fromhex(v))).hex() for v in x])\n"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    for name, line in zip(NAMES, output.splitlines(), strict=True):
        plain = [float.fromhex(value) for value in line.split()]
        np.testing.assert_array_equal(plain, run(loops[name], x))
