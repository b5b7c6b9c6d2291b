r"""Sums over features: θ·φ(o) in a loop over lanes, and Σ_t e_t φ(o_t) over a recorded trajectory.

Features that are products over the components of the observation are never all computed. With the components
split in two, φ_ij = Re(L_i R_j), where L_i is a product of functions of the first components, R_j of the
others (complex for `Fourier`, real for the others). Of the F = I · J features only I + J products are
tabulated, and

.. math:: \sum_{ij} \theta_{ij} \phi_{ij} = \mathrm{Re} \sum_i L_i \sum_j \theta_{ij} R_j, \qquad
          \sum_t e_t \phi_{ij}(o_t) = \mathrm{Re} \sum_t (e_t L_i(o_t)) R_j(o_t)

take one multiplication and addition for each feature and step, two if complex, in packs (`fastpg.packs`): of
lanes on the left, of time steps on the right.
"""

import numpy as np
from numba import types
from numba.core import cgutils

from fastpg import moments, packs, vectors
from fastpg.dispatch import compiled_form, inner, lowered, outline
from fastpg.features import Constant, TileCoding, scaled_component
from fastpg.lane_memory import widest_vectors

BLOCK = 4  # packs of time steps at once: as many products as the registers hold


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


def _gain(total, x, weight):
    """``total + weight · x``."""


def _real_part(x, y):
    """The real part of ``x · y``."""


def _times(x, y):
    """``x · y``."""


@compiled_form(_gain)
def _(total, x, weight):
    if isinstance(x, types.BaseTuple):
        return lambda total, x, weight: (total[0] + x[0] * weight, total[1] + x[1] * weight)
    return lambda total, x, weight: total + x * weight


@compiled_form(_real_part)
def _(x, y):
    if isinstance(x, types.BaseTuple):
        return lambda x, y: x[0] * y[0] - x[1] * y[1]
    return lambda x, y: x * y


@compiled_form(_times)
def _(x, y):
    if isinstance(x, types.BaseTuple):
        return lambda x, y: (x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0])
    return lambda x, y: x * y


def _coefficient(theta, starts, i):
    """Entry i of a row of θ, or of the difference of two."""


@compiled_form(_coefficient)
def _(theta, starts, i):
    if len(starts) == 1:
        return lambda theta, starts, i: packs.entry(theta, starts[0] + i)
    return lambda theta, starts, i: packs.entry(theta, starts[0] + i) - packs.entry(theta, starts[1] + i)


@inner
def _split(features, d):
    """Return after how many components the two parts meet, I <= J, and the largest size of a component."""
    n, largest = 1, 1
    for k in range(d):
        n *= features.size(k)
        largest = max(largest, features.size(k))
    split, n_left = 0, 1
    while split < d and n_left * n_left * features.size(split) * features.size(split) <= n:
        n_left *= features.size(split)
        split += 1
    n_right = 1
    for k in range(split, d):
        n_right *= features.size(k)
    return split, n_left, n_right, largest


@inner
def _tabulate(features, stack, spacing, offset, table, observation, first, last):
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
def _product_form(uniform, observation):
    theta, rows, features = uniform
    split, n_left, n_right, largest = _split(features, len(observation))
    one = features.one(observation[0])
    left, right = packs.stack_of(one, n_left), packs.stack_of(one, n_right)
    table = packs.stack_of(one, largest)
    _tabulate(features, left, 1, 0, table, observation, 0, split)
    _tabulate(features, right, 1, 0, table, observation, split, len(observation))
    starts = _starts(rows, n_left * n_right)
    nothing = _nothing(rows, _zero(features.one(observation[0])))
    result = packs.fill(0.0, observation[0])
    for i in range(0, n_left - 1, 2):  # two at a time: their chains of additions overlap
        a = b = nothing
        for j in range(n_right):
            x = packs.peek(right, j)
            a = _gains(a, x, theta, starts, i * n_right + j)
            b = _gains(b, x, theta, starts, (i + 1) * n_right + j)
        result = result + _closed(packs.peek(left, i), a) + _closed(packs.peek(left, i + 1), b)
    if n_left % 2 == 1:
        a = nothing
        for j in range(n_right):
            a = _gains(a, packs.peek(right, j), theta, starts, (n_left - 1) * n_right + j)
        result = result + _closed(packs.peek(left, n_left - 1), a)
    return result


def _zero(one):
    """Zero, from one."""


@compiled_form(_zero)
def _(one):
    if isinstance(one, types.BaseTuple):
        return lambda one: (packs.fill(0.0, one[0]), packs.fill(0.0, one[1]))
    return lambda one: packs.fill(0.0, one)


def _nothing(rows, zero):
    """Sums that have not begun: one for each row."""


def _gains(sums, x, theta, starts, i):
    """The sums with x times entry i of each row added."""


def _closed(x, sums):
    """Re(x · sum), or the difference of two."""


@compiled_form(_nothing)
def _(rows, zero):
    return (lambda rows, zero: (zero,)) if len(rows) == 1 else (lambda rows, zero: (zero, zero))


@compiled_form(_gains)
def _(sums, x, theta, starts, i):
    if len(starts) == 1:
        return lambda sums, x, theta, starts, i: (_gain(sums[0], x, packs.entry(theta, starts[0] + i)),)
    return lambda sums, x, theta, starts, i: (
        _gain(sums[0], x, packs.entry(theta, starts[0] + i)),
        _gain(sums[1], x, packs.entry(theta, starts[1] + i)),
    )


@compiled_form(_closed)
def _(x, sums):
    if len(sums) == 1:
        return lambda x, sums: _real_part(x, sums[0])
    return lambda x, sums: _real_part(x, sums[0]) - _real_part(x, sums[1])


def _starts(rows, n):
    """Where rows of length n begin."""


@compiled_form(_starts)
def _(rows, n):
    if len(rows) == 1:
        return lambda rows, n: (rows[0] * n,)
    return lambda rows, n: (rows[0] * n, rows[1] * n)


@inner
def _n_tiles(features):
    n = features.tilings
    for k in range(len(features.tiles)):
        n *= packs.item(features.tiles, k) + 1
    return n


@inner
def _tile_form(uniform, observation):
    theta, rows, features = uniform
    starts = _starts(rows, _n_tiles(features))
    result = packs.fill(0.0, observation[0])
    for tiling in range(features.tilings):
        result = result + _coefficient(theta, starts, features.tile(tiling, observation))
    return result


def _form(theta, rows, features, observation):
    """θ_r·φ for a row, or its difference between two."""


@compiled_form(_form)
def _(theta, rows, features, observation):
    form = _tile_form if features.instance_class is TileCoding else _product_form
    return lambda theta, rows, features, observation: packs.lane_call(
        form, (packs.address_of(theta), rows, features), observation
    )


@inner
def _row(theta, row, features, observation):
    return _form(theta, (row,), features, observation)


@inner
def _contrast(theta, row, other, features, observation):
    return _form(theta, (row, other), features, observation)


@lowered(rows_times_features)
def _(typing, theta, features, observation, first_row, like):
    form = vectors.callable_in_code(typing, _row, theta, types.intp, features, observation)

    def codegen(context, builder, signature, args):
        rows = [builder.add(args[3], context.get_constant(types.intp, r)) for r in range(len(like))]
        return cgutils.pack_array(builder, [form(context, builder, args[0], row, *args[1:3]) for row in rows])

    return vectors.float_vector(len(like))(theta, features, observation, types.intp, like), codegen


@lowered(logits)
def _(typing, theta, features, observation, actions):
    contrast = vectors.callable_in_code(
        typing, _contrast, theta, types.intp, types.intp, features, observation
    )

    def codegen(context, builder, signature, args):
        *rows, last = (context.get_constant(types.intp, row) for row in range(len(actions)))
        values = [contrast(context, builder, args[0], row, last, *args[1:3]) for row in rows]
        return cgutils.pack_array(builder, [*values, context.get_constant(types.float64, 0.0)])

    return vectors.float_vector(len(actions))(theta, features, observation, actions), codegen


@inner
def _add_block(array, start, n_rows, n_left, n_right, left, right, errors, pack, shape):
    for row in range(n_rows):
        for i in range(n_left):
            products = packs.weighted(left, i * BLOCK, errors, row * BLOCK, shape)
            whole = n_right - n_right % packs.width_of(pack)
            for j in range(0, whole, packs.width_of(pack)):
                packs.add_to(array, start + j, packs.real_dots(products, right, j * BLOCK, BLOCK))
            for j in range(whole, n_right):
                packs.add_to(array, start + j, packs.total(packs.real_dot(products, right, j * BLOCK)))
            start += n_right


@outline
def add_recorded_products(
    array, first_row, features, observations, factors, first, n_steps, first_factor, n_rows, like, like_factor
):
    """Add Σ_t e_rt φ(o_t) over recorded steps first, ..., first + n_steps - 1 to row r of an array.

    For `n_rows` rows from `first_row` on; e_rt is component first_factor + r of what is recorded of step t.
    Arrays are given by their `packs.address_of`.
    """
    widest_vectors()
    d = len(like)
    split, n_left, n_right, largest = _split(features, d)
    none = packs.no_pack()
    one = features.one(none)
    left, right = packs.stack_of(one, n_left * BLOCK), packs.stack_of(one, n_right * BLOCK)
    table, errors = packs.stack_of(one, largest), packs.stack_of(none, len(like_factor) * BLOCK)
    start = first_row * n_left * n_right
    done = 0
    while done < n_steps:
        n_packs = 0
        while n_packs < BLOCK and done < n_steps:
            count = n_steps - done
            seen = packs.components(observations, first + done, count, like)
            factor = packs.components(factors, first + done, count, like_factor)
            _tabulate(features, left, BLOCK, n_packs, table, seen, 0, split)
            _tabulate(features, right, BLOCK, n_packs, table, seen, split, d)
            for row in range(n_rows):
                packs.poke(
                    errors,
                    row * BLOCK + n_packs,
                    packs.first_of(packs.item(factor, first_factor + row), count),
                )
            done += packs.width_of(none)
            n_packs += 1
        if n_packs == 4:
            _add_block(array, start, n_rows, n_left, n_right, left, right, errors, none, (0, 0, 0, 0))
        elif n_packs == 3:
            _add_block(array, start, n_rows, n_left, n_right, left, right, errors, none, (0, 0, 0))
        elif n_packs == 2:
            _add_block(array, start, n_rows, n_left, n_right, left, right, errors, none, (0, 0))
        else:
            _add_block(array, start, n_rows, n_left, n_right, left, right, errors, none, (0,))


@outline
def _spread_products(array, first_row, features, observation, factor, first_factor, n_rows, weight):
    """One step of the same."""
    split, n_left, n_right, largest = _split(features, len(observation))
    one = features.one(observation[0])
    left, right = packs.stack_of(one, n_left), packs.stack_of(one, n_right)
    table = packs.stack_of(one, largest)
    _tabulate(features, left, 1, 0, table, observation, 0, split)
    _tabulate(features, right, 1, 0, table, observation, split, len(observation))
    place = first_row * n_left * n_right
    for row in range(n_rows):
        for i in range(n_left):
            for j in range(n_right):
                product = _real_part(packs.peek(left, i), packs.peek(right, j))
                array[place] += weight * packs.item(factor, first_factor + row) * product
                place += 1


@outline
def _spread_tiles(array, first_row, features, observation, factor, first_factor, n_rows, weight):
    n = _n_tiles(features)
    for tiling in range(features.tilings):
        number = np.int64(features.tile(tiling, observation))
        for row in range(n_rows):
            array[(first_row + row) * n + number] += weight * packs.item(factor, first_factor + row)


@outline
def _add_recorded_tiles(
    array,
    starts,
    n,
    first_row,
    features,
    observations,
    factors,
    first,
    n_steps,
    first_factor,
    n_rows,
    like,
    like_factor,
):
    """Add Σ_t e_rt φ(o_t), and note where; returns how many places are noted."""
    n_tiles = _n_tiles(features)
    for step in range(first, first + n_steps):
        observation = vectors.load(observations, step * len(like), like)
        factor = vectors.load(factors, step * len(like_factor), like_factor)
        for tiling in range(features.tilings):
            number = np.int64(features.tile(tiling, observation))
            for row in range(n_rows):
                starts[n] = (first_row + row) * n_tiles + number
                array[starts[n]] += packs.item(factor, first_factor + row)
                n += 1
    return n


def _spread(array, first_row, features, observation, factor, first_factor, n_rows, weight):
    """Add to `n_rows` rows from one step."""


@compiled_form(_spread)
def _(array, first_row, features, observation, factor, first_factor, n_rows, weight):
    add = _spread_tiles if features.instance_class is TileCoding else _spread_products
    return lambda array, first_row, features, observation, factor, first_factor, n_rows, weight: add(
        array, first_row, features, observation, factor, first_factor, n_rows, weight
    )


@compiled_form(add_balanced)
def _(array, features, observation, factor, weight):
    def add_balanced(array, features, observation, factor, weight):
        error = vectors.with_balance(factor)
        _spread(array, 0, features, observation, error, 0, len(error), weight)
        return 0, len(array)

    return add_balanced


@compiled_form(add_rows)
def _(array, features, observation, factor, weight, log_std, log_std_features):
    kind = getattr(log_std_features, "instance_class", None)
    learned = kind is Constant
    rows = 1 if kind is None or learned else 2

    def add_rows(array, features, observation, factor, weight, log_std, log_std_features):
        m = len(log_std)
        _spread(array, 0, features, observation, factor, 0, rows * m, weight)
        if learned:
            for k in range(m):
                array[len(array) - m + k] += weight * factor[m + k]
        return 0, len(array)

    return add_rows


def n_sections(features):
    """Return in how many places of a row a sparse score is added to for a step; 0 if it is not sparse."""


@compiled_form(n_sections)
def _(features):
    return (
        (lambda features: features.tilings) if features.instance_class is TileCoding else lambda features: 0
    )


def recorded_balanced(array, starts, features, observations, factors, first, n_steps, observation, factor):
    """Return the sum of what `add_balanced` adds for recorded steps: see `SoftmaxFeatures.recorded_score`."""


@compiled_form(recorded_balanced)
def _(array, starts, features, observations, factors, first, n_steps, observation, factor):
    if features.instance_class is TileCoding:

        def tiles(array, starts, features, observations, factors, first, n_steps, observation, factor):
            m = len(factor)
            n = _add_recorded_tiles(
                array,
                starts,
                0,
                0,
                features,
                observations,
                factors,
                first,
                n_steps,
                0,
                m,
                observation,
                factor,
            )
            last = m * _n_tiles(features)
            added = n
            for k in range(added):
                place = last + starts[k] % _n_tiles(features)
                starts[n] = place
                n += 1
            for step in range(first, first + n_steps):
                seen = vectors.load(observations, step * len(observation), observation)
                errors = vectors.load(factors, step * m, factor)
                for tiling in range(features.tilings):
                    place = last + np.int64(features.tile(tiling, seen))
                    for row in range(m):
                        array[place] -= errors[row]
            return moments.Sparse(array, starts, n, 1)

        return tiles

    def products(array, starts, features, observations, factors, first, n_steps, observation, factor):
        m = len(factor)
        place = packs.address_of(array)
        seen, errors = packs.address_of(observations), packs.address_of(factors)
        add_recorded_products(place, 0, features, seen, errors, first, n_steps, 0, m, observation, factor)
        n = len(array) // (m + 1)
        whole = n - n % packs.width_of(packs.no_pack())
        for row in range(m):
            for i in range(0, whole, packs.width_of(packs.no_pack())):
                packs.add_to(place, m * n + i, packs.load_pack(place, row * n + i, packs.no_pack()) * -1.0)
            for i in range(whole, n):
                packs.add_to(place, m * n + i, packs.load_pack(place, row * n + i, 0.0) * -1.0)
        return array

    return products


def recorded_rows(
    array,
    starts,
    features,
    observations,
    factors,
    first,
    n_steps,
    observation,
    factor,
    log_std,
    log_std_features,
):
    """Return the sum over recorded steps of what `add_rows` adds; see `GaussianFeatures.recorded_score`."""


@compiled_form(recorded_rows)
def _(
    array,
    starts,
    features,
    observations,
    factors,
    first,
    n_steps,
    observation,
    factor,
    log_std,
    log_std_features,
):
    kind = getattr(log_std_features, "instance_class", None)
    learned = kind is Constant
    rows = 1 if kind is None or learned else 2

    def add_learned(array, factors, first, n_steps, m):
        for step in range(first, first + n_steps):
            for k in range(m):
                array[len(array) - m + k] += factors[step * 2 * m + m + k]

    add_learned = inner(add_learned)

    if features.instance_class is TileCoding:

        def tiles(
            array,
            starts,
            features,
            observations,
            factors,
            first,
            n_steps,
            observation,
            factor,
            log_std,
            log_std_features,
        ):
            m = len(log_std)
            n = _add_recorded_tiles(
                array,
                starts,
                0,
                0,
                features,
                observations,
                factors,
                first,
                n_steps,
                0,
                rows * m,
                observation,
                factor,
            )
            if learned:
                add_learned(array, factors, first, n_steps, m)
                for k in range(m):
                    starts[n] = len(array) - m + k
                    n += 1
            return moments.Sparse(array, starts, n, 1)

        return tiles

    def products(
        array,
        starts,
        features,
        observations,
        factors,
        first,
        n_steps,
        observation,
        factor,
        log_std,
        log_std_features,
    ):
        m = len(log_std)
        place = packs.address_of(array)
        seen, errors = packs.address_of(observations), packs.address_of(factors)
        add_recorded_products(
            place, 0, features, seen, errors, first, n_steps, 0, rows * m, observation, factor
        )
        if learned:
            add_learned(array, factors, first, n_steps, m)
        return array

    return products
