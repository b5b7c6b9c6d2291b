r"""Feature maps: what a linear policy is linear in.

A feature map turns an observation of d numbers into a vector φ of F features. The observation is first scaled
to the unit cube, component by component: with finite bounds, s = (o - low) / (high - low), clipped to [0, 1];
with an infinite one, s = ½ + ½ o / (1 + |o|). Bounds are those of the environment's observation space, or
your own (`low`, `high`: a number for all components, or one each). Give your own where the space has none:
the squashing above knows no scale but 1.

A map is made with its sizes, ``Fourier(3)``, and completed by the policy: ``SoftmaxLinear.for_env(env,
features=fastpg.features.Fourier(3))``. A size is a number for all components, or a tuple with one for each.
Called with observations of shape (..., d), a complete map returns features of shape (..., F).

`Polynomial`, `Fourier` and `RadialBasis` are products over the components, F = Π_k n_k features numbered with
the last component fastest; that makes them cheap, see `fastpg.linear_forms`. `TileCoding` is a choice of
features that are 1 where the others are 0, and takes as long as it has tilings, however many features.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastpg import packs
from fastpg.dispatch import inner

MAX_FEATURES = 2**20
MAX_FACTORS = 4096  # whose products the features are: tables of them are on the stack of a thread
UNBOUNDED = float(np.finfo(np.float32).max)  # a bound of Gymnasium's that means none


class Constant(NamedTuple):
    """The one feature 1: what is linear in it does not depend on the observation."""

    @property
    def n_features(self):
        """F."""
        return 1

    def for_env(self, env):
        """Return the map itself, which fits every environment."""
        return self

    def constant(self):
        """Return weights under which the features add up to 1."""
        return np.ones(1)

    def __call__(self, observation):
        """Return the features, shape (..., 1)."""
        return np.ones((*np.shape(observation)[:-1], 1))


class Polynomial(NamedTuple):
    r"""Polynomials: φ_c(s) = Π_k (2 s_k - 1)^{c_k} for all c with 0 <= c_k <= degree (of component k).

    The first is the constant 1. On [-1, 1], where powers are of comparable size, and not on s itself.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §9.5.1.
    """

    degree: Any
    low: Any = None
    high: Any = None

    def for_env(self, env):
        """Return the map with sizes and bounds for an environment's observations, or raise ValueError."""
        return _complete(self, env, "degree", 0)

    @property
    def sizes(self):
        """How many functions each component has."""
        return tuple(degree + 1 for degree in self.degree)

    @property
    def n_features(self):
        """F."""
        return _n_features(self, math.prod(self.sizes))

    def __call__(self, observation):
        """Return the features, shape (..., F)."""
        s = scaled(self, observation)
        columns = (
            (2.0 * s[..., k, np.newaxis] - 1.0) ** np.arange(size) for k, size in enumerate(self.sizes)
        )
        return _products(columns, s.shape[:-1])

    def constant(self):
        """Return weights under which the features add up to 1."""
        return _unit(self.n_features)

    def size(self, k):
        """Return how many functions component k has."""
        return packs.item(self.degree, k) + 1

    def one(self, s):
        """Return what the products begin with."""
        return packs.fill(1.0, s)

    def tabulate(self, table, spacing, offset, k, s):
        """Write the functions of component k into a table."""
        t = s * 2.0 - 1.0
        power = packs.fill(1.0, s)
        for i in range(packs.item(self.degree, k) + 1):
            packs.poke(table, i * spacing + offset, power)
            power = power * t


class Fourier(NamedTuple):
    r"""The Fourier cosine basis: φ_c(s) = cos(π c·s) for all c with 0 <= c_k <= order (of component k).

    The first is the constant 1.

    Source: Konidaris, Osentoski & Thomas, "Value function approximation in reinforcement learning using the
    Fourier basis", AAAI 2011, eq. 4.
    """

    order: Any
    low: Any = None
    high: Any = None

    def for_env(self, env):
        """Return the map with sizes and bounds for an environment's observations, or raise ValueError."""
        return _complete(self, env, "order", 0)

    @property
    def sizes(self):
        """How many functions each component has."""
        return tuple(order + 1 for order in self.order)

    @property
    def n_features(self):
        """F."""
        return _n_features(self, math.prod(self.sizes))

    def __call__(self, observation):
        """Return the features, shape (..., F)."""
        s = scaled(self, observation)
        coefficients = np.indices(self.sizes).reshape(len(self.sizes), -1)
        return np.cos(np.pi * (s @ coefficients))

    def constant(self):
        """Return weights under which the features add up to 1."""
        return _unit(self.n_features)

    def size(self, k):
        """Return how many functions component k has."""
        return packs.item(self.order, k) + 1

    def one(self, s):
        """Return what the products begin with: they are complex, and the cosines their real parts."""
        return packs.fill(1.0, s), packs.fill(0.0, s)

    def tabulate(self, table, spacing, offset, k, s):
        """Write exp(iπs)^(c - order_k / 2) into a table, the powers of one number: no cosine for each."""
        n = packs.item(self.order, k) + 1
        half = _half_turn(s)
        cosine, sine = half[0] * half[0] - half[1] * half[1], half[0] * half[1] * 2.0
        re, im = half if n % 2 == 0 else (packs.fill(1.0, s), packs.fill(0.0, s))
        for i in range(n // 2, n):
            packs.poke(table, (n - 1 - i) * spacing + offset, (re, im * -1.0))
            packs.poke(table, i * spacing + offset, (re, im))
            re, im = re * cosine - im * sine, re * sine + im * cosine


class FoldedFourier(Fourier):
    r"""`Fourier` for θ that is folded already (`fastpg.linear_forms`)."""

    __slots__ = ()


class RadialBasis(NamedTuple):
    r"""Gaussian bumps on a grid: φ_c(s) = exp(-½ Σ_k ((n_k - 1) s_k - c_k)² / width²), 0 <= c_k < n_k.

    `centres` is n_k, evenly spaced from 0 to 1, so the width is in units of their distance; of a component
    with one centre nothing depends. With `normalised`, features are divided by their sum.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §9.5.5.
    """

    centres: Any
    width: float = 1.0
    normalised: bool = False
    low: Any = None
    high: Any = None

    def for_env(self, env):
        """Return the map with sizes and bounds for an environment's observations, or raise ValueError."""
        if isinstance(self.width, bool) or not 0.0 < self.width < math.inf:
            raise ValueError(f"features={self!r}: width must be a positive number")
        complete = self._replace(width=float(self.width), normalised=bool(self.normalised))
        return _complete(complete, env, "centres", 1)

    @property
    def sizes(self):
        """How many functions each component has."""
        return self.centres

    @property
    def n_features(self):
        """F."""
        return _n_features(self, math.prod(self.centres))

    def __call__(self, observation):
        """Return the features, shape (..., F)."""
        s = scaled(self, observation)
        columns = []
        for k, n in enumerate(self.centres):
            distance = (n - 1) * s[..., k, np.newaxis] - np.arange(n)
            exponents = -0.5 * (distance / self.width) ** 2
            if self.normalised:
                exponents -= exponents.max(axis=-1, keepdims=True)
            column = np.exp(exponents)
            columns.append(column / column.sum(axis=-1, keepdims=True) if self.normalised else column)
        return _products(columns, s.shape[:-1])

    def constant(self):
        """Return weights under which the features add up to 1; ValueError unless they are normalised."""
        if not self.normalised:
            raise ValueError(f"features={self!r}: must be normalised, or no sum of them is constant")
        return np.ones(self.n_features)

    def size(self, k):
        """Return how many functions component k has."""
        return packs.item(self.centres, k)

    def one(self, s):
        """Return what the products begin with."""
        return packs.fill(1.0, s)

    def tabulate(self, table, spacing, offset, k, s):
        """Write the functions of component k into a table."""
        n = packs.item(self.centres, k)
        u = s * (n - 1.0)
        factor = -0.5 / (self.width * self.width)
        nearest = u - packs.floor(u + 0.5)
        least = nearest * nearest * (1.0 if self.normalised else 0.0)
        total = packs.fill(0.0, s)
        for i in range(n):
            distance = u - i * 1.0
            value = _exp_of_negative((distance * distance - least) * factor)
            packs.poke(table, i * spacing + offset, value)
            total = total + value
        if self.normalised:
            for i in range(n):
                packs.poke(table, i * spacing + offset, packs.peek(table, i * spacing + offset) / total)


class TileCoding(NamedTuple):
    r"""Tile coding: several grids of tiles, each shifted against the others; a feature is 1 on its tile.

    Tiling j has tile ⌊s_k · tiles_k + ((2k + 1) j mod tilings) / tilings⌋ in component k = 0, 1, ...: the
    shifts are multiples of the asymmetric (1, 3, 5, ...) that Miller & Glanz recommend, who take `tilings` to
    be a power of 2, at least 4d. A tiling has tiles_k + 1 tiles in each component, so that shifted ones cover
    the cube: F = tilings · Π_k (tiles_k + 1), the tiling slowest, then the components, the last one fastest.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §9.5.4.
    """

    tilings: int
    tiles: Any
    low: Any = None
    high: Any = None

    def for_env(self, env):
        """Return the map with sizes and bounds for an environment's observations, or raise ValueError."""
        tilings = _integer(self, "tilings", self.tilings, 1)
        return _complete(self._replace(tilings=tilings), env, "tiles", 1)

    @property
    def n_features(self):
        """F."""
        return _n_features(self, self.tilings * math.prod(n + 1 for n in self.tiles))

    def constant(self):
        """Return weights under which the features add up to 1."""
        return np.full(self.n_features, 1.0 / self.tilings)

    def active(self, observation):
        """Return the numbers of the features that are 1, one in each tiling: shape (..., tilings)."""
        s = scaled(self, observation)
        number = np.broadcast_to(np.arange(self.tilings), (*s.shape[:-1], self.tilings))
        for k, n in enumerate(self.tiles):
            shift = (2 * k + 1) * np.arange(self.tilings) % self.tilings / self.tilings
            tile = np.minimum(np.floor(s[..., k, np.newaxis] * n + shift), n)
            number = number * (n + 1) + np.nan_to_num(tile).astype(np.int64)
        return number

    def __call__(self, observation):
        """Return the features, shape (..., F)."""
        active = self.active(observation)
        features = np.zeros((*active.shape[:-1], self.n_features))
        np.put_along_axis(features, active, 1.0, axis=-1)
        return features

    def tile(self, tiling, observation):
        """Return the number of a tiling's active feature, a float or a pack of them; compiled code only."""
        number = packs.fill(tiling * 1.0, observation[0])
        for k in range(len(self.tiles)):
            shift = ((2 * k + 1) * tiling % self.tilings) / self.tilings
            n = packs.item(self.tiles, k) * 1.0
            tile = packs.floor(scaled_component(self, k, packs.item(observation, k)) * n + shift)
            number = number * (n + 1.0) + packs.between(tile, 0.0, n)
        return number


def scaled(features, observation):
    """Return an observation scaled to the unit cube, shape (..., d)."""
    o, low, high = np.asarray(observation, dtype=np.float64), np.array(features.low), np.array(features.high)
    bounded = np.isfinite(high - low)
    squashed = 0.5 + 0.5 * o / (1.0 + np.abs(o))
    low, width = np.where(bounded, low, 0.0), np.where(bounded, high - low, 1.0)
    return np.where(bounded, np.clip((o - low) / width, 0.0, 1.0), squashed)


@inner
def scaled_component(features, k, o):
    """Return component k of an observation, scaled: a number, or a pack; compiled code only."""
    low = packs.item(features.low, k)
    width = packs.item(features.high, k) - low
    if width < np.inf:
        return packs.between((o - low) * (1.0 / width), 0.0, 1.0)
    return o / (packs.magnitude(o) + 1.0) * 0.5 + 0.5


def _unit(n):
    unit = np.zeros(n)
    unit[0] = 1.0
    return unit


def _products(columns, shape):
    """The products of one number from each column, the last column fastest."""
    products = np.ones((*shape, 1))
    for column in columns:
        products = (products[..., :, np.newaxis] * column[..., np.newaxis, :]).reshape(*shape, -1)
    return products


# Taylor series of sin(πu) / u and cos(πu) in u², for |u| <= ¼; what is left out is below 2e-18.
_SINE = tuple((-1) ** m * math.pi ** (2 * m + 1) / math.factorial(2 * m + 1) for m in range(9))
_COSINE = tuple((-1) ** m * math.pi ** (2 * m) / math.factorial(2 * m) for m in range(9))
_ROOT = math.sqrt(0.5)
_EXP = tuple(1.0 / math.factorial(m) for m in range(14))
_LOG2E = 1.4426950408889634
_LN2_1, _LN2_2 = 0.6931471803691238, 1.9082149292705877e-10  # the first has 32 bits
_MAGIC = 1.5 * 2.0**52


@inner
def _polynomial(coefficients, x):
    value = packs.fill(coefficients[len(coefficients) - 1], x)
    for i in range(len(coefficients) - 2, -1, -1):
        value = value * x + coefficients[i]
    return value


@inner
def _half_turn(s):
    """cos(πs/2) and sin(πs/2) for 0 <= s <= 1, about the middle of the interval."""
    u = (s - 0.5) * 0.5
    square = u * u
    sine, cosine = u * _polynomial(_SINE, square), _polynomial(_COSINE, square)
    return (cosine - sine) * _ROOT, (cosine + sine) * _ROOT


@inner
def _exp_of_negative(x):
    """exp(x) for x <= 0; 1e-304 for all that is less."""
    x = packs.between(x, -700.0, 0.0)
    t = x * _LOG2E + _MAGIC
    n = t - _MAGIC
    r = x - n * _LN2_1 - n * _LN2_2
    return _polynomial(_EXP, r) * packs.two_to_the(t)


def check_features(features):
    """Raise TypeError unless `features` is a feature map."""
    if not isinstance(features, Constant | Polynomial | Fourier | RadialBasis | TileCoding):
        raise TypeError(
            f"features={features!r}: must be a map of fastpg.features, such as fastpg.features.Fourier(3)"
        )


def _integer(features, name, value, least):
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"features={features!r}: {name} must be integers of at least {least}, not {value!r}")
    return int(value)


def _spread_out(features, name, value, d):
    """A tuple of d: of a number for all components, or of what has d of them."""
    values = tuple(value) if np.ndim(value) else (value,) * d
    if len(values) != d:
        raise ValueError(
            f"features={features!r}: {name} must be one number or {d}, as many as the observation has"
        )
    return values


def _complete(features, env, name, least):
    """Return the map with its sizes and bounds as tuples, a number for each component."""
    space = env.observation_space
    if len(getattr(space, "shape", None) or ()) != 1 or not hasattr(space, "low"):
        raise ValueError(f"env: features need a one-dimensional Box observation, not {space}")
    d = space.shape[0]
    sizes = _spread_out(features, name, getattr(features, name), d)
    bounds = []
    for field, given in (("low", space.low), ("high", space.high)):
        value = getattr(features, field)
        values = _spread_out(features, field, given if value is None else value, d)
        try:
            numbers = [float(x) for x in values]
        except (TypeError, ValueError):
            raise ValueError(f"features={features!r}: {field} must be numbers") from None
        bounds.append(tuple(x if abs(x) < UNBOUNDED else math.copysign(math.inf, x) for x in numbers))
    if not all(low < high for low, high in zip(*bounds, strict=True)):
        raise ValueError(
            f"features={features!r}: low must be less than high, not {bounds[0]} and {bounds[1]}"
        )
    complete = features._replace(
        low=bounds[0],
        high=bounds[1],
        **{name: tuple(_integer(features, name, size, least) for size in sizes)},
    )
    complete.n_features  # noqa: B018  (raises if there are too many)
    if hasattr(complete, "sizes") and sum(parts_of(complete.sizes)) > MAX_FACTORS:
        raise ValueError(
            f"features={features!r}: are the products of {' and '.join(map(str, parts_of(complete.sizes)))} "
            f"functions, of {MAX_FACTORS} in all at most"
        )
    return complete


def parts_of(sizes):
    """Return I and J, from the sizes of the components: those of the least sum that their order permits."""
    n = math.prod(sizes)
    n_left = min((math.prod(sizes[:k]) for k in range(len(sizes))), key=lambda i: i + n // i)
    return n_left, n // n_left


def _n_features(features, n):
    if n > MAX_FEATURES:
        raise ValueError(f"features={features!r}: makes {n} features, at most {MAX_FEATURES} are allowed")
    return n
