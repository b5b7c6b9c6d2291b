"""The loop over lanes, and what LLVM is asked to do with it."""

from llvmlite import ir
from numba import types

from fastpg.dispatch import lowered
from fastpg.lane_memory import VECTOR, lanes_of_vector
from fastpg.precision import has_single

_INTERLEAVE = 2  # vectors at a time; 4 is no faster
_INTERLEAVE_SINGLE = 1


def for_each_lane(function, n_lanes, arguments):
    """Call ``function(lane, *arguments)`` for lanes 0 to n_lanes - 1, which must not meet in memory.

    The plain loop, but for a request to LLVM: the chain of dependent operations in one time step is
    long, so the processor idles unless several vectors are under way at once.
    """
    for lane in range(n_lanes):
        function(lane, *arguments)


def keep_apart():
    """Keep the calling function from being inlined, where the work would be done for all lanes and masked."""


def widest_vectors():
    """Ask LLVM for the processor's widest vectors in the calling function, which is not inlined."""


def _interleaved(module, like):
    """Loop metadata: work on that many vectors of lanes at a time, each operation for all of them.

    Vectors are as long as the widest numbers allow, unless LLVM is told that most are half as wide.
    """
    wishes = {"llvm.loop.interleave.count": _INTERLEAVE}
    if has_single(like):
        wishes = {"interleave.count": _INTERLEAVE_SINGLE, "vectorize.width": lanes_of_vector(like)}
        wishes = {f"llvm.loop.{name}": number for name, number in wishes.items()}
    requests = [module.add_metadata([name, ir.Constant(ir.IntType(32), n)]) for name, n in wishes.items()]
    # A loop's metadata names itself first, which keeps that of two loops apart.
    loop = module.add_metadata([*requests, ir.MetaDataString(module, f"lanes {len(module.metadata)}")])
    loop.operands = (loop, *requests)
    return loop


@lowered(for_each_lane)
def _(typing, function, n_lanes, arguments):
    called = function.get_call_type(typing, (types.intp, *arguments), {})

    def codegen(context, builder, signature, args):
        implementation = context.get_function(function, called)
        _, stop, packed = args
        values = [builder.extract_value(packed, i) for i in range(len(arguments))]
        before, body, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        zero, one = ir.Constant(stop.type, 0), ir.Constant(stop.type, 1)
        builder.cbranch(builder.icmp_signed("<", zero, stop), body, after)
        builder.position_at_end(body)
        lane = builder.phi(stop.type)
        lane.add_incoming(zero, before)
        implementation(builder, [lane, *values])
        following = builder.add(lane, one, flags=("nsw",))
        lane.add_incoming(following, builder.block)
        branch = builder.cbranch(builder.icmp_signed("<", following, stop), body, after)
        branch.set_metadata("llvm.loop", _interleaved(builder.module, arguments))
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(function, types.intp, arguments), codegen


@lowered(keep_apart)
def _(typing):
    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@lowered(widest_vectors)
def _(typing):
    def codegen(context, builder, signature, args):
        attributes = builder.function.attributes
        attributes.add("noinline")  # the caller, without the attribute, would win
        # LLVM prefers 256 bits on processors with 512, and llvmlite does not know this attribute; measured
        # on CartPole, the lane loops gain a third.
        set.add(attributes, f'"prefer-vector-width"="{64 * VECTOR}"')
        # The registers that overflow are put on the stack. Without this it is aligned to 16 bytes, and where
        # it happens to begin off a cache line's boundary each of those vectors straddles two: measured, a
        # quarter of the speed, in three processes of four.
        set.add(attributes, '"stackrealign"')
        return context.get_dummy_value()

    return types.void(), codegen
