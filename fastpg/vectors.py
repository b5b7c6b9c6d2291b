"""Short vectors of fixed length: tuples in compiled code, NumPy arrays in ordinary Python.

A policy is written once, with these functions. In a kernel the lengths are part of the types, every
loop is unrolled while the machine code is generated, and no array is ever allocated; in ordinary
Python the same text works on NumPy arrays, where all but the last axis are batch axes.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from fastpg import simd
from fastpg.dispatch import compiled_as, compiled_form, inline, inner, lowered
from fastpg.precision import has_single, single
from fastpg.random import normal
from fastpg.tables import load_from_table

FLAGS = ("contract", "nsz")


def affine(theta, x):
    """Return ``y_a = Σ_f theta[a, f] x_f + theta[a, F]``, with shape (..., A).

    `theta` holds the A rows (F weights and a bias each) one after the other, shape (A·(F+1),);
    `x` has shape (..., F). A follows from the two lengths.
    """
    x = np.asarray(x, dtype=np.float64)
    width = x.shape[-1] + 1 if x.ndim else 0
    if not width or np.size(theta) % width:
        raise ValueError(f"observation: has shape {x.shape}, which {np.size(theta)} parameters do not fit")
    rows = np.reshape(theta, (-1, width))
    return x @ rows[:, :-1].T + rows[:, -1]


def softmax(logits):
    """Return ``p_a = exp(l_a) / Σ_b exp(l_b)``, shape (..., A), without overflow for any finite logits."""
    logits = np.asarray(logits)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def log_softmax_at(logits, index):
    """Return ``l_i - log Σ_b exp(l_b)``, shape (...), for i = `index`."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.broadcast_to(_checked_index(index, logits), logits.shape[:-1])
    normaliser = np.log(np.exp(logits).sum(axis=-1))
    return np.take_along_axis(logits, chosen[..., np.newaxis], -1)[..., 0] - normaliser


def softmax_entropy(logits):
    """Return the entropy -Σ_a p_a log p_a of ``softmax(logits)``, shape (...)."""
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    weights = np.exp(logits)
    total = weights.sum(axis=-1)
    return np.log(total) - (weights * logits).sum(axis=-1) / total


def entropy_slope(logits):
    """Return the derivative of `softmax_entropy`, -p_a (log p_a + H), shape (..., A)."""
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.exp(log_p) * (log_p + softmax_entropy(logits)[..., np.newaxis])


def indicator_minus(index, x):
    """Return ``1{a = index} - x_a``, shape (..., A)."""
    x = np.asarray(x)
    return (np.arange(x.shape[-1]) == _checked_index(index, x)[..., np.newaxis]) - x


def _checked_index(index, x):
    """Return the index of an action as an array, or raise if `x` has no such component."""
    index, n = np.asarray(index), x.shape[-1]
    if index.size and not (0 <= index.min() and index.max() < n):
        raise ValueError(f"action: must be one of {n} (the first is number 0), not number {index}")
    return index


def outer_with_bias(e, x):
    """Return the products ``e_a (x_1, ..., x_F, 1)`` in the layout of `affine`, shape (..., A·(F+1))."""
    e, x = np.asarray(e), np.asarray(x, dtype=np.float64)
    features = np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)
    products = e[..., :, np.newaxis] * features[..., np.newaxis, :]
    return products.reshape(*products.shape[:-2], -1)


def but_last(x):
    """Return all components but the last, shape (..., A-1)."""
    return np.asarray(x)[..., :-1]


def with_balancing_row(rows, length):
    """Return `rows` (one after the other) and one more row, so that the sum of all rows is zero.

    `length` is anything as long as the result; what it is longer than `rows` is the length of a row.
    """
    rows = np.asarray(rows)
    width = len(length) - len(rows)
    return np.concatenate([rows, -rows.reshape(-1, width).sum(axis=0)])


def with_balance(x):
    """Return the components of `x` and one more, so that all add up to zero."""
    x = np.asarray(x)
    return np.append(x, -x.sum())


def nothing():
    """Return a vector of no components."""
    return np.empty(0)


def n_components(observation):
    """Return how many numbers an observation has: 1 if it is an integer."""
    return np.size(observation)


def new_rows(n, observation, dtype):
    """Return memory for n observations, a row each: of an array's own type, else of `dtype`."""
    return np.empty((n, np.size(observation)), observation.dtype if np.ndim(observation) > 1 else dtype)


def store(array, start, x):
    """Write a vector, the elements of an array, or an integer into a long array from `start` on."""
    array[start : start + np.size(x)] = np.ravel(x)


def load(array, start, like):
    """Return what `store` wrote; of an array a view, with the type of the long one."""
    if not np.ndim(like):
        return int(array[start])
    return array[start : start + np.size(like)].reshape(np.shape(like))


def leading(x, like):
    """Return the first components, as many as `like` has."""
    return np.asarray(x)[..., : np.shape(like)[-1]]


def trailing(x, like):
    """Return the components behind the first ones, of which there are as many as `like` has."""
    return np.asarray(x)[..., np.shape(like)[-1] :]


def section(array, start, like):
    """Return the components of a long array from `start` on, as many as `like` has.

    `start` may have batch axes, shape (...); the result then has shape (..., len(like)).
    """
    return np.asarray(array)[np.asarray(start)[..., np.newaxis] + np.arange(len(like))]


def concatenate(x, y):
    """Return the components of `x` and then those of `y`."""
    return np.concatenate([x, y], axis=-1)


def argmax(x):
    """Return the index of the largest component (the first of several), shape (...)."""
    return np.argmax(x, axis=-1)


def add(x, y):
    """Return ``x + y``."""
    return np.add(x, y)


def subtract(x, y):
    """Return ``x - y``."""
    return np.subtract(x, y)


def multiply(x, y):
    """Return ``x · y``, component by component."""
    return np.multiply(x, y)


def scale(x, factor, offset):
    """Return ``factor · x + offset``, component by component."""
    return factor * np.asarray(x) + offset


def exp(x):
    """Return ``e^x``, component by component."""
    return np.exp(x)


def normals(rng, like):
    """Return as many standard normal numbers as `like` has components: `fastpg.random.normal` 0, 1, ..."""
    if isinstance(rng, np.random.Generator):
        return rng.standard_normal(np.shape(like))
    return np.array([normal(rng, j) for j in range(len(like))])


def total(x):
    """Return the sum of the components, shape (...)."""
    return np.sum(x, axis=-1)


def logs(x, least):
    """Return ``log(max(x, least))`` of each component."""
    return np.log(np.maximum(x, least))


def squares(x):
    """Return ``x²``, component by component."""
    return np.square(x)


def accumulate(array, start, x, factor):
    """Add ``factor · x`` to ``array[start : start + len(x)]``."""
    array[start : start + len(x)] += factor * np.asarray(x)


def zeros_like(x):
    """Return a vector of zeros, as long as `x`."""
    return np.zeros(np.shape(x))


def floats(x):
    """Return the components (numbers or booleans) as float64."""
    return np.asarray(x, dtype=np.float64)


def elements(builder, vector, length):
    """The components of a vector in generated code."""
    return [builder.extract_value(vector, i) for i in range(length)]


def pack_elements(builder, values):
    """Generate one value of LLVM's vector type from numbers."""
    pack = ir.Constant(ir.VectorType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        pack = builder.insert_element(pack, value, ir.Constant(ir.IntType(32), i))
    return pack


def unpack_elements(builder, pack):
    """The numbers in a value of LLVM's vector type."""
    places = [ir.Constant(ir.IntType(32), i) for i in range(pack.type.count)]
    return [builder.extract_element(pack, place) for place in places]


def add_in_place(builder, data, start, pack):
    """Generate the addition of what `pack_elements` returns to as many numbers in memory."""
    slot = builder.bitcast(builder.gep(data, [start], inbounds=True), pack.type.as_pointer())
    builder.store(builder.fadd(builder.load(slot, align=8), pack, flags=FLAGS), slot, align=8)


def float_vector(length, *like):
    """The type of a vector in compiled code: of `single` if there is one in other types, else of float64."""
    return types.UniTuple(single if any(map(has_single, like)) else types.float64, length)


def elements_as(context, builder, vector, kind, wanted):
    """The components of a tuple of numbers as numbers of another type."""
    values = elements(builder, vector, len(kind))
    return [context.cast(builder, value, ty, wanted) for value, ty in zip(values, kind, strict=True)]


@lowered(affine)
def _(typing, theta, x):
    n = len(x)
    rows, rest = divmod(len(theta), n + 1)
    if rest:
        raise TypingError(f"{len(theta)} parameters are no whole number of rows for {n} observations")
    result = float_vector(rows, theta, x)

    def codegen(context, builder, signature, args):
        weights = elements_as(context, builder, args[0], theta, result.dtype)
        inputs = elements_as(context, builder, args[1], x, result.dtype)
        outputs = []
        for row in range(rows):
            *row_weights, total = weights[row * (n + 1) : (row + 1) * (n + 1)]
            for weight, value in zip(row_weights, inputs, strict=True):
                total = builder.fadd(total, builder.fmul(weight, value, flags=FLAGS), flags=FLAGS)
            outputs.append(total)
        return cgutils.pack_array(builder, outputs)

    return result(theta, x), codegen


@lowered(outer_with_bias)
def _(typing, e, x):
    result = float_vector(len(e) * (len(x) + 1), e, x)

    def codegen(context, builder, signature, args):
        inputs = elements_as(context, builder, args[1], x, result.dtype)
        outputs = []
        for factor in elements_as(context, builder, args[0], e, result.dtype):
            outputs += [builder.fmul(factor, value, flags=FLAGS) for value in inputs] + [factor]
        return cgutils.pack_array(builder, outputs)

    return result(e, x), codegen


@lowered(but_last)
def _(typing, x):
    def codegen(context, builder, signature, args):
        return cgutils.pack_array(builder, elements(builder, args[0], len(x) - 1))

    return float_vector(len(x) - 1, x)(x), codegen


@lowered(with_balance)
def _(typing, x):
    result = float_vector(len(x) + 1, x)

    def codegen(context, builder, signature, args):
        values = elements(builder, args[0], len(x))
        total = context.get_constant(result.dtype, 0.0)
        for value in values:
            total = builder.fsub(total, value, flags=FLAGS)
        return cgutils.pack_array(builder, [*values, total], total.type)

    return result(x), codegen


@lowered(nothing)
def _(typing):
    def codegen(context, builder, signature, args):
        return context.get_constant_undef(signature.return_type)

    return float_vector(0)(), codegen


@lowered(n_components)
def _(typing, observation):
    def codegen(context, builder, signature, args):
        return _count(context, builder, observation, args[0])

    return types.intp(observation), codegen


@compiled_form(new_rows)
def _(n, observation, dtype):
    if isinstance(observation, types.Array):
        return lambda n, observation, dtype: np.empty((n, observation.size), observation.dtype)
    return lambda n, observation, dtype: np.empty((n, n_components(observation)), dtype)


def _count(context, builder, like, value):
    """Generate how many numbers there are in a vector, an array or an integer."""
    if isinstance(like, types.Array):
        return context.make_array(like)(context, builder, value).nitems
    return context.get_constant(types.intp, len(like) if isinstance(like, types.BaseTuple) else 1)


def _places(context, builder, array_type, array, start, like):
    """The types of the numbers in a vector or an integer, and their places in an array or at an address."""
    is_array = isinstance(array_type, types.Array)
    data = context.make_array(array_type)(context, builder, array).data if is_array else array
    for i, ty in enumerate(like if isinstance(like, types.BaseTuple) else [like]):
        index = builder.add(start, ir.Constant(start.type, i), flags=("nsw",))
        yield ty, builder.gep(data, [index], inbounds=True)


def store_record(context, builder, array_type, array, number, kind, value):
    """Generate what writes a vector, an array or a number into an array of such: as number `number`."""
    if isinstance(kind, types.Array) and array_type.ndim == kind.ndim + 1:
        _check_row(context, builder, array_type, array, kind, value)
    start = builder.mul(number, _count(context, builder, kind, value), flags=("nsw",))
    return store_at(context, builder, array_type, array, start, kind, value)


def _check_row(context, builder, array_type, array, kind, value):
    """Generate an error for an array that is no row of another."""
    rows = cgutils.unpack_tuple(builder, context.make_array(array_type)(context, builder, array).shape)[1:]
    changed = ir.Constant(ir.IntType(1), 0)
    for ours, theirs in zip(
        cgutils.unpack_tuple(builder, context.make_array(kind)(context, builder, value).shape),
        rows,
        strict=True,
    ):
        changed = builder.or_(changed, builder.icmp_signed("!=", ours, theirs))
    with builder.if_then(changed, likely=False):
        message = "the shape of an observation that is an array must not change"
        context.call_conv.return_user_exc(builder, ValueError, (message,))


def store_at(context, builder, array_type, array, start, kind, value):
    """Generate what writes a vector, the elements of an array, or a number, from `start` on: the stores."""
    if isinstance(kind, types.Array):
        elements = context.make_array(kind)(context, builder, value)
        target = context.make_array(array_type)(context, builder, array).data
        with cgutils.for_range(builder, elements.nitems) as loop:
            raw = builder.load(builder.gep(elements.data, [loop.index], inbounds=True))
            number = context.data_model_manager[kind.dtype].from_data(builder, raw)
            number = context.cast(builder, number, kind.dtype, array_type.dtype)
            place = builder.gep(target, [builder.add(start, loop.index)], inbounds=True)
            store = builder.store(context.get_value_as_data(builder, array_type.dtype, number), place)
        return [store]
    stores = []
    for i, (ty, place) in enumerate(_places(context, builder, array_type, array, start, kind)):
        number = builder.extract_value(value, i) if isinstance(kind, types.BaseTuple) else value
        number = context.cast(builder, number, ty, array_type.dtype)
        stores.append(builder.store(context.get_value_as_data(builder, array_type.dtype, number), place))
    return stores


@lowered(store)
def _(typing, array, start, x):
    def codegen(context, builder, signature, args):
        store_at(context, builder, array, *args[:2], x, args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, x), codegen


@lowered(load)
def _(typing, array, start, like):
    if isinstance(like, types.Array):
        return _load_view(array, like)

    kind = array.dtype if isinstance(array, types.Array) else types.float64  # what an address leads to

    def codegen(context, builder, signature, args):
        places = _places(context, builder, array, args[0], args[1], like)
        values = [context.cast(builder, builder.load(place), kind, ty) for ty, place in places]
        return context.make_tuple(builder, like, values) if isinstance(like, types.BaseTuple) else values[0]

    return like(array, types.intp, like), codegen


def _load_view(array, like):
    kind = types.Array(array.dtype, like.ndim, "C")

    def codegen(context, builder, signature, args):
        from numba.np.arrayobj import populate_array  # slow to import, and loaded by now

        numbers = context.make_array(array)(context, builder, args[0])
        shape = cgutils.unpack_tuple(builder, context.make_array(like)(context, builder, args[2]).shape)
        strides = [numbers.itemsize]
        for length in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        view = context.make_array(kind)(context, builder)
        data = builder.gep(numbers.data, [args[1]], inbounds=True)
        populate_array(view, data, shape, strides, numbers.itemsize, numbers.meminfo, numbers.parent)
        return impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(array, types.intp, like), codegen


@lowered(leading)
def _(typing, x, like):
    def codegen(context, builder, signature, args):
        return cgutils.pack_array(builder, elements(builder, args[0], len(like)))

    return float_vector(len(like), x)(x, like), codegen


@lowered(trailing)
def _(typing, x, like):
    def codegen(context, builder, signature, args):
        values = elements(builder, args[0], len(x))[len(like) :]
        return context.make_tuple(builder, signature.return_type, values)

    return float_vector(len(x) - len(like), x)(x, like), codegen


@lowered(section)
def _(typing, array, start, like):
    def codegen(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        places = (
            builder.add(args[1], ir.Constant(args[1].type, i), flags=("nsw",)) for i in range(len(like))
        )
        values = [load_from_table(builder, builder.gep(data, [place], inbounds=True)) for place in places]
        return cgutils.pack_array(builder, values)

    return float_vector(len(like))(array, types.intp, like), codegen


@lowered(concatenate)
def _(typing, x, y):
    result = float_vector(len(x) + len(y), x, y)

    def codegen(context, builder, signature, args):
        values = [elements_as(context, builder, args[i], kind, result.dtype) for i, kind in enumerate((x, y))]
        return context.make_tuple(builder, result, values[0] + values[1])

    return result(x, y), codegen


@lowered(with_balancing_row)
def _(typing, rows, length):
    width = len(length) - len(rows)

    def codegen(context, builder, signature, args):
        values = elements(builder, args[0], len(rows))
        total = pack_elements(builder, [context.get_constant(rows.dtype, 0.0)] * width)
        for first in range(0, len(rows), width):
            row = pack_elements(builder, values[first : first + width])
            total = builder.fsub(total, row, flags=FLAGS)
        return cgutils.pack_array(builder, values + unpack_elements(builder, total))

    return float_vector(len(length), rows)(rows, length), codegen


def _elementwise(function, instruction):
    """Lower a function of two vectors to one instruction a component."""

    @lowered(function)
    def _(typing, x, y):
        result = float_vector(len(x), x, y)

        def codegen(context, builder, signature, args):
            left = elements_as(context, builder, args[0], x, result.dtype)
            operands = left, elements_as(context, builder, args[1], y, result.dtype)
            values = [
                getattr(builder, instruction)(a, b, flags=FLAGS) for a, b in zip(*operands, strict=True)
            ]
            return context.make_tuple(builder, result, values)

        return result(x, y), codegen


_elementwise(add, "fadd")
_elementwise(subtract, "fsub")
_elementwise(multiply, "fmul")


@lowered(scale)
def _(typing, x, factor, offset):
    result = float_vector(len(x), x)

    def codegen(context, builder, signature, args):
        factor, offset = args[1:]
        values = elements_as(context, builder, args[0], x, result.dtype)
        values = [builder.fmul(value, factor, flags=FLAGS) for value in values]
        values = [builder.fadd(value, offset, flags=FLAGS) for value in values]
        return context.make_tuple(builder, result, values)

    return result(x, result.dtype, result.dtype), codegen


@lowered(total)
def _(typing, x):
    kind = float_vector(1, x).dtype

    def codegen(context, builder, signature, args):
        result = context.get_constant(kind, 0.0)
        for value in elements_as(context, builder, args[0], x, kind):
            result = builder.fadd(result, value, flags=FLAGS)
        return result

    return kind(x), codegen


@lowered(squares)
def _(typing, x):
    def codegen(context, builder, signature, args):
        values = elements(builder, args[0], len(x))
        return context.make_tuple(builder, x, [builder.fmul(value, value, flags=FLAGS) for value in values])

    return x(x), codegen


@lowered(accumulate)
def _(typing, array, start, x, factor):
    # Vectors spelt out: Numba runs LLVM without the pass that would find them in straight-line code.
    def codegen(context, builder, signature, args):
        values = pack_elements(builder, elements(builder, args[2], len(x)))
        factors = pack_elements(builder, [args[3]] * len(x))
        data = context.make_array(array)(context, builder, args[0]).data
        add_in_place(builder, data, args[1], builder.fmul(values, factors, flags=FLAGS))
        return context.get_dummy_value()

    return types.void(array, types.intp, x, types.float64), codegen


@lowered(zeros_like)
def _(typing, x):
    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return float_vector(len(x), x)(x), codegen


@lowered(floats)
def _(typing, x):
    result = float_vector(len(x), x)

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, result, elements_as(context, builder, args[0], x, result.dtype))

    return result(x), codegen


@intrinsic
def _replace(typing, x, index, value):
    def codegen(context, builder, signature, args):
        vector, chosen, new = args
        values = [
            builder.select(builder.icmp_signed("==", chosen, ir.Constant(chosen.type, i)), new, old)
            for i, old in enumerate(elements(builder, vector, len(x)))
        ]
        return cgutils.pack_array(builder, values)

    return x(x, types.intp, x.dtype), codegen


@lowered(indicator_minus)
def _(typing, index, x):
    def codegen(context, builder, signature, args):
        one, zero = (context.get_constant(x.dtype, value) for value in (1.0, 0.0))
        outputs = []
        for i, value in enumerate(elements(builder, args[1], len(x))):
            chosen = builder.icmp_signed("==", args[0], ir.Constant(args[0].type, i))
            outputs.append(builder.fsub(builder.select(chosen, one, zero), value, flags=FLAGS))
        return cgutils.pack_array(builder, outputs)

    return x(types.intp, x), codegen


@inline
def _largest(x):
    best = x[0]
    for i in range(1, len(x)):
        best = max(best, x[i])
    return best


def _softmax(logits):
    largest = _largest(logits)
    weights = logits
    total = 0.0
    for a in range(len(logits)):
        weight = simd.exp_of_negative(logits[a] - largest)
        weights = _replace(weights, a, weight)
        total += weight
    for a in range(len(logits)):
        weights = _replace(weights, a, weights[a] / total)
    return weights


def _softmax_of_two(logits):
    """The logistic function of the difference: one exponential in place of two."""
    difference = logits[0] - logits[1]
    weight = simd.exp_of_negative(-abs(difference))
    larger = 1.0 / (1.0 + weight)
    smaller = weight * larger
    first = larger if difference > 0.0 else smaller
    second = smaller if difference > 0.0 else larger
    return first, second


@compiled_as(logs)
def _logs(x, least):
    for i in range(len(x)):
        x = _replace(x, i, simd.log(max(x[i], least)))
    return x


@compiled_as(exp)
def _exp(x):
    for i in range(len(x)):
        x = _replace(x, i, simd.exp(x[i]))
    return x


@inline
def _draw(rng, i):
    return normal(rng, i)


def callable_in_code(typing, function, *arguments):
    """Return a function of (context, builder, *values) that calls `function`, for these types."""
    kind = typing.resolve_value_type(function)
    signature = kind.get_call_type(typing, arguments, {})
    return lambda context, builder, *values: context.get_function(kind, signature)(builder, values)


@lowered(normals)
def _(typing, rng, like):
    drawn = typing.resolve_function_type(typing.resolve_value_type(_draw), (rng, types.intp), {})
    result = types.UniTuple(drawn.return_type, len(like))  # whatever `like` holds
    draw = callable_in_code(typing, _draw, rng, types.intp)

    def codegen(context, builder, signature, args):
        numbers = (context.get_constant(types.intp, i) for i in range(len(like)))
        return context.make_tuple(builder, result, [draw(context, builder, args[0], i) for i in numbers])

    return result(rng, like), codegen


@compiled_as(argmax)
def _argmax(x):
    index = 0
    best = x[0]
    for i in range(1, len(x)):
        index = i if x[i] > best else index
        best = max(best, x[i])
    return index


@compiled_form(softmax)
def _(logits):
    return _softmax_of_two if len(logits) == 2 else _softmax


@compiled_as(log_softmax_at)
def _log_softmax_at(logits, index):
    largest = _largest(logits)
    total = 0.0
    chosen = 0.0
    for a in range(len(logits)):
        total += simd.exp_of_negative(logits[a] - largest)
        chosen = logits[a] if a == index else chosen
    return chosen - largest - simd.log(total)


@inner
def _log_softmax(logits):
    largest = _largest(logits)
    total = 0.0
    for a in range(len(logits)):
        total += simd.exp_of_negative(logits[a] - largest)
    normaliser = largest + simd.log(total)
    for a in range(len(logits)):
        logits = _replace(logits, a, logits[a] - normaliser)
    return logits


@compiled_as(softmax_entropy)
@inner
def _softmax_entropy(logits):
    log_p = _log_softmax(logits)
    entropy = 0.0
    for a in range(len(logits)):
        entropy -= simd.exp(log_p[a]) * log_p[a]
    return entropy


@compiled_as(entropy_slope)
def _entropy_slope(logits):
    log_p = _log_softmax(logits)
    entropy = _softmax_entropy(logits)
    for a in range(len(logits)):
        log_p = _replace(log_p, a, -simd.exp(log_p[a]) * (log_p[a] + entropy))
    return log_p
