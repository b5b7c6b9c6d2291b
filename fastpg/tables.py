"""Arrays as parameters of an environment: maps, transition tables."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from fastpg.dispatch import lowered


def lookup(table, *index):
    """Return ``table[index]``, as lanes like to read it.

    Parameters
    ----------
    table : array
        C-contiguous; nothing may write to it while a kernel runs.
    *index : int
        One for each axis, within bounds and not negative: compiled code checks neither.

    In compiled code ``table[i, j]`` works as well, but LLVM must then suppose that a write to the lanes
    may change the table, and does not vectorise the loop over lanes. This load becomes a gather.
    """
    return table[index].item()


def same_fields(one, other):
    """Return whether two NamedTuples are of one class and equal in every field, arrays element by element.

    With arrays among the fields ``__eq__ = same_fields`` and ``__ne__ = other_fields`` in the class stand for
    the comparison of tuples, which raises there.
    """
    return type(one) is type(other) and all(map(np.array_equal, one, other))


def other_fields(one, other):
    """Return whether two NamedTuples differ by `same_fields`."""
    return not same_fields(one, other)


def check_shapes_of_fields(env, shapes):
    """Raise ValueError unless the arrays among an environment's fields have these shapes.

    `shapes` maps names to tuples of letters or numbers: a letter stands for a length, the same everywhere.
    """
    lengths: dict = {}
    for name, shape in shapes.items():
        found = np.shape(getattr(env, name))
        wanted = tuple(lengths.setdefault(n, found[i] if i < len(found) else n) for i, n in enumerate(shape))
        if found != wanted:
            tuple_of = ", ".join(map(str, wanted)) + ("," if len(wanted) == 1 else "")
            raise ValueError(f"{name}: has shape {found}, must have ({tuple_of}) to go with the others")


def table_scope(module):
    """The scope of all tables, which LLVM may suppose that no write to the lanes meets (`lane_memory`)."""
    return module.add_metadata(["fastpg.tables", module.add_metadata(["fastpg.tables"])])


def load_from_table(builder, place):
    """Generate a load from memory that nothing writes to while a kernel runs."""
    load = builder.load(place)
    load.set_metadata("invariant.load", builder.module.add_metadata([]))
    load.set_metadata("alias.scope", builder.module.add_metadata([table_scope(builder.module)]))
    return load


@lowered(lookup)
def _(typing, table, *index):
    if not (isinstance(table, types.Array) and table.layout == "C" and table.ndim == len(index)):
        raise TypingError(
            f"lookup needs a C-contiguous array and an index for each axis, not {table}[{index}]"
        )

    def codegen(context, builder, signature, args):
        array = context.make_array(table)(context, builder, args[0])
        position = ir.Constant(ir.IntType(64), 0)
        for axis in range(table.ndim):
            length = builder.extract_value(array.shape, axis)
            coordinate = context.cast(builder, builder.extract_value(args[1], axis), index[axis], types.int64)
            position = builder.add(builder.mul(position, length, flags=("nsw",)), coordinate, flags=("nsw",))
        load = load_from_table(builder, builder.gep(array.data, [position], inbounds=True))
        return context.data_model_manager[table.dtype].from_data(builder, load)

    return table.dtype(table, types.BaseTuple.from_types(index)), codegen
