"""Products of matrices, which are arrays among an environment's parameters, and vectors, which are tuples."""

from numba import types
from numba.core import cgutils

from fastpg.dispatch import inline, lowered
from fastpg.tables import lookup
from fastpg.vectors import FLAGS, callable_in_code, elements


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
    return lookup(matrix, i, j)


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
        inputs = elements(builder, args[1], len(x))
        rows = (row(context, builder, args[0], i) for i in range(len(x)))
        return cgutils.pack_array(builder, [_dot(builder, components, inputs) for components in rows])

    return x(matrix, x), codegen


@lowered(add_product)
def _(typing, total, matrix, x):
    row = _row(typing, matrix, len(x))

    def codegen(context, builder, signature, args):
        inputs = elements(builder, args[2], len(x))
        starts = enumerate(elements(builder, args[0], len(total)))
        outputs = [_dot(builder, row(context, builder, args[1], i), inputs, start) for i, start in starts]
        return cgutils.pack_array(builder, outputs)

    return total(total, matrix, x), codegen


@lowered(dot)
def _(typing, x, y):
    def codegen(context, builder, signature, args):
        return _dot(builder, *(elements(builder, value, len(x)) for value in args))

    return types.float64(x, y), codegen
