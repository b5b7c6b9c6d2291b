"""Counter-based random numbers: a draw is a function of (seed, trajectory, time step, number of the draw).

Nothing depends on a thread, a lane or an order, so a trajectory is the same wherever it is computed.
The generator is SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014): the n-th output of the stream with key k and odd increment γ is ``mix64(k + n γ)``. Every
trajectory has its own k and γ, themselves outputs 2i and 2i + 1 of the stream that belongs to the
seed. A step owns 2¹⁶ values of n: the first half for the environment, the second for the policy.
"""

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from fastpg import simd
from fastpg.dispatch import compiled_as, compiled_form, inline, inner, lowered
from fastpg.precision import has_single, single

MAX_SEED = 2**64 - 1
MAX_NORMALS = 2**14
MAX_DRAWS = 2**15  # of the environment, and as many of the policy, in one step

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: SplitMix64's default increment
STEP_BITS = np.uint64(16)
_POLICY_BITS = np.uint64(15)


class Rng(NamedTuple):
    """The random numbers of one time step of one trajectory: draw j is ``mix64(key + j · gamma)``."""

    key: np.uint64
    gamma: np.uint64


class SingleRng(Rng):
    """The same in lanes of float32 (`fastpg.precision`): draws are rounded down to 24 bits; compiled only."""


class RecordedRng(Rng):
    """The same in ordinary Python, noting the numbers of the draws that are made, in `draws`."""

    def __new__(cls, key, gamma):
        """Return one that has noted nothing."""
        recorded = super().__new__(cls, key, gamma)
        recorded.draws = []
        return recorded


@inline
def mix64(z):
    """SplitMix64's output function: David Stafford's variant 13 of MurmurHash3's finaliser."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inline
def mix_gamma(z):
    """An odd increment with enough changes of bit for SplitMix64 (Steele et al. 2014, figure 16)."""
    z = (z ^ (z >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    z = (z ^ (z >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    z = (z ^ (z >> np.uint64(33))) | np.uint64(1)
    return z ^ np.uint64(0xAAAAAAAAAAAAAAAA) if count_ones(z ^ (z >> np.uint64(1))) < 24 else z


def count_ones(bits):
    """Return how many of the 64 bits are 1."""
    return int(bits).bit_count()


@lowered(count_ones)
def _(typing, bits):
    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def seed_key(seed):
    """Return the key (uint64) of the stream of streams that belongs to a seed."""
    return np.uint64(_seed_key(np.uint64(seed)))


def trajectory_rng(key, trajectory):
    """Return the random numbers for the reset of trajectory number `trajectory`, under a `seed_key`."""
    return _rng(*_trajectory_rng(np.uint64(key), np.uint64(trajectory)))


def next_step(rng):
    """Return the random numbers of the following time step (the reset counts as one)."""
    return _rng(*_next_step(_rng(*rng)))


def steps_later(rng, n):
    """Return what `next_step` makes of it n times over."""
    return _rng(*_steps_later(_rng(*rng), np.uint64(n)))


def policy_rng(rng):
    """Return the policy's share of the random numbers of this time step."""
    return _rng(*_policy_rng(_rng(*rng)))


def _rng(key, gamma):
    """An `Rng` in ordinary Python, where compiled functions return plain integers."""
    return Rng(np.uint64(key), np.uint64(gamma))


def _checked_rng(rng):
    if not isinstance(rng, tuple):
        raise TypeError(f"rng={rng!r}: must be a fastpg.random.Rng or a numpy.random.Generator")
    return _rng(*rng)


@compiled_as(seed_key)
@inline
def _seed_key(seed):
    return mix64(np.uint64(seed) + _GOLDEN)


@compiled_as(trajectory_rng)
@inline
def _trajectory_rng(key, trajectory):
    n = np.uint64(trajectory) << np.uint64(1)
    return Rng(mix64(key + _GOLDEN * n), mix_gamma(key + _GOLDEN * (n + np.uint64(1))))


@compiled_as(next_step)
@inline
def _next_step(rng):
    return _with_key(rng, rng.key + (rng.gamma << STEP_BITS))


@compiled_as(steps_later)
@inline
def _steps_later(rng, n):
    return _with_key(rng, rng.key + np.uint64(n) * (rng.gamma << STEP_BITS))


@compiled_as(policy_rng)
@inline
def _policy_rng(rng):
    return _with_key(rng, rng.key + (rng.gamma << _POLICY_BITS))


def _with_key(rng, key):
    return Rng(key, rng.gamma)


@lowered(_with_key)
def _(typing, rng, key):
    def codegen(context, builder, signature, args):
        return builder.insert_value(args[0], args[1], 0)

    return rng(rng, types.uint64), codegen


def rng_for(theta, rng):
    """Return an `Rng`, as a `SingleRng` if θ is `single`."""
    return rng


@lowered(rng_for)
def _(typing, theta, rng):
    kind = types.NamedUniTuple(types.uint64, 2, SingleRng) if has_single(theta) else rng

    def codegen(context, builder, signature, args):
        return args[1]

    return kind(theta, rng), codegen


def _is_single(rng):
    return getattr(rng, "instance_class", None) is SingleRng


def uniform(rng, j):
    """Return draw j of this step, uniform on {0, 2⁻⁵², ..., 1 - 2⁻⁵²}.

    Parameters
    ----------
    rng : Rng or numpy.random.Generator
        A generator may stand in, in ordinary Python only; it ignores `j`.
    j : int
        Number of the draw, 0 <= j < MAX_DRAWS (checked in ordinary Python only). The same number gives
        the same value again.
    """
    if isinstance(rng, np.random.Generator):
        return rng.random()
    if not 0 <= j < MAX_DRAWS:
        raise ValueError(f"j={j!r}: must be between 0 and {MAX_DRAWS - 1}")
    if isinstance(rng, RecordedRng):
        rng.draws.append(j)
    return float(_uniform(_checked_rng(rng), j))


@inline
def _bits(rng, j):
    return mix64(rng.key + rng.gamma * np.uint64(j))


@inline
def _uniform(rng, j):
    bits = _bits(rng, j)
    # 52 random bits as the mantissa of a number in [1, 2): no conversion from integer to float, for
    # which AVX2 has no packed instruction.
    return simd.float_from_bits((bits >> np.uint64(12)) | np.uint64(0x3FF0000000000000)) - 1.0


def _fraction(bits):
    """Return the first 24 of 64 bits as a `single` in [0, 1)."""


@lowered(_fraction)
def _(typing, bits):
    def codegen(context, builder, signature, args):
        first = builder.trunc(builder.lshr(args[0], ir.Constant(args[0].type, 40)), ir.IntType(32))
        number = builder.sitofp(first, ir.FloatType())
        return builder.fmul(number, ir.Constant(number.type, 2.0**-24))

    return single(types.uint64), codegen


@inner
def _uniform_single(rng, j):
    return _fraction(_bits(rng, j))


@compiled_form(uniform)
def _(rng, j):
    return (lambda rng, j: _uniform_single(rng, j)) if _is_single(rng) else (lambda rng, j: _uniform(rng, j))


def normal(rng, j):
    """Return a standard normal number: draws j and j + 2¹⁴ of this step, by Box and Muller (1958).

    √(-2 log(1 - u)) cos(2π v), so at most 8.5 in absolute value. Other draws of the step must have other
    numbers, and a normal one has j < MAX_NORMALS (checked in ordinary Python only). A NumPy generator may
    stand in for `rng`, as in `uniform`.
    """
    if isinstance(rng, np.random.Generator):
        return rng.standard_normal()
    if not 0 <= j < MAX_NORMALS:
        raise ValueError(f"j={j!r}: must be between 0 and {MAX_NORMALS - 1}")
    if isinstance(rng, RecordedRng):
        rng.draws += [j, j + MAX_NORMALS]
    return float(_normal(_checked_rng(rng), j))


@compiled_as(normal)
@inline
def _normal(rng, j):
    radius = math.sqrt(-2.0 * simd.log_bounded(1.0 - uniform(rng, j)))
    return radius * simd.cos_turns(uniform(rng, j + MAX_NORMALS))


def integer(rng, j, n):
    """Return draw j of this step, uniform on {0, ..., n - 1} (to n · 2⁻⁵²)."""
    return int(uniform(rng, j) * n)


@compiled_as(integer)
def _integer(rng, j, n):
    return np.int64(uniform(rng, j) * n)


def categorical(rng, j, probabilities):
    """Return an index a with probability ``probabilities[a]``, by inversion of draw j.

    In ordinary Python, `probabilities` may have batch axes, shape (..., A), if `rng` is a NumPy
    generator. The last index takes what rounding leaves over, so that it never falls off the end.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim == 1:
        draw = uniform(rng, j)
    elif isinstance(rng, np.random.Generator):
        draw = rng.random(probabilities.shape[:-1])
    else:
        raise ValueError("a batch of probabilities needs a numpy.random.Generator for rng")
    below = np.cumsum(probabilities[..., :-1], axis=-1) <= np.asarray(draw)[..., np.newaxis]
    index = below.sum(axis=-1)
    return int(index) if probabilities.ndim == 1 else index


@compiled_as(categorical)
@inline
def _categorical(rng, j, probabilities):
    draw = uniform(rng, j)
    index = 0
    cumulated = 0.0
    for a in range(len(probabilities) - 1):
        cumulated += probabilities[a]
        index += 1 if cumulated <= draw else 0
    return index
