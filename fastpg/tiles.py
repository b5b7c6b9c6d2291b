"""Tiles: some rows of some packs, in registers, in which the products of two matrices are added up.

With ``z = a b``, for one k after the other, each number a_ik of a few rows is multiplied by the packs of row
k of b that belong to the tile's columns. A tile has as many sums as registers can hold beside those packs:
they do not wait for each other, and a number that is loaded is used for a whole row, or column, of them.
"""

import platform

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastpg.dispatch import compiled_only, lowered
from fastpg.packs import Pack, as_pack, call_of_packs, pack_width

ROWS = 6  # of a high tile
_HOST = llvmlite.binding.get_host_cpu_features()
_PACKS = 4 if _HOST.get("avx512f") else 2  # of a wide tile


def has_multiply_add():
    """Whether the processor has one: where it has not, each is a call of a function."""
    return bool(_HOST.get("fma")) or platform.machine().lower() in ("aarch64", "arm64")


@compiled_only
def high_tile(address, wide):
    """Return a tile of zeros like the numbers there: `ROWS` rows."""


@compiled_only
def flat_tile(address, wide):
    """Return a tile of zeros like the numbers there: a row."""


def _zeros(name, rows):
    @lowered(name)
    def _(typing, address, wide):
        pack = Pack(pack_width() * 64 // address.dtype.bitwidth, address.dtype)
        result = types.UniTuple(types.UniTuple(pack, _PACKS if len(wide) else 1), rows)

        def codegen(context, builder, signature, args):
            return ir.Constant(context.get_value_type(result), None)

        return result(address, wide), codegen


_zeros(high_tile, ROWS)
_zeros(flat_tile, 1)


@compiled_only
def columns_of(tile):
    """Return how many columns a tile has."""


@lowered(columns_of)
def _(typing, tile):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, len(tile[0]) * tile[0].dtype.width)

    return types.intp(tile), codegen


@compiled_only
def rows_of(tile):
    """Return how many rows a tile has."""


@lowered(rows_of)
def _(typing, tile):
    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, len(tile))

    return types.intp(tile), codegen


def _at(builder, address, start, steps, stride=None):
    """The address of number ``start + steps · stride``."""
    offset = ir.Constant(start.type, steps)
    offset = offset if stride is None else builder.mul(stride, offset)
    return builder.gep(address, [builder.add(start, offset)], inbounds=True)


def _size(address):
    return address.dtype.bitwidth // 8


@compiled_only
def plus_products(tile, a, place, stride, b, start):
    """Return a tile plus a column of a, from `place` on, times the numbers of b from `start` on.

    The numbers of the column are `stride` apart, those of b beside each other.
    """


@lowered(plus_products)
def _(typing, tile, a, place, stride, b, start):
    pack = tile[0].dtype

    def codegen(context, builder, signature, args):
        sums, a_data, place, stride, b_data, start = args
        kind = context.get_value_type(pack)
        others = [
            builder.load(
                builder.bitcast(_at(builder, b_data, start, v * pack.width), kind.as_pointer()),
                align=_size(b),
            )
            for v in range(len(tile[0]))
        ]
        result = []
        for r in range(len(tile)):
            number = builder.load(_at(builder, a_data, place, r, stride))
            factor = as_pack(context, builder, number, a.dtype, pack)
            row = builder.extract_value(sums, r)
            added = [
                call_of_packs(builder, "fma", pack, factor, other, builder.extract_value(row, v))
                for v, other in enumerate(others)
            ]
            result.append(cgutils.pack_array(builder, added))
        return cgutils.pack_array(builder, result)

    return tile(tile, a, types.intp, types.intp, b, types.intp), codegen


def _places(context, builder, tile, data, place, stride):
    """Where the packs of each row are."""
    pack = tile[0].dtype
    kind = context.get_value_type(pack).as_pointer()
    for r in range(len(tile)):
        start = builder.add(place, builder.mul(stride, ir.Constant(stride.type, r)))
        yield [builder.bitcast(_at(builder, data, start, v * pack.width), kind) for v in range(len(tile[0]))]


@compiled_only
def load_tile(like, address, place, stride):
    """Return a tile that `store_tile` has written."""


@lowered(load_tile)
def _(typing, like, address, place, stride):
    def codegen(context, builder, signature, args):
        places = _places(context, builder, like, *args[1:])
        rows = [[builder.load(place, align=_size(address)) for place in row] for row in places]
        return cgutils.pack_array(builder, [cgutils.pack_array(builder, row) for row in rows])

    return like(like, address, types.intp, types.intp), codegen


@compiled_only
def store_tile(tile, address, place, stride):
    """Write a tile over the numbers of an array: its rows begin `stride` apart, the first at `place`."""


@lowered(store_tile)
def _(typing, tile, address, place, stride):
    def codegen(context, builder, signature, args):
        for r, row in enumerate(_places(context, builder, tile, *args[1:])):
            for v, place in enumerate(row):
                builder.store(builder.extract_value(args[0], [r, v]), place, align=_size(address))
        return context.get_dummy_value()

    return types.void(tile, address, types.intp, types.intp), codegen
