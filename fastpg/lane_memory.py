"""The memory of the lanes.

All that a lane holds is one nest of tuples of numbers, taken out of its lane, replaced, and put back; in
memory every number of it is a row of L in one flat buffer, ``buffer[row * L + lane]`` with `row` and `L`
compile-time constants, and every load and store says that it never meets those of another row. So LLVM
sees a loop over lanes that has no dependences, and vectorises it. Behind the rows, each lane has a flag, and
slots for the arrays that it holds, if any (`fastpg.lane_arrays`). In ordinary Python the memory is a list of
what the lanes hold, and an array of flags.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError

from fastpg import vectors
from fastpg.dispatch import compiled_form, lowered
from fastpg.lane_arrays import (
    array_types,
    check_array_type,
    check_shapes,
    lane_size,
    put_arrays,
    take_arrays,
)
from fastpg.nests import count_leaves, leaves_of
from fastpg.precision import Single, has_single
from fastpg.tables import table_scope
from fastpg.vectors import store_record

MAX_LANES = 128
VECTOR = 8  # float64 in the widest vectors (AVX-512)
_LANES_BYTES = 24 * 1024  # of a 32 KiB first-level data cache
_LINE = 64  # bytes of a cache line


def allocate(like):
    """Return memory for `lane_count` values of the type of `like`, and as many flags, which are down."""
    return [like] * lane_count(like), np.zeros(lane_count(like), np.bool_)


def lane_count(like):
    """Return L, the number of lanes: a power of two that keeps the rows in the first-level cache."""
    return lanes_for(count_leaves(like))


def vector_lanes(like):
    """Return how many lanes go into one of the widest vectors: twice as many if there is a `single`."""
    return VECTOR


def holds_arrays(like):
    """Return whether a lane holds arrays, so that loops over lanes are not vectorised."""
    return any(np.ndim(leaf) for leaf in leaves_of(like))


def lanes_for(n_rows):
    """Return `lane_count` of a value of so many numbers."""
    count = MAX_LANES
    while count > 16 and n_rows * count * 8 > _LANES_BYTES:
        count //= 2
    return count


def words_for(n_rows, lanes, n_slot_words=0):
    """Return the size of a memory in float64, in whole cache lines; a lane has slots of so many words."""
    words = n_rows * lanes + lanes // 8 + n_slot_words * (lanes + 1)
    return -(-words // VECTOR) * VECTOR


def lines_for(rows, n, like):
    """Return memory for rows of n numbers like an array's, or some more: each begins with a cache line.

    A vector of AVX-512 is as long as a line: where it lies across two, it is fetched and written as two.
    """
    at_once = _LINE // like.itemsize
    stride = (n + at_once - 1) // at_once * at_once
    room = np.empty(rows * stride + at_once, like.dtype)
    first = (-room.ctypes.data % _LINE) // like.itemsize
    return room[first : first + rows * stride].reshape((rows, stride))


def on_lines(n, like):
    """Return memory for n numbers like an array's, which begins with a cache line."""
    return lines_for(1, n, like)[0][:n]


def take(memory, lane, like):
    """Return what a lane holds, of the type of `like`."""
    return memory[0][lane]


def put(memory, lane, value, like):
    """Put a value into a lane."""
    check_shapes(value, like)
    memory[0][lane] = value


def write(array, i, value, like):
    """Write a number, or all numbers of an observation, into element or row i of an array elsewhere."""
    array[i] = value


def flag(memory, lane, raised, like):
    """Raise or lower a lane's flag."""
    memory[1][lane] = raised


def raised(memory, block, like):
    """Return a bit for each of the lanes 64 · block to 64 · block + 63: 1 where its flag is raised."""
    part = np.packbits(memory[1][64 * block : 64 * block + 64], bitorder="little")
    return np.uint64(int.from_bytes(part.tobytes(), "little"))


def last_bit(bits):
    """Return the number of the last bit that is 1, of 64 which are not all 0."""
    return int(bits).bit_length() - 1


def last_flag(flags):
    """Return the number of the last of eight bytes that is not 0, of 64 bits which are not all 0."""
    return last_bit(flags) >> 3


def zero(like):
    """Return a value of the type of `like`, whatever it is."""
    return like


def leaf_types(ty):
    """The scalar types in a nest of tuples, in order: a row of the memory each."""
    if isinstance(ty, types.BaseTuple):
        return [leaf for item in ty for leaf in leaf_types(item)]
    if isinstance(ty, types.Array):
        check_array_type(ty)
        return []
    whole = isinstance(ty, types.Float | types.Integer) and ty.bitwidth == 64
    if not (whole or isinstance(ty, types.Boolean | Single)):
        raise TypingError(
            f"a trajectory may hold booleans, and floats and integers of 64 bits: float() or int() the {ty}"
        )
    return [ty]


def lanes_of_vector(ty):
    """Return `vector_lanes` of a type."""
    return 2 * VECTOR if has_single(ty) else VECTOR


def _lane_count(ty):
    return lanes_for(len(leaf_types(ty)))


def _slot(context, builder, array_type, array, lane, row, count, llvm_type):
    """The address of a number: base + (row · L + lane) · 8, and no bounds or wraparound to check.

    Of a row of float32 the first half is used: base + row · L · 8 + lane · 4.
    """
    data = context.make_array(array_type)(context, builder, array).data
    if llvm_type == ir.FloatType():
        start = builder.gep(data, [ir.Constant(lane.type, row * count)], inbounds=True)
        return builder.gep(builder.bitcast(start, llvm_type.as_pointer()), [lane], inbounds=True)
    index = builder.add(lane, ir.Constant(lane.type, row * count), flags=("nsw",))
    return builder.bitcast(builder.gep(data, [index], inbounds=True), llvm_type.as_pointer())


def _independent(builder, access, row, rows):
    """Tell LLVM that a row's loads and stores never meet another row's, the flags' (row -1) or a table's."""
    module = builder.module
    domain = module.add_metadata(["fastpg.lanes"])
    scopes = [module.add_metadata([f"fastpg.lanes.row{r}", domain]) for r in range(-1, rows)]
    access.set_metadata("alias.scope", module.add_metadata([scopes.pop(row + 1)]))
    access.set_metadata("noalias", module.add_metadata([*scopes, table_scope(module)]))
    return access


def _row_type(leaf):
    if isinstance(leaf, Single):
        return ir.FloatType()
    return ir.DoubleType() if isinstance(leaf, types.Float) else ir.IntType(64)


@compiled_form(lines_for)
def _(rows, n, like):
    return lines_for


@compiled_form(on_lines)
def _(n, like):
    return on_lines


@lowered(allocate)
def _(typing, like):
    count = _lane_count(like)
    bytes_of_rows = len(leaf_types(like)) * count * 8
    memory = types.Array(types.float64, 1, "C")

    def codegen(context, builder, signature, args):
        from numba.np.arrayobj import _empty_nd_impl  # slow to import, and loaded by now

        size = context.get_constant(types.intp, (bytes_of_rows + count + _LINE) // 8)
        if array_types(like):
            slots = builder.mul(ir.Constant(size.type, count + 1), lane_size(context, builder, like, args[0]))
            size = builder.add(size, builder.lshr(slots, ir.Constant(size.type, 3)))
        array = _empty_nd_impl(context, builder, memory, [size])
        # On a cache line's boundary: a vector of 512 bits is a line, and would otherwise straddle two.
        address = builder.ptrtoint(array.data, ir.IntType(64))
        address = builder.and_(
            builder.add(address, ir.Constant(address.type, _LINE - 1)), ir.Constant(address.type, -_LINE)
        )
        array.data = builder.inttoptr(address, array.data.type)
        raised = builder.inttoptr(
            builder.add(address, ir.Constant(address.type, bytes_of_rows)), cgutils.voidptr_t
        )
        cgutils.memset(builder, raised, ir.Constant(address.type, count), 0)
        return array._getvalue()

    return memory(like), codegen


@lowered(lane_count)
def _(typing, like):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, _lane_count(like))

    return types.intp(like), codegen


@lowered(vector_lanes)
def _(typing, like):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, lanes_of_vector(like))

    return types.intp(like), codegen


def taking(left_out):
    """Return the definition of `take`, or one that gives zeros for parts whose types are to be `left_out`."""

    def definition(typing, memory, lane, like):
        return _take(memory, like, left_out)

    return definition


def _take(memory, like, left_out):
    count, rows = _lane_count(like), len(leaf_types(like))

    def codegen(context, builder, signature, args):
        row = 0
        arrays = iter(())
        if array_types(like):
            start = _slots_of(context, builder, memory, args[0], like)
            arrays = take_arrays(context, builder, start, args[1], like, args[2])

        def build(ty):
            nonlocal row
            if isinstance(ty, types.Array):
                return next(arrays)
            if left_out(ty):
                row += len(leaf_types(ty))
                return cgutils.get_null_value(context.get_value_type(ty))
            if isinstance(ty, types.BaseTuple):
                value = cgutils.get_null_value(context.get_value_type(ty))
                for i, item in enumerate(ty):
                    value = builder.insert_value(value, build(item), i)
                return value
            slot = _slot(context, builder, memory, args[0], args[1], row, count, _row_type(ty))
            value, wanted = _independent(builder, builder.load(slot), row, rows), context.get_value_type(ty)
            row += 1
            return value if value.type == wanted else builder.trunc(value, wanted)

        return build(like)

    return like(memory, types.intp, like), codegen


lowered(take)(taking(lambda ty: False))


def putting(added):
    """Return the definition of `put`, or one that adds to what is there where types are to be `added`."""

    def definition(typing, memory, lane, value, like):
        return _put(memory, value, like, added)

    return definition


def _put(memory, value, like, added):
    count, rows = _lane_count(like), len(leaf_types(like))
    if not _fits(value, like):
        changed = [
            f"{field} is {new} where it was {old}"
            for field, new, old in zip(like.fields, value, like, strict=True)
            if not _fits(new, old)
        ]
        raise TypingError(f"the type of a trajectory must not change along its steps: {'; '.join(changed)}")

    def codegen(context, builder, signature, args):
        row = 0

        if array_types(like):
            start = _slots_of(context, builder, memory, args[0], like)
            put_arrays(context, builder, start, args[1], count, value, args[2], like, args[3])

        def scatter(ty, like, value, add):
            nonlocal row
            if isinstance(ty, types.Array):
                return
            if isinstance(ty, types.BaseTuple):
                for i, (item, like_item) in enumerate(zip(ty, like, strict=True)):
                    part = builder.extract_value(value, i)
                    scatter(item, like_item, part, add or added(like))
                return
            value = context.cast(builder, value, ty, like)
            row_type = _row_type(like)
            if value.type != row_type:
                value = builder.zext(value, row_type)
            slot = _slot(context, builder, memory, args[0], args[1], row, count, row_type)
            if add:
                sum_so_far = _independent(builder, builder.load(slot), row, rows)
                value = builder.fadd(sum_so_far, value, flags=vectors.FLAGS)
            _independent(builder, builder.store(value, slot), row, rows)
            row += 1

        scatter(value, like, args[2], False)
        return context.get_dummy_value()

    return types.void(memory, types.intp, value, like), codegen


lowered(put)(putting(lambda ty: False))


def _flags_of(context, builder, memory_type, memory, like):
    """The address of the flags: one byte each, behind the rows."""
    data = context.make_array(memory_type)(context, builder, memory).data
    end = builder.gep(
        data, [ir.Constant(ir.IntType(64), len(leaf_types(like)) * _lane_count(like))], inbounds=True
    )
    return builder.bitcast(end, cgutils.voidptr_t)


def _slots_of(context, builder, memory_type, memory, like):
    """The address of the first lane's arrays, behind the flags."""
    flags = _flags_of(context, builder, memory_type, memory, like)
    return builder.gep(flags, [ir.Constant(ir.IntType(64), _lane_count(like))])


@lowered(holds_arrays)
def _(typing, like):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, bool(array_types(like)))

    return types.boolean(like), codegen


@lowered(flag)
def _(typing, memory, lane, raised, like):
    def codegen(context, builder, signature, args):
        place = builder.gep(_flags_of(context, builder, memory, args[0], like), [args[1]], inbounds=True)
        store = builder.store(builder.zext(args[2], ir.IntType(8)), place)
        _independent(builder, store, -1, len(leaf_types(like)))
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.boolean, like), codegen


@lowered(write)
def _(typing, array, i, value, like):
    rows = len(leaf_types(like))

    def codegen(context, builder, signature, args):
        stores = store_record(context, builder, array, *args[:2], value, args[2])
        for store in stores:
            _independent(builder, store, -1, rows)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, like), codegen


@lowered(raised)
def _(typing, memory, block, like):
    def codegen(context, builder, signature, args):
        size = min(_lane_count(like), 64)
        place = _flags_of(context, builder, memory, args[0], like)
        place = builder.gep(place, [builder.mul(args[1], ir.Constant(args[1].type, size))], inbounds=True)
        kind = ir.VectorType(ir.IntType(8), size)
        bytes_ = builder.load(builder.bitcast(place, kind.as_pointer()), align=8)
        bits = builder.bitcast(builder.icmp_unsigned("!=", bytes_, ir.Constant(kind, None)), ir.IntType(size))
        return bits if size == 64 else builder.zext(bits, ir.IntType(64))

    return types.uint64(memory, types.intp, like), codegen


@lowered(last_bit)
def _(typing, bits):
    def codegen(context, builder, signature, args):
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(zeros.type, 63), zeros)

    return types.int64(types.uint64), codegen


@lowered(last_flag)
def _(typing, flags):
    def codegen(context, builder, signature, args):
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(zeros.type, 7), builder.lshr(zeros, ir.Constant(zeros.type, 3)))

    return types.int64(types.uint64), codegen


@lowered(zero)
def _(typing, like):
    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(like), None)

    return like(like), codegen


def _fits(ty, like):
    """Whether a value may be stored where `like` was: the same nest, integers may become floats."""
    if isinstance(ty, types.BaseTuple) and isinstance(like, types.BaseTuple):
        same_class = getattr(ty, "instance_class", None) is getattr(like, "instance_class", None)
        return same_class and len(ty) == len(like) and all(map(_fits, ty, like))
    if isinstance(ty, types.Array) and isinstance(like, types.Array):
        check_array_type(ty)
        return ty.dtype == like.dtype and ty.ndim == like.ndim
    kinds = (types.Boolean, types.Integer, (types.Float, Single))
    rank = [next((i for i, kind in enumerate(kinds) if isinstance(t, kind)), None) for t in (ty, like)]
    if rank == [1, 1]:
        return ty.signed == like.signed
    return None not in rank and rank[0] <= rank[1]
