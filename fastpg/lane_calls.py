"""Calls within a loop over lanes that work on packs of lanes.

LLVM turns the loop over lanes into SIMD code, but no loop within it: where a policy adds up over hundreds of
features, that loop would be the innermost. `lane_call` keeps the inner loop in a function of its own, which
exists twice: for a number, and for a pack of them. The lane loop calls the first; LLVM, which is told of the
second ("vector-function-abi-variant"), calls that one for a pack of lanes at once. The text of such a
function is written once, for numbers and packs alike.
"""

import hashlib

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastpg.dispatch import lowered
from fastpg.packs import Pack, as_pack, pack_width

_VARIANT = '"vector-function-abi-variant"="_ZGV_LLVM_N{width}{kinds}_{name}({name}_pack)"'


def lane_call(function, uniform, varying):
    """Return ``function(uniform, varying)``, a number; in a loop over lanes it is called with packs.

    Parameters
    ----------
    function : compiled function
        Written for a tuple `varying` of numbers or of packs alike. It reads memory that nothing writes to
        while the kernel runs, writes none but its `stack_of`, and so is a function of its arguments.
    uniform : tuple
        What is the same in all lanes: numbers, arrays, tuples of them.
    varying : tuple of float
        What differs.
    """
    return function(uniform, varying)


@lowered(lane_call)
def _(typing, function, uniform, varying):
    n, pack = len(varying), Pack(pack_width())
    called = function.get_call_type(typing, (uniform, types.UniTuple(pack, n)), {})
    digest = hashlib.sha256(repr((function.dispatcher.py_func.__qualname__, uniform, n)).encode())
    name = f"fastpg_lane_call_{digest.hexdigest()[:24]}"

    def begin(module, kind, fixed, suffix):
        compiled = ir.Function(module, ir.FunctionType(kind, [*fixed, *[kind] * n]), name + suffix)
        compiled.linkage = "linkonce_odr"
        compiled.attributes.add("noinline")
        compiled.attributes.add("nounwind")
        set.update(compiled.attributes, ["willreturn", "memory(none)", '"prefer-vector-width"="512"'])
        return compiled, ir.IRBuilder(compiled.append_basic_block())

    def define(context, module, packer):
        fixed = [_as_integer(kind) for kind in packer.argument_types]
        of_packs, builder = begin(module, context.get_value_type(pack), fixed, "_pack")
        flat = zip(of_packs.args, packer.argument_types, strict=False)
        (given,) = packer.from_arguments(builder, [_cast(builder, value, kind) for value, kind in flat])
        result = function.dispatcher.overloads[called.args]
        context.active_code_library.add_linking_library(result.library)
        values = cgutils.pack_array(builder, of_packs.args[len(fixed) :])
        _, value = context.call_internal_no_propagate(
            builder, result.fndesc, result.signature, [given, values]
        )
        builder.ret(value)
        _keep(module, of_packs)
        # For the lanes that fill no pack: the same, as it would take as long.
        of_numbers, builder = begin(module, ir.DoubleType(), fixed, "")
        numbers = of_numbers.args[len(fixed) :]
        values = [as_pack(context, builder, x, types.float64, pack) for x in numbers]
        value = builder.call(of_packs, [*of_numbers.args[: len(fixed)], *values])
        builder.ret(builder.extract_element(value, ir.Constant(ir.IntType(32), 0)))

    def codegen(context, builder, signature, args):
        packer = context.get_arg_packer([uniform])
        module = builder.module
        if name not in module.globals:
            define(context, module, packer)
        flat = packer.as_arguments(builder, [args[1]])
        given = [_cast(builder, value, _as_integer(value.type)) for value in flat]
        values = [builder.extract_value(args[2], i) for i in range(n)]
        call = builder.call(module.globals[name], [*given, *values])
        letters = "u" * len(given) + "v" * n
        set.add(call.attributes, _VARIANT.format(width=pack.width, kinds=letters, name=name))
        return call

    return types.float64(function, uniform, types.UniTuple(types.float64, n)), codegen


def _as_integer(kind):
    """How a number that all lanes share is handed over: of a float LLVM cannot tell that they do."""
    return ir.IntType(64) if isinstance(kind, ir.DoubleType) else kind


def _cast(builder, value, kind):
    return value if value.type == kind else builder.bitcast(value, kind)


def _keep(module, function):
    """Have LLVM keep a function that nothing calls before the loops are vectorised."""
    name = "llvm.compiler.used"
    pointer = ir.IntType(8).as_pointer()
    used = module.globals.get(name)
    functions = [*(used.initializer.constant if used else []), function.bitcast(pointer)]
    kind = ir.ArrayType(pointer, len(functions))
    if used is None:
        used = ir.GlobalVariable(module, kind, name)
        used.linkage, used.section = "appending", "llvm.metadata"
    used.value_type, used.type = kind, kind.as_pointer()
    used.initializer = ir.Constant(kind, functions)
