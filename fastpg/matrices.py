"""Products of matrices, which are arrays among an environment's parameters, and vectors, which are tuples."""

from numba import types
from numba.core import cgutils

from fastpg.dispatch import inline, lowered
from fastpg.tables import lookup
from fastpg.vectors import FLAGS, callable_in_code, elements, float_vector


def product(matrix, x):
    """Return ``matrix @ x``, of a square matrix."""
    return add_product((0.0,) * len(x), matrix, x)


def add_product(total, matrix, x):
    """Return ``total + matrix @ x``."""
    return tuple(t + sum(lookup(matrix, i, j) * x[j] for j in range(len(x))) for i, t in enumerate(total))


def dot(x, y):
    """Return ``xᵀ y``."""
    return sum(a * b for a, b in zip(x, y, strict=True))


# In compiled code they are straight lines of instructions: LLVM unrolls loops over some six components and
# no more, and a loop inside it keeps the loop over lanes from being vectorised.


@inline
def _entry(matrix, i, j):
    return lookup(matrix, i, j) * 1.0


def _floats(context, builder, ty, value):
    """The components of a vector of any numbers, as float64."""
    components = zip(elements(builder, value, len(ty)), ty, strict=True)
    return [context.cast(builder, number, kind, types.float64) for number, kind in components]


def _dot(builder, xs, ys, total=None):
    for x, y in zip(xs, ys, strict=True):
        term = builder.fmul(x, y, flags=FLAGS)
        total = term if total is None else builder.fadd(total, term, flags=FLAGS)
    return total


def _row(typing, matrix, length):
    """A function of (context, builder, matrix, i) that gives the components of row i."""
    look_up = callable_in_code(typing, _entry, matrix, types.intp, types.intp)

    def components(context, builder, value, i):
        numbers = [context.get_constant(types.intp, k) for k in (i, *range(length))]
        return [look_up(context, builder, value, numbers[0], number) for number in numbers[1:]]

    return components


@lowered(product)
def _(typing, matrix, x):
    row = _row(typing, matrix, len(x))

    def codegen(context, builder, signature, args):
        inputs = _floats(context, builder, x, args[1])
        rows = (row(context, builder, args[0], i) for i in range(len(x)))
        return cgutils.pack_array(builder, [_dot(builder, components, inputs) for components in rows])

    return float_vector(len(x))(matrix, x), codegen


@lowered(add_product)
def _(typing, total, matrix, x):
    row = _row(typing, matrix, len(x))

    def codegen(context, builder, signature, args):
        inputs = _floats(context, builder, x, args[2])
        starts = enumerate(_floats(context, builder, total, args[0]))
        outputs = [_dot(builder, row(context, builder, args[1], i), inputs, start) for i, start in starts]
        return cgutils.pack_array(builder, outputs)

    return float_vector(len(total))(total, matrix, x), codegen


@lowered(dot)
def _(typing, x, y):
    def codegen(context, builder, signature, args):
        pairs = zip((x, y), args, strict=True)
        return _dot(builder, *(_floats(context, builder, ty, value) for ty, value in pairs))

    return types.float64(x, y), codegen
