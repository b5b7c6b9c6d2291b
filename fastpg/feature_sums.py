"""Sums over features, Σ_t e_t φ(o_t), of a recorded trajectory in packs of time steps, or of a single step.

The mathematics is that of `fastpg.linear_forms`; here too no feature is stored.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import moments, packs, vectors
from fastpg.dispatch import compiled_form, compiled_only, inner, outline
from fastpg.features import Constant, Fourier, TileCoding
from fastpg.lane_loop import widest_vectors
from fastpg.linear_forms import (
    is_fourier,
    n_tiles,
    part_of,
    real_part,
    split,
    tabulate_both,
    turn,
    turn_folded,
)

BLOCK = 4  # packs of time steps at once: as many products as the registers hold


class Steps(NamedTuple):
    """Recorded steps of a trajectory."""

    observations: Any  # the `packs.address_of` all that are recorded, as those of the factors
    factors: Any
    first: int
    n_steps: int
    observation: Any  # for their types
    factor: Any


@compiled_only
def recorded_steps(observations, factors, first, n_steps, observation, factor):
    """Return `Steps`, from arrays; compiled code only."""


@compiled_form(recorded_steps)
def _(observations, factors, first, n_steps, observation, factor):
    def recorded_steps(observations, factors, first, n_steps, observation, factor):
        places = packs.address_of(observations), packs.address_of(factors)
        return Steps(places[0], places[1], first, n_steps, observation, factor)

    return recorded_steps


def add_balanced(array, features, observation, factor, weight):
    """Add ``weight · e_a φ(observation)`` to row a of an array, for all a; `factor` lacks the last e_a.

    They add up to 0. Returns the section of `array` that was added to, its start and its length.
    """
    error = np.append(factor, -np.sum(factor))
    array += weight * np.outer(error, features(observation)).ravel()
    return 0, len(array)


def add_rows(array, features, observation, factor, weight, log_std, log_std_features):
    """Add ``weight · e_k φ(observation)`` to row k of an array for all e_k in `factor`.

    The first m = len(log_std) of them have rows of `features`, the others of `log_std_features`. Returns the
    section of `array` that was added to, its start and its length.
    """
    m = len(log_std)
    parts = [np.outer(factor[:m], features(observation)).ravel()]
    if log_std_features is not None:
        parts.append(np.outer(factor[m:], log_std_features(observation)).ravel())
    array += weight * np.concatenate(parts)
    return 0, len(array)


# What follows is compiled only.


@inner
def _add_block(array, n_rows, n_left, n_right, half, left, right, errors, pack, shape):
    """Add the sums of a block of steps; rows i >= half, if there are some, have another half of `right`."""
    start = 0
    for row in range(n_rows):
        for i in range(n_left):
            products = packs.weighted(left, i * BLOCK, errors, row * BLOCK, shape)
            whole = n_right - n_right % packs.width_of(pack)
            first = 0 if i < half else n_right
            for j in range(0, whole, packs.width_of(pack)):
                packs.add_to(array, start + j, packs.dots(products, right, (first + j) * BLOCK, BLOCK))
            for j in range(whole, n_right):
                sums = packs.dot(products, right, (first + j) * BLOCK)
                packs.add_to(array, start + j, packs.total(sums))
            start += n_right


@compiled_only
def _kept(features, one):
    """Return what is kept of L and R, which begin with `one`: a real pack if they are folded."""


@compiled_form(_kept)
def _(features, one):
    return (lambda features, one: one[0]) if issubclass(features.instance_class, Fourier) else _as_it_is


def _as_it_is(features, one):
    return one


@compiled_only
def _tabulate(features, left, right, work, n_pack, seen, middle, n_left, n_right, half):
    """Write L and R of a pack of steps into the stacks of a block."""


@compiled_form(_tabulate)
def _(features, left, right, work, n_pack, seen, middle, n_left, n_right, half):
    def plain(features, left, right, work, n_pack, seen, middle, n_left, n_right, half):
        tabulate_both(features, left, right, BLOCK, n_pack, work[2], seen, middle)

    def folded(features, left, right, work, n_pack, seen, middle, n_left, n_right, half):
        tabulate_both(features, work[0], work[1], 1, 0, work[2], seen, middle)
        turn_folded(features, work[0], work[1], n_left, n_right)
        for i in range(half):
            packs.poke(left, i * BLOCK + n_pack, part_of(packs.peek(work[0], i), ()))
        for i in range(half, n_left):
            packs.poke(left, i * BLOCK + n_pack, part_of(packs.peek(work[0], i), (0,)))
        for j in range(n_right):
            x = packs.peek(work[1], j)
            packs.poke(right, j * BLOCK + n_pack, part_of(x, ()))
            packs.poke(right, (n_right + j) * BLOCK + n_pack, part_of(x, (0,)))

    return folded if issubclass(features.instance_class, Fourier) else plain


@inner
def _unfold_at(place, first, second, like):
    x, y = packs.load_pack(place, first, like), packs.load_pack(place, second, like)
    packs.store_pack(place, first, x + y)
    packs.store_pack(place, second, x - y)


@inner
def _unfold_columns(place, start, n):
    for j in range(n // 2):
        _unfold_at(place, start + j, start + n - 1 - j, 0.0)


@inner
def _unfold(place, n_rows, n_left, n_right):
    """Make of folded sums what they should be: see `linear_forms`."""
    pack = packs.no_pack()
    whole = n_right - n_right % packs.width_of(pack)
    for row in range(n_rows * n_left):
        _unfold_columns(place, row * n_right, n_right)
    for row in range(n_rows):
        for i in range(n_left // 2):
            first = (row * n_left + i) * n_right
            second = (row * n_left + n_left - 1 - i) * n_right
            for j in range(0, whole, packs.width_of(pack)):
                _unfold_at(place, first + j, second + j, pack)
            for j in range(whole, n_right):
                _unfold_at(place, first + j, second + j, 0.0)


@outline
def _add_products(array, features, steps, n_rows):
    """Add Σ_t e_rt φ(o_t) to row r of an array, given by its `packs.address_of`, for all rows r < n_rows.

    e_rt is component r of the factor of step t.
    """
    widest_vectors()
    observations, factors, first, n_steps, like, like_factor = steps
    d = len(like)
    middle, n_left, n_right, largest = split(features, d)
    none = packs.no_pack()
    one = features.one(none)
    kept, sheets = _kept(features, one), 2 if is_fourier(features) else 1
    left, right = packs.stack_of(kept, n_left * BLOCK), packs.stack_of(kept, n_right * sheets * BLOCK)
    work = packs.stack_of(one, n_left), packs.stack_of(one, n_right), packs.stack_of(one, largest)
    half = (n_left + 1) // 2 if is_fourier(features) else n_left
    errors = packs.stack_of(none, len(like_factor) * BLOCK)
    done = 0
    while done < n_steps:
        n_packs = 0
        while n_packs < BLOCK and done < n_steps:
            count = n_steps - done
            seen = packs.components(observations, first + done, count, like)
            factor = packs.components(factors, first + done, count, like_factor)
            _tabulate(features, left, right, work, n_packs, seen, middle, n_left, n_right, half)
            for row in range(n_rows):
                error = packs.first_of(packs.item(factor, row), count)
                packs.poke(errors, row * BLOCK + n_packs, error)
            done += packs.width_of(none)
            n_packs += 1
        if n_packs == 4:
            _add_block(array, n_rows, n_left, n_right, half, left, right, errors, none, (0, 0, 0, 0))
        elif n_packs == 3:
            _add_block(array, n_rows, n_left, n_right, half, left, right, errors, none, (0, 0, 0))
        elif n_packs == 2:
            _add_block(array, n_rows, n_left, n_right, half, left, right, errors, none, (0, 0))
        else:
            _add_block(array, n_rows, n_left, n_right, half, left, right, errors, none, (0,))
    if is_fourier(features):
        _unfold(array, n_rows, n_left, n_right)


@outline
def _spread_products(array, features, observation, factor, n_rows, weight):
    """One step of the same."""
    middle, n_left, n_right, largest = split(features, len(observation))
    one = features.one(observation[0])
    left, right = packs.stack_of(one, n_left), packs.stack_of(one, n_right)
    table = packs.stack_of(one, largest)
    tabulate_both(features, left, right, 1, 0, table, observation, middle)
    turn(features, left, right, n_left, n_right)
    place = 0
    for row in range(n_rows):
        for i in range(n_left):
            for j in range(n_right):
                product = real_part(packs.peek(left, i), packs.peek(right, j))
                array[place] += weight * packs.item(factor, row) * product
                place += 1


@outline
def _spread_tiles(array, features, observation, factor, n_rows, weight):
    n = n_tiles(features)
    for tiling in range(features.tilings):
        number = np.int64(features.tile(tiling, observation))
        for row in range(n_rows):
            array[row * n + number] += weight * packs.item(factor, row)


@compiled_only
def _spread(array, features, observation, factor, n_rows, weight):
    """Add to the first `n_rows` rows from one step."""


@compiled_form(_spread)
def _(array, features, observation, factor, n_rows, weight):
    add = _spread_tiles if features.instance_class is TileCoding else _spread_products
    return lambda array, features, observation, factor, n_rows, weight: add(
        array, features, observation, factor, n_rows, weight
    )


@compiled_form(add_balanced)
def _(array, features, observation, factor, weight):
    def add_balanced(array, features, observation, factor, weight):
        error = vectors.with_balance(factor)
        _spread(array, features, observation, error, len(error), weight)
        return 0, len(array)

    return add_balanced


def _rows_of_features(log_std_features):
    """How many rows of features a component of a Gaussian action has, its mean's and its log σ's."""
    return 1 if getattr(log_std_features, "instance_class", None) in (None, Constant) else 2


@compiled_only
def _add_learned(array, steps, log_std, log_std_features):
    """Add the derivatives by each log σ_k that is a parameter itself; return how many there are."""


@compiled_form(_add_learned)
def _(array, steps, log_std, log_std_features):
    if getattr(log_std_features, "instance_class", None) is not Constant:
        return lambda array, steps, log_std, log_std_features: 0

    def add_learned(array, steps, log_std, log_std_features):
        m = len(log_std)
        for step in range(steps.first, steps.first + steps.n_steps):
            factor = vectors.load(steps.factors, step * len(steps.factor), steps.factor)
            for k in range(m):
                array[len(array) - m + k] += factor[m + k]
        return m

    return add_learned


@compiled_form(add_rows)
def _(array, features, observation, factor, weight, log_std, log_std_features):
    rows = _rows_of_features(log_std_features)
    learned = getattr(log_std_features, "instance_class", None) is Constant

    def add_rows(array, features, observation, factor, weight, log_std, log_std_features):
        m = len(log_std)
        _spread(array, features, observation, factor, rows * m, weight)
        if learned:
            for k in range(m):
                array[len(array) - m + k] += weight * factor[m + k]
        return 0, len(array)

    return add_rows


@compiled_only
def n_sections(features):
    """Return in how many places of a row a sparse score is added to for a step; 0 if it is not sparse."""


@compiled_form(n_sections)
def _(features):
    return (
        (lambda features: features.tilings) if features.instance_class is TileCoding else lambda features: 0
    )


@inner
def _add_tiles(array, starts, n, features, observation, errors, n_rows):
    """Add what `_spread_tiles` adds with weight 1, and note where; return how many places are noted."""
    length = n_tiles(features)
    for tiling in range(features.tilings):
        number = np.int64(features.tile(tiling, observation))
        for row in range(n_rows):
            starts[n] = row * length + number
            array[starts[n]] += packs.item(errors, row)
            n += 1
    return n


@compiled_only
def recorded_balanced(array, starts, features, steps):
    """Return the sum of what `add_balanced` adds for `Steps`: see `SoftmaxFeatures.recorded_score`."""


@compiled_form(recorded_balanced)
def _(array, starts, features, steps):
    def tiles(array, starts, features, steps):
        n = 0
        for step in range(steps.first, steps.first + steps.n_steps):
            seen = vectors.load(steps.observations, step * len(steps.observation), steps.observation)
            factor = vectors.load(steps.factors, step * len(steps.factor), steps.factor)
            errors = vectors.with_balance(factor)
            n = _add_tiles(array, starts, n, features, seen, errors, len(errors))
        return moments.Sparse(array, starts, n, 1, ())

    def products(array, starts, features, steps):
        m = len(steps.factor)
        place = packs.address_of(array)
        _add_products(place, features, steps, m)
        n = len(array) // (m + 1)
        whole = n - n % packs.width_of(packs.no_pack())
        for row in range(m):
            for i in range(0, whole, packs.width_of(packs.no_pack())):
                packs.add_to(place, m * n + i, packs.load_pack(place, row * n + i, packs.no_pack()) * -1.0)
            for i in range(whole, n):
                packs.add_to(place, m * n + i, packs.load_pack(place, row * n + i, 0.0) * -1.0)
        return array

    return tiles if features.instance_class is TileCoding else products


@compiled_only
def recorded_rows(array, starts, features, steps, log_std, log_std_features):
    """Return the sum of what `add_rows` adds for `Steps`: see `GaussianFeatures.recorded_score`."""


@compiled_form(recorded_rows)
def _(array, starts, features, steps, log_std, log_std_features):
    rows = _rows_of_features(log_std_features)

    def tiles(array, starts, features, steps, log_std, log_std_features):
        n = 0
        for step in range(steps.first, steps.first + steps.n_steps):
            seen = vectors.load(steps.observations, step * len(steps.observation), steps.observation)
            factor = vectors.load(steps.factors, step * len(steps.factor), steps.factor)
            n = _add_tiles(array, starts, n, features, seen, factor, rows * len(log_std))
        learned = _add_learned(array, steps, log_std, log_std_features)
        for k in range(len(array) - learned, len(array)):
            starts[n] = k
            n += 1
        return moments.Sparse(array, starts, n, 1, ())

    def products(array, starts, features, steps, log_std, log_std_features):
        _add_products(packs.address_of(array), features, steps, rows * len(log_std))
        _add_learned(array, steps, log_std, log_std_features)
        return array

    return tiles if features.instance_class is TileCoding else products
