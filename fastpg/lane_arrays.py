"""Arrays that a lane holds: the boards of environments whose state is not all numbers.

Each lane has a slot for each of them, behind the rows of numbers and the flags (`fastpg.lane_memory`). What
is taken out of a lane is a view of its slots, without an owner, so that nobody counts references to it; what
is put into a lane is copied. The shapes are no part of Numba's types: all lanes have those of the
trajectory they were made for, and an array of another shape is refused.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError

_WORD = 8  # bytes; a slot is some whole words
_MESSAGE = "the shape of an array in the state must not change along a trajectory"
_I64 = ir.IntType(64)


def words_of(arrays):
    """Return the size of the slots of a lane, in float64."""
    return sum(-(-array.nbytes // _WORD) for array in arrays)


def slot_views(memory, start, lanes, arrays):
    """Return views of all slots of all chunks, in ordinary Python.

    Parameters
    ----------
    memory : float64 array, shape (chunks, words)
    start : int
        The first word of the slots.
    lanes : int
    arrays : sequence of array
        What the first lane holds, for shapes and types.

    Returns
    -------
    list of array
        Of shape (chunks, lanes, *shape) each.
    """
    bytes_of_chunks, size = memory.view(np.uint8), words_of(arrays) * _WORD
    views, offset = [], start * _WORD
    for array in arrays:
        strides = (memory.strides[0], size, *np.ascontiguousarray(array).strides)
        shape = (len(memory), lanes, *array.shape)
        views.append(np.ndarray(shape, array.dtype, bytes_of_chunks, offset, strides))
        offset += words_of([array]) * _WORD
    return views


def check_shapes(value, like):
    """Raise ValueError unless the arrays in a nest of tuples have the shapes of those in another."""
    if isinstance(value, tuple):
        for item, like_item in zip(value, like, strict=True):
            check_shapes(item, like_item)
    elif np.shape(value) != np.shape(like):
        raise ValueError(_MESSAGE)


def array_types(ty):
    """The types of the arrays in a nest of tuples, in order."""
    if isinstance(ty, types.BaseTuple):
        return [array for item in ty for array in array_types(item)]
    return [ty] if isinstance(ty, types.Array) else []


def check_array_type(ty):
    """Raise TypingError unless lanes can hold such arrays."""
    numbers = isinstance(ty.dtype, types.Boolean | types.Integer | types.Float)
    if not (numbers and ty.layout == "C" and ty.aligned and ty.ndim > 0):
        raise TypingError(
            f"a trajectory may hold C-contiguous arrays of numbers, and not {ty}: copy() makes one of a view"
        )


def _arrays_in(context, builder, ty, value):
    """The arrays in a nest of tuples, as Numba's structures, in order."""
    if isinstance(ty, types.BaseTuple):
        items = [(item, builder.extract_value(value, i)) for i, item in enumerate(ty) if array_types(item)]
        return [array for item in items for array in _arrays_in(context, builder, *item)]
    return [context.make_array(ty)(context, builder, value)]


def _slot_sizes(builder, arrays):
    """The size of each array's slot in bytes, in generated code."""
    round_up, whole = ir.Constant(_I64, _WORD - 1), ir.Constant(_I64, -_WORD)
    sizes = [builder.mul(array.nitems, array.itemsize) for array in arrays]
    return [builder.and_(builder.add(size, round_up), whole) for size in sizes]


def lane_size(context, builder, like_type, like):
    """Generate the size of the slots of a lane in bytes: that of all is `lane_count` + 1 times as much."""
    size = ir.Constant(_I64, 0)
    for slot in _slot_sizes(builder, _arrays_in(context, builder, like_type, like)):
        size = builder.add(size, slot)
    return size


def _slots(context, builder, start, lane, like_type, like):
    """The addresses of a lane's slots, as bytes, and their sizes."""
    sizes = _slot_sizes(builder, _arrays_in(context, builder, like_type, like))
    place = builder.gep(start, [builder.mul(lane, lane_size(context, builder, like_type, like))])
    for size in sizes:
        yield place, size
        place = builder.gep(place, [size])


def take_arrays(context, builder, start, lane, like_type, like):
    """Generate views of the slots of a lane, which begin at the address `start` for the first lane."""
    from numba.np.arrayobj import populate_array  # slow to import, and loaded by now

    arrays = _arrays_in(context, builder, like_type, like)
    places = _slots(context, builder, start, lane, like_type, like)
    for ty, array, (place, _) in zip(array_types(like_type), arrays, places, strict=True):
        view = context.make_array(ty)(context, builder)
        data = builder.bitcast(place, array.data.type)
        populate_array(view, data, array.shape, array.strides, array.itemsize, None)
        yield view._getvalue()


def put_arrays(context, builder, start, lane, count, value_type, value, like_type, like):
    """Generate copies of the arrays in a value into the slots of a lane.

    None if they are there already, as while an action is chosen. Several arrays may be views of one another's
    slots: then they go by way of the slots of a lane behind the last.
    """
    arrays = _arrays_in(context, builder, value_type, value)
    alike = _arrays_in(context, builder, like_type, like)
    slots = list(_slots(context, builder, start, lane, like_type, like))
    changed, moved, among = (ir.Constant(ir.IntType(1), 0) for _ in range(3))
    end = builder.gep(
        start, [builder.mul(ir.Constant(_I64, count), lane_size(context, builder, like_type, like))]
    )
    sources = []
    for array, model, (place, _) in zip(arrays, alike, slots, strict=True):
        lengths = (cgutils.unpack_tuple(builder, a.shape) for a in (array, model))
        for ours, theirs in zip(*lengths, strict=True):
            changed = builder.or_(changed, builder.icmp_signed("!=", ours, theirs))
        source = builder.bitcast(array.data, place.type)
        moved = builder.or_(moved, builder.icmp_unsigned("!=", source, place))
        inside = builder.icmp_unsigned(">=", source, start), builder.icmp_unsigned("<", source, end)
        among = builder.or_(among, builder.and_(*inside))
        sources.append((source, array))
    with builder.if_then(changed, likely=False):
        context.call_conv.return_user_exc(builder, ValueError, (_MESSAGE,))

    def copy(targets):
        for (source, array), (place, _) in zip(sources, targets, strict=True):
            cgutils.raw_memcpy(builder, place, source, array.nitems, array.itemsize)

    with builder.if_then(moved):
        if len(arrays) == 1:
            copy(slots)
            return
        with builder.if_else(among) as (by_the_way, directly):
            with by_the_way:
                spare = list(_slots(context, builder, end, ir.Constant(_I64, 0), like_type, like))
                copy(spare)
                size = lane_size(context, builder, like_type, like)
                cgutils.raw_memcpy(builder, slots[0][0], spare[0][0], size, ir.Constant(_I64, 1))
            with directly:
                copy(slots)
