"""Packs: as many numbers as the processor has in a vector, as one value, and memory for them on the stack.

They are float64, or float32 where arrays of float32 are worked on. A wide pack fills `REGISTERS` vectors: an
operation of it is as many instructions that do not wait for each other.

A function written with these and arithmetic works on numbers and on packs alike. All of it is a matter of
compiled code; ordinary Python needs nothing here.
"""

import operator

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import register_model

from fastpg.dispatch import compiled_only, lowered
from fastpg.tables import load_from_table

FLAGS = ("contract", "nsz")
REGISTERS = 4  # of a wide pack


_ITEMS = {types.float64: ir.DoubleType(), types.float32: ir.FloatType()}


class Pack(types.Type):
    """The type of a pack."""

    def __init__(self, width, item=types.float64):
        self.width, self.item = width, item
        super().__init__(f"pack of {width} {item}")


@register_model(Pack)
class _PackModel(models.PrimitiveModel):
    def __init__(self, manager, pack):
        super().__init__(manager, pack, ir.VectorType(_ITEMS[pack.item], pack.width))


class Stack(types.Type):
    """The type of an array of packs, numbers, or tuples of them, on the stack of a function."""

    def __init__(self, item):
        self.item = item
        super().__init__(f"stack of {item}")


@register_model(Stack)
class _StackModel(models.PrimitiveModel):
    def __init__(self, manager, stack):
        super().__init__(manager, stack, ir.DoubleType().as_pointer())


def pack_width():
    """Return how many float64 fill a vector register of this processor."""
    features = llvmlite.binding.get_host_cpu_features()
    return 8 if features.get("avx512f") else 4 if features.get("avx") else 2


def as_pack(context, builder, value, ty, pack):
    """Generate a number in every place of a pack; a pack as it is."""
    if isinstance(ty, Pack):
        return value
    value = context.cast(builder, value, ty, pack.item)
    kind = context.get_value_type(pack)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), pack.width), [0] * pack.width)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), places)


def _arithmetic(function, instruction):
    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            pack = next((ty for ty in args if isinstance(ty, Pack)), None)
            if pack and len(args) == 2 and all(isinstance(ty, Pack | types.Number) for ty in args):
                return signature(pack, *args)
            return None

    def implementation(context, builder, sig, args):
        operands = [
            as_pack(context, builder, *pair, sig.return_type) for pair in zip(args, sig.args, strict=True)
        ]
        return getattr(builder, instruction)(*operands, flags=FLAGS)

    for kinds in ((Pack, Pack), (Pack, types.Number), (types.Number, Pack)):
        lower_builtin(function, *kinds)(implementation)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


def _intrinsic(builder, name, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def call_of_packs(builder, name, ty, *values):
    """Generate a call of one of LLVM's intrinsics that takes and returns packs, or float64."""
    suffix = f"v{ty.width}f{ty.item.bitwidth}" if isinstance(ty, Pack) else "f64"
    kinds = [value.type for value in values]
    return builder.call(_intrinsic(builder, f"llvm.{name}.{suffix}", kinds[0], kinds), values)


def _unary(name):
    """A function of a number or a pack that LLVM has."""

    def function(x):
        pass

    function.__name__ = function.__qualname__ = name
    function = compiled_only(function)

    @lowered(function)
    def _(typing, x):
        def codegen(context, builder, signature, args):
            return call_of_packs(builder, name, x, args[0])

        return x(x), codegen

    return function


floor = _unary("floor")
magnitude = _unary("fabs")


@compiled_only
def between(x, low, high):
    """Return ``min(max(x, low), high)`` of a number or a pack, with numbers low and high."""


@lowered(between)
def _(typing, x, low, high):
    def codegen(context, builder, signature, args):
        value = args[0]
        for bound, predicate, ty in ((args[1], "<", low), (args[2], ">", high)):
            bound = as_pack(context, builder, bound, ty, x) if isinstance(x, Pack) else bound
            value = builder.select(builder.fcmp_ordered(predicate, value, bound), bound, value)
        return value

    return x(x, types.float64, types.float64), codegen


@compiled_only
def at_most(x, bound):
    """Return ``min(x, bound)`` of a pack, NaN where it is NaN."""


@lowered(at_most)
def _(typing, x, bound):
    def codegen(context, builder, signature, args):
        bounds = as_pack(context, builder, args[1], bound, x)
        return builder.select(builder.fcmp_ordered(">", args[0], bounds), bounds, args[0])

    return x(x, bound), codegen


@compiled_only
def with_sign(x, y):
    """Return a pack of the magnitudes of x with the signs of y."""


@lowered(with_sign)
def _(typing, x, y):
    def codegen(context, builder, signature, args):
        return call_of_packs(builder, "copysign", x, *args)

    return x(x, x), codegen


@compiled_only
def quotient(x, y):
    """Return x / y of packs of float32, none of the three infinite; NaN where x or y is NaN.

    With AVX-512, whose estimates of 1 / y have 14 bits, LLVM takes one and makes a step of Newton's: a
    division of 16 numbers keeps its unit busy for as long as all the rest of a tanh.
    """


@lowered(quotient)
def _(typing, x, y):
    def codegen(context, builder, signature, args):
        estimated = ("arcp", "ninf") if "+avx512f" in context.codegen().magic_tuple()[2] else ()
        return builder.fdiv(*args, flags=(*FLAGS, *estimated))

    return x(x, x), codegen


@compiled_only
def two_to_the(t):
    """Return 2ⁿ of a number or a pack ``t = n + 1.5 · 2⁵²``, with an integer n; compiled code only."""


@lowered(two_to_the)
def _(typing, t):
    def codegen(context, builder, signature, args):
        integers = ir.IntType(64)
        if isinstance(t, Pack):
            integers = ir.VectorType(integers, t.width)

        def constant(value):
            return ir.Constant(integers, [value] * t.width if isinstance(t, Pack) else value)

        bits = builder.add(builder.bitcast(args[0], integers), constant(1023))
        return builder.bitcast(builder.shl(bits, constant(52)), args[0].type)

    return t(t), codegen


@compiled_only
def fill(x, like):
    """Return a number as `like` is: a number, or a pack; compiled code only."""


@lowered(fill)
def _(typing, x, like):
    def codegen(context, builder, signature, args):
        if isinstance(like, Pack):
            return as_pack(context, builder, args[0], x, like)
        return context.cast(builder, args[0], x, like)

    return like(types.float64, like), codegen


class Address(types.Type):
    """The type of the address of an array's first number."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"address of {dtype}")


_ADDRESS = Address(types.float64)


@register_model(Address)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, manager, address):
        super().__init__(manager, address, _ITEMS[address.dtype].as_pointer())


@compiled_only
def address_of(array):
    """Return where an array of floats begins: less to hand over than the array, and nothing to count."""


@lowered(address_of)
def _(typing, array):
    def codegen(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return Address(array.dtype)(array), codegen


@compiled_only
def number_of(address):
    """Return an address as an integer, to be kept in an array."""


@lowered(number_of)
def _(typing, address):
    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(address), codegen


@compiled_only
def address_from(number):
    """Return the address that `number_of` made an integer of."""


@lowered(address_from)
def _(typing, number):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

    return _ADDRESS(types.int64), codegen


@compiled_only
def entry(address, index):
    """Return a number of an array; `index` may also be a float that is whole, or a pack of them."""


@lowered(entry)
def _(typing, address, index):
    def codegen(context, builder, signature, args):
        def look_up(number):
            if isinstance(number.type, ir.DoubleType):
                number = builder.fptosi(number, ir.IntType(64))
            return load_from_table(builder, builder.gep(args[0], [number], inbounds=True))

        if not isinstance(index, Pack):
            return look_up(args[1])
        result = ir.Constant(args[1].type, ir.Undefined)
        for i in range(index.width):
            place = ir.Constant(ir.IntType(32), i)
            result = builder.insert_element(result, look_up(builder.extract_element(args[1], place)), place)
        return result

    integer = isinstance(index, types.Integer)
    return (types.float64 if integer else index)(address, types.intp if integer else index), codegen


@compiled_only
def components(address, first, count, like):
    """Return records `first`, ... of an array as packs, one for each component, of which `like` has as many.

    A record is a vector, stored by `fastpg.vectors.store`. If there are no `count` to fill a pack, the last
    stands for those behind.
    """


@lowered(components)
def _(typing, address, first, count, like):
    pack, n = Pack(pack_width()), len(like)

    def codegen(context, builder, signature, args):
        data, first, count, _ = args

        def integer(value):
            return ir.Constant(first.type, value)

        last = builder.sub(count, integer(1))
        result = [ir.Constant(context.get_value_type(pack), ir.Undefined)] * n
        for i in range(pack.width):
            record = builder.select(builder.icmp_signed("<", integer(i), last), integer(i), last)
            start = builder.mul(builder.add(first, record), integer(n))
            for k in range(n):
                number = builder.load(builder.gep(data, [builder.add(start, integer(k))], inbounds=True))
                result[k] = builder.insert_element(result[k], number, ir.Constant(ir.IntType(32), i))
        return cgutils.pack_array(builder, result, context.get_value_type(pack))

    return types.UniTuple(pack, n)(address, types.intp, types.intp, like), codegen


@compiled_only
def first_of(x, count):
    """Return a pack with zeros behind its first `count` places."""


@lowered(first_of)
def _(typing, x, count):
    def codegen(context, builder, signature, args):
        result = args[0]
        for i in range(x.width):
            place = ir.Constant(ir.IntType(32), i)
            keep = builder.icmp_signed("<", ir.Constant(args[1].type, i), args[1])
            value = builder.select(
                keep, builder.extract_element(result, place), ir.Constant(ir.DoubleType(), 0.0)
            )
            result = builder.insert_element(result, value, place)
        return result

    return x(x, types.intp), codegen


@compiled_only
def total(x):
    """Return the sum of a pack."""


@lowered(total)
def _(typing, x):
    def codegen(context, builder, signature, args):
        kind = args[0].type
        name = f"llvm.vector.reduce.fadd.v{x.width}f64"
        function = _intrinsic(builder, name, ir.DoubleType(), [ir.DoubleType(), kind])
        start = ir.Constant(ir.DoubleType(), -0.0)
        return builder.call(function, [start, args[0]], fastmath=("reassoc", *FLAGS))

    return types.float64(x), codegen


def _shuffled(builder, a, b, places):
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(a, b, mask)


def _bytes(address):
    """Of a number there."""
    return address.dtype.bitwidth // 8


@compiled_only
def load_pack(address, start, like):
    """Return as many numbers of an array as a pack has places; if `like` is a number, one."""


@lowered(load_pack)
def _(typing, address, start, like):
    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]], inbounds=True)
        return builder.load(builder.bitcast(place, args[2].type.as_pointer()), align=_bytes(address))

    return like(address, types.intp, like), codegen


@compiled_only
def add_to(address, start, x):
    """Add a pack to the numbers of an array from `start` on, or a number to the one there."""


@lowered(add_to)
def _(typing, address, start, x):
    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]], inbounds=True)
        place = builder.bitcast(place, args[2].type.as_pointer())
        builder.store(
            builder.fadd(builder.load(place, align=_bytes(address)), args[2], flags=FLAGS),
            place,
            align=_bytes(address),
        )
        return context.get_dummy_value()

    return types.void(address, types.intp, x), codegen


@compiled_only
def widened(x):
    """Return a pack, or a number, in float64."""


@lowered(widened)
def _(typing, x):
    result = Pack(x.width, types.float64) if isinstance(x, Pack) else types.float64

    def codegen(context, builder, signature, args):
        wide = context.get_value_type(result)
        return args[0] if args[0].type == wide else builder.fpext(args[0], wide)

    return result(x), codegen


@compiled_only
def as_precise_as(x, like):
    """Return a pack, or a number, in the precision of another, which is its own or float64."""


@lowered(as_precise_as)
def _(typing, x, like):
    def codegen(context, builder, signature, args):
        return args[0] if args[0].type == args[1].type else builder.fpext(args[0], args[1].type)

    return like(x, like), codegen


@compiled_only
def all_between(x, low, high):
    """Whether all numbers of a pack, or a number, are between two bounds."""


@lowered(all_between)
def _(typing, x, low, high):
    def codegen(context, builder, signature, args):
        inside = []
        for bound, ty, predicate in ((args[1], low, ">="), (args[2], high, "<=")):
            pack = isinstance(x, Pack)
            bound = as_pack(context, builder, bound, ty, x) if pack else context.cast(builder, bound, ty, x)
            inside.append(builder.fcmp_ordered(predicate, args[0], bound))
        both = builder.and_(*inside)
        if not isinstance(x, Pack):
            return both
        name = f"llvm.vector.reduce.and.v{x.width}i1"
        return builder.call(_intrinsic(builder, name, ir.IntType(1), [both.type]), [both])

    return types.boolean(x, low, high), codegen


@compiled_only
def store_pack(address, start, x):
    """Write a pack over the numbers of an array from `start` on, or a number over the one there."""


@lowered(store_pack)
def _(typing, address, start, x):
    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]], inbounds=True)
        builder.store(args[2], builder.bitcast(place, args[2].type.as_pointer()), align=_bytes(address))
        return context.get_dummy_value()

    return types.void(address, types.intp, x), codegen


@compiled_only
def square_side(address):
    """Return how many rows and columns a square has that `turn_square` transposes."""


@lowered(square_side)
def _(typing, address):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, _register_width(address))

    return types.intp(address), codegen


@compiled_only
def turn_square(source, start, stride, target, place, target_stride):
    """Transpose a square: a row begins every `stride` numbers, the first at `start`; likewise in the target.

    Rows are in registers. In a step for each power of two s, those whose numbers differ by s exchange what
    is above their squares of side s with what is below: blocks beside the diagonal change places.
    """


@lowered(turn_square)
def _(typing, source, start, stride, target, place, target_stride):
    width = _register_width(source)

    def codegen(context, builder, signature, args):
        kind = ir.VectorType(_ITEMS[source.dtype], width)

        def row_at(data, first, step, i):
            index = builder.add(first, builder.mul(step, ir.Constant(step.type, i)))
            return builder.bitcast(builder.gep(data, [index], inbounds=True), kind.as_pointer())

        rows = [builder.load(row_at(*args[:3], i), align=_bytes(source)) for i in range(width)]
        s = 1
        while s < width:
            for i in range(width):
                if i & s == 0:
                    a, b = rows[i], rows[i + s]
                    above = [k if k & s == 0 else width + k - s for k in range(width)]
                    below = [k + s if k & s == 0 else width + k for k in range(width)]
                    rows[i], rows[i + s] = _shuffled(builder, a, b, above), _shuffled(builder, a, b, below)
            s *= 2
        for i, row in enumerate(rows):
            builder.store(row, row_at(*args[3:], i), align=_bytes(target))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


@compiled_only
def item(xs, i):
    """Return ``xs[i]`` from a tuple of one type, by way of memory: Numba's own way is a jump for each `i`."""


@lowered(item)
def _(typing, xs, i):
    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once_value(builder, args[0])
        return builder.load(cgutils.gep_inbounds(builder, place, 0, args[1]))

    return xs.dtype(xs, types.intp), codegen


@compiled_only
def no_pack():
    """Return a pack of zeros."""


@lowered(no_pack)
def _(typing):
    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Pack(pack_width())(), codegen


@compiled_only
def pack_like(address):
    """Return a pack of zeros like the numbers there."""


@compiled_only
def wide_pack_like(address):
    """Return a wide pack of zeros like the numbers there."""


@compiled_only
def number_like(address):
    """Return 0 like the numbers there."""


def _zeros_like_numbers(name, registers):
    @lowered(name)
    def _(typing, address):
        width = _register_width(address) * registers
        result = Pack(width, address.dtype) if registers else address.dtype

        def codegen(context, builder, signature, args):
            return context.get_constant_null(result)

        return result(address), codegen


_zeros_like_numbers(number_like, 0)
_zeros_like_numbers(pack_like, 1)
_zeros_like_numbers(wide_pack_like, REGISTERS)


def _register_width(address):
    return pack_width() * 8 // _bytes(address)


@compiled_only
def width_of(pack):
    """Return how many numbers a pack has, or 1 for a number."""


@lowered(width_of)
def _(typing, pack):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, getattr(pack, "width", 1))

    return types.intp(pack), codegen


def _leaves(ty):
    return [leaf for item in ty for leaf in _leaves(item)] if isinstance(ty, types.BaseTuple) else [ty]


@compiled_only
def stack_of(like, count):
    """Return room for `count` values like `like` until the calling function returns; it is not inlined."""


@lowered(stack_of)
def _(typing, like, count):
    leaves = _leaves(like)

    def codegen(context, builder, signature, args):
        kind = context.get_value_type(leaves[0])
        place = builder.alloca(kind, builder.mul(args[1], ir.Constant(args[1].type, len(leaves))))
        place.align = 8 * getattr(leaves[0], "width", 1)
        return builder.bitcast(place, ir.DoubleType().as_pointer())

    return Stack(like)(like, types.intp), codegen


def _places(context, builder, stack, place, index):
    leaves = _leaves(stack.item)
    kind = context.get_value_type(leaves[0])
    place = builder.bitcast(place, kind.as_pointer())
    first = builder.mul(index, ir.Constant(index.type, len(leaves)))
    for i in range(len(leaves)):
        yield builder.gep(place, [builder.add(first, ir.Constant(index.type, i))], inbounds=True)


def _alignment(stack):
    return 8 * getattr(_leaves(stack.item)[0], "width", 1)


@compiled_only
def peek(stack, index):
    """Return a value from a stack."""


@lowered(peek)
def _(typing, stack, index):
    def codegen(context, builder, signature, args):
        values = [
            builder.load(place, align=_alignment(stack)) for place in _places(context, builder, stack, *args)
        ]
        if not isinstance(stack.item, types.BaseTuple):
            return values[0]
        return context.make_tuple(builder, stack.item, values)

    return stack.item(stack, types.intp), codegen


@compiled_only
def poke(stack, index, value):
    """Put a value into a stack."""


@lowered(poke)
def _(typing, stack, index, value):
    def codegen(context, builder, signature, args):
        value = args[2]
        values = [value]
        if isinstance(stack.item, types.BaseTuple):
            values = [builder.extract_value(value, i) for i in range(len(stack.item))]
        for place, leaf in zip(_places(context, builder, stack, *args[:2]), values, strict=True):
            builder.store(leaf, place, align=_alignment(stack))
        return context.get_dummy_value()

    return types.void(stack, types.intp, stack.item), codegen


@compiled_only
def weighted(stack, start, weights, weights_start, shape):
    """Return the values of a stack from `start` on, each times one of `weights`, as many as `shape` has."""


def _load(context, builder, stack, place, start, offset):
    index = builder.add(start, ir.Constant(start.type, offset))
    places = _places(context, builder, stack, place, index)
    return [builder.load(address, align=_alignment(stack)) for address in places]


@lowered(weighted)
def _(typing, stack, start, weights, weights_start, shape):
    def codegen(context, builder, signature, args):
        values = []
        for v in range(len(shape)):
            (x,), (weight,) = (
                _load(context, builder, *what, v) for what in ((stack, *args[:2]), (weights, *args[2:4]))
            )
            values.append(builder.fmul(x, weight, flags=FLAGS))
        return cgutils.pack_array(builder, values)

    return types.UniTuple(weights.item, len(shape))(stack, types.intp, weights, types.intp, shape), codegen


@compiled_only
def dot(values, stack, start):
    """Return the sum of products of what `weighted` returned and a stack's values."""


def _dot(context, builder, stack, values, place, start, n):
    total = None
    for v in range(n):
        (other,) = _load(context, builder, stack, place, start, v)
        product = builder.fmul(builder.extract_value(values, v), other, flags=FLAGS)
        total = product if total is None else builder.fadd(total, product, flags=FLAGS)
    return total


@lowered(dot)
def _(typing, values, stack, start):
    def codegen(context, builder, signature, args):
        return _dot(context, builder, stack, *args, len(values))

    return values.dtype(values, stack, types.intp), codegen


@compiled_only
def dots(values, stack, start, spacing):
    """Return the totals of `dot` at start, start + spacing, ..., as many as fill a pack."""


@lowered(dots)
def _(typing, values, stack, start, spacing):
    pack = values.dtype

    def codegen(context, builder, signature, args):
        sums = []
        for i in range(pack.width):
            place = builder.add(args[2], builder.mul(args[3], ir.Constant(args[2].type, i)))
            sums.append(_dot(context, builder, stack, args[0], args[1], place, len(values)))
        size = 1
        while len(sums) > 1:  # of two, the halves of every group are added, and the sums laid side by side
            firsts = [
                g + i + of
                for g in range(0, pack.width, 2 * size)
                for of in (0, pack.width)
                for i in range(size)
            ]
            sums = [
                builder.fadd(
                    _shuffled(builder, a, b, firsts), _shuffled(builder, a, b, [i + size for i in firsts])
                )
                for a, b in zip(sums[::2], sums[1::2], strict=True)
            ]
            size *= 2
        return sums[0]

    return pack(values, stack, types.intp, types.intp), codegen
