r"""Linear forms in features, θ·φ(o), in a loop over lanes; their other half is `fastpg.feature_sums`.

Features that are products over the components of the observation are never all computed. With the components
split in two, φ_ij = Re(L_i R_j), where L_i is a product of functions of the first components, R_j of the
others (complex for `Fourier`, real for the others). Of the F = I · J features only I + J products are
tabulated, and

.. math:: \sum_{ij} \theta_{ij} \phi_{ij} = \mathrm{Re} \sum_i L_i \sum_j \theta_{ij} R_j, \qquad
          \sum_t e_t \phi_{ij}(o_t) = \mathrm{Re} \sum_t (e_t L_i(o_t)) R_j(o_t)

take one multiplication and addition for each feature and step, two if complex, in packs (`fastpg.packs`): of
lanes on the left, here, and of time steps on the right.

`Fourier` is **folded** so that nothing is complex. With every angle taken from the middle of its component's,
L_i = exp(i α_i), R_j = exp(i γ_j) and φ_ij = Re(exp(iM) L_i R_j), where M is the sum of the middles; the
angles of i and I-1-i are opposite, as those of j and J-1-j. Let α_i and γ_j be those that are not negative.
Then the four features of i, I-1-i, j and J-1-j are sums and differences of the four products

.. math:: \cos M \cos\alpha_i \cos\gamma_j, \quad \sin M \cos\alpha_i \sin\gamma_j, \quad
          \sin M \sin\alpha_i \cos\gamma_j, \quad -\cos M \sin\alpha_i \sin\gamma_j,

so that there are as many real products as features. θ is folded once a call (`fold`): the sums of the rows
of θ_ij for i and I-1-i in the place of the first and their differences in that of the second, which belong to
cos α and sin α; and then the same with the columns. Sums over features are made folded, and folding once more
makes them what they should be.
"""

import numpy as np
from numba import types
from numba.core import cgutils

from fastpg import packs, vectors
from fastpg.dispatch import compiled_form, compiled_only, inner, lowered
from fastpg.features import FoldedFourier, Fourier, TileCoding, parts_of, scaled_component
from fastpg.lane_calls import lane_call


def rows_times_features(theta, features, observation, first_row, like):
    """Return θ_r·φ(observation) for rows r = first_row, ..., as many as `like` has; shape (..., len(like)).

    `first_row` counts rows of this feature map; θ may have other parameters behind.
    """
    x = features(observation)
    n = features.n_features
    rows = np.asarray(theta)[first_row * n : (first_row + len(like)) * n].reshape(len(like), n)
    return x @ rows.T


def logits(theta, features, observation, actions):
    """Return θ_a·φ(observation) for A actions, up to what is the same for all; shape (..., A).

    Compiled code returns differences from the last, which are 0 for the last and cost as little.
    """
    return rows_times_features(theta, features, observation, 0, actions)


def differences(theta, features, observation, actions):
    """Return what `logits` does, for θ whose rows are differences from the last already."""
    return rows_times_features(theta, features, observation, 0, actions)


def fold(rows, features):
    """Return rows of θ, shape (..., F), as compiled loops have them: folded, for `FoldedFourier`."""
    if not isinstance(features, FoldedFourier):
        return rows
    table = rows.reshape(*rows.shape[:-1], *parts_of(features.sizes))
    return _folded(_folded(table).swapaxes(-1, -2)).swapaxes(-1, -2).reshape(rows.shape)


def _folded(table):
    """Sums and differences of what is as far from the middle of the last axis, before it and behind."""
    n = table.shape[-1]
    before, middle, behind = (
        table[..., : n // 2],
        table[..., n // 2 : (n + 1) // 2],
        table[..., (n + 1) // 2 :],
    )
    behind = behind[..., ::-1]
    return np.concatenate([before + behind, middle, (before - behind)[..., ::-1]], axis=-1)


def as_folded(features):
    """Return a feature map as kernels have it."""
    return FoldedFourier(*features) if type(features) is Fourier else features


def folded_differences(theta, features, n_actions):
    """Return θ with the differences of its rows from the last, folded: shape (n_actions · F,)."""
    rows = np.asarray(theta).reshape(n_actions, -1)
    return fold(rows - rows[-1], features).reshape(-1)


# What follows is compiled only.


@compiled_only
def real_part(x, y):
    """The real part of ``x · y``."""


@compiled_only
def _times(x, y):
    """``x · y``."""


@compiled_form(real_part)
def _(x, y):
    if isinstance(x, types.BaseTuple):
        return lambda x, y: x[0] * y[0] - x[1] * y[1]
    return lambda x, y: x * y


@compiled_form(_times)
def _(x, y):
    if isinstance(x, types.BaseTuple):
        return lambda x, y: (x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0])
    return lambda x, y: x * y


@compiled_only
def is_fourier(features):
    """Whether the functions of a map are complex, and its sums folded."""


@compiled_form(is_fourier)
def _(features):
    fourier = issubclass(features.instance_class, Fourier)
    return lambda features: fourier


@inner
def _folded_entry(theta, start, j, n_right):
    own, other = packs.entry(theta, start + j), packs.entry(theta, start + n_right - 1 - j)
    return own if 2 * j + 1 == n_right else (own + other if 2 * j + 1 < n_right else other - own)


@compiled_only
def _coefficient(features, theta, start, i, j, n_left, n_right):
    """Entry (i, j) of a row of θ that begins at `start`, folded."""


@compiled_form(_coefficient)
def _(features, theta, start, i, j, n_left, n_right):
    def entry(features, theta, start, i, j, n_left, n_right):
        return packs.entry(theta, start + i * n_right + j)

    def folded(features, theta, start, i, j, n_left, n_right):
        mirrored = n_left - 1 - i
        own = _folded_entry(theta, start + i * n_right, j, n_right)
        if i == mirrored:
            return own
        other = _folded_entry(theta, start + mirrored * n_right, j, n_right)
        return own + other if i < mirrored else other - own

    return folded if features.instance_class is Fourier else entry


@inner
def split(features, d):
    """Return after how many components the two parts meet, I and J, and the largest size of a component."""
    n, largest = 1, 1
    for k in range(d):
        n *= features.size(k)
        largest = max(largest, features.size(k))
    middle, n_left, before = 0, 1, 1
    for k in range(1, d):
        before *= features.size(k - 1)
        if before + n // before < n_left + n // n_left:
            middle, n_left = k, before
    return middle, n_left, n // n_left, largest


@inner
def tabulate(features, stack, spacing, offset, table, observation, first, last):
    """Write the products of the functions of components first to last - 1 into a stack."""
    if first == last:
        packs.poke(stack, offset, features.one(observation[0]))
        return
    features.tabulate(
        stack, spacing, offset, first, scaled_component(features, first, packs.item(observation, first))
    )
    n = features.size(first)
    for k in range(first + 1, last):
        size = features.size(k)
        features.tabulate(table, 1, 0, k, scaled_component(features, k, packs.item(observation, k)))
        for i in range(n - 1, -1, -1):  # downwards, so that nothing is overwritten before it is read
            x = packs.peek(stack, i * spacing + offset)
            for j in range(size):
                packs.poke(stack, (i * size + j) * spacing + offset, _times(x, packs.peek(table, j)))
        n *= size


@inner
def tabulate_both(features, left, right, spacing, offset, table, observation, middle):
    """Write L and R into stacks."""
    tabulate(features, left, spacing, offset, table, observation, 0, middle)
    tabulate(features, right, spacing, offset, table, observation, middle, len(observation))


@compiled_only
def turn(features, left, right, n_left, n_right):
    """Multiply R by exp(iM), if it is complex, so that features are real parts of products with L."""


@compiled_form(turn)
def _(features, left, right, n_left, n_right):
    def turned(features, left, right, n_left, n_right):
        middle = _times(packs.peek(left, n_left - 1), packs.peek(right, n_right - 1))
        for j in range(n_right):
            packs.poke(right, j, _times(packs.peek(right, j), middle))

    return turned if issubclass(features.instance_class, Fourier) else _nothing_to_turn


def _nothing_to_turn(features, left, right, n_left, n_right):
    return None


@compiled_only
def turn_folded(features, left, right, n_left, n_right):
    """Make of each complex R_j the factors of cos α and of sin α in folded products."""


@compiled_form(turn_folded)
def _(features, left, right, n_left, n_right):
    def turned(features, left, right, n_left, n_right):
        cosine, sine = _times(packs.peek(left, n_left - 1), packs.peek(right, n_right - 1))
        half = (n_right + 1) // 2
        for j in range(half):
            x = packs.peek(right, j)[0]
            packs.poke(right, j, (x * cosine, x * sine))
        for j in range(half, n_right):
            x = packs.peek(right, j)[1]
            packs.poke(right, j, (x * sine, x * cosine * -1.0))

    return turned if issubclass(features.instance_class, Fourier) else _nothing_to_turn


@compiled_only
def part_of(x, sheet):
    """Return x if it is real, else its real part, or with a `sheet` of one element its imaginary part."""


@compiled_form(part_of)
def _(x, sheet):
    if not isinstance(x, types.BaseTuple):
        return lambda x, sheet: x
    return (lambda x, sheet: x[1]) if len(sheet) else (lambda x, sheet: x[0])


@inner
def _rows_of_form(form, left, right, first, last, sheet, result):
    """Add Σ_i L_i Σ_j θ_ij R_j for i = first, ..., last - 1, all of them real."""
    features, theta, start, n_left, n_right = form
    i = first
    while i + 4 <= last:  # four at a time: their chains of additions overlap
        a = b = c = d = packs.fill(0.0, result)
        for j in range(n_right):
            x = part_of(packs.peek(right, j), sheet)
            a = a + x * _coefficient(features, theta, start, i, j, n_left, n_right)
            b = b + x * _coefficient(features, theta, start, i + 1, j, n_left, n_right)
            c = c + x * _coefficient(features, theta, start, i + 2, j, n_left, n_right)
            d = d + x * _coefficient(features, theta, start, i + 3, j, n_left, n_right)
        result = result + part_of(packs.peek(left, i), sheet) * a
        result = result + part_of(packs.peek(left, i + 1), sheet) * b
        result = result + part_of(packs.peek(left, i + 2), sheet) * c
        result = result + part_of(packs.peek(left, i + 3), sheet) * d
        i += 4
    while i < last:
        a = packs.fill(0.0, result)
        for j in range(n_right):
            x = part_of(packs.peek(right, j), sheet)
            a = a + x * _coefficient(features, theta, start, i, j, n_left, n_right)
        result = result + part_of(packs.peek(left, i), sheet) * a
        i += 1
    return result


@inner
def _product_form(uniform, observation):
    theta, row, features = uniform
    middle, n_left, n_right, largest = split(features, len(observation))
    one = features.one(observation[0])
    left, right = packs.stack_of(one, n_left), packs.stack_of(one, n_right)
    table = packs.stack_of(one, largest)
    tabulate_both(features, left, right, 1, 0, table, observation, middle)
    turn_folded(features, left, right, n_left, n_right)
    form = features, theta, row * n_left * n_right, n_left, n_right
    half = (n_left + 1) // 2 if is_fourier(features) else n_left
    result = packs.fill(0.0, observation[0])
    result = _rows_of_form(form, left, right, 0, half, (), result)
    if is_fourier(features):
        result = _rows_of_form(form, left, right, half, n_left, (0,), result)
    return result


@inner
def n_tiles(features):
    """Return how many features tile coding has."""
    n = features.tilings
    for k in range(len(features.tiles)):
        n *= packs.item(features.tiles, k) + 1
    return n


@inner
def _tile_form(uniform, observation):
    theta, row, features = uniform
    start = row * n_tiles(features)
    result = packs.fill(0.0, observation[0])
    for tiling in range(features.tilings):
        result = result + packs.entry(theta, features.tile(tiling, observation) + start * 1.0)
    return result


@compiled_only
def _row(theta, row, features, observation):
    """θ_r·φ for a row."""


@compiled_form(_row)
def _(theta, row, features, observation):
    form = _tile_form if features.instance_class is TileCoding else _product_form
    return lambda theta, row, features, observation: lane_call(
        form, (packs.address_of(theta), row, features), observation
    )


@lowered(rows_times_features)
def _(typing, theta, features, observation, first_row, like):
    form = vectors.callable_in_code(typing, _row, theta, types.intp, features, observation)

    def codegen(context, builder, signature, args):
        rows = [builder.add(args[3], context.get_constant(types.intp, r)) for r in range(len(like))]
        return cgutils.pack_array(builder, [form(context, builder, args[0], row, *args[1:3]) for row in rows])

    return vectors.float_vector(len(like))(theta, features, observation, types.intp, like), codegen


def _without_last(subtract):
    """The definition of `logits`, or without a subtraction that of `differences`."""

    def definition(typing, theta, features, observation, actions):
        form = vectors.callable_in_code(typing, _row, theta, types.intp, features, observation)

        def codegen(context, builder, signature, args):
            rows = [context.get_constant(types.intp, row) for row in range(len(actions))]
            values = [
                form(context, builder, args[0], row, *args[1:3]) for row in rows[: None if subtract else -1]
            ]
            if subtract:
                *values, last = values
                values = [builder.fsub(value, last, flags=vectors.FLAGS) for value in values]
            return cgutils.pack_array(builder, [*values, context.get_constant(types.float64, 0.0)])

        return vectors.float_vector(len(actions))(theta, features, observation, actions), codegen

    return definition


lowered(logits)(_without_last(True))
lowered(differences)(_without_last(False))
