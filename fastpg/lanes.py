"""Trajectories in lock-step: the compiled heart of fastpg.

A thread simulates L trajectories ("lanes") at once. The loop over lanes is innermost and its body is a
whole time step, so LLVM turns it into SIMD code. All that belongs to a trajectory is one NamedTuple,
taken out of its lane, replaced, and put back; in memory every float or integer of it is a row of L
numbers in one flat buffer, ``buffer[row * L + lane]`` with `row` and `L` compile-time constants, which
lets LLVM see that the rows do not overlap. A lane whose trajectory ends is handed to the accumulator
and starts the next trajectory; when none is left, the last lane moves into its place, so no lane in use
is ever idle or masked. Up to the next multiple of the vector width, copies of a live lane fill the last
vector; nobody counts them.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, lower_builtin, type_callable

from fastpg import vectors
from fastpg.dispatch import compiled_form, inline, kernel, outline
from fastpg.random import Rng, next_step, policy_rng, seed_key, trajectory_rng

MAX_LANES = 128
_VECTOR = 8  # float64 in the widest vectors (AVX-512)
_INTERLEAVE = 2  # vectors at a time; 4 is no faster
_LANES_BYTES = 24 * 1024  # of a 32 KiB first-level data cache


class Trajectory(NamedTuple):
    """What a lane holds: one trajectory under way."""

    state: Any  # the environment's NamedTuple
    action: Any
    rng: Rng
    time: int  # steps taken
    number: int  # within the call, from 0
    trace: Any  # what the accumulator carries along the trajectory


# --- the memory of the lanes: a list of Trajectory in ordinary Python, rows of numbers when compiled ---


def allocate(like):
    """Return memory for `lane_count` trajectories of the type of `like`."""
    return [like] * lane_count(like)


def lane_count(like):
    """Return L, the number of lanes: a power of two that keeps the rows in the first-level cache."""
    return 16


def take(memory, lane, like):
    """Return the trajectory in a lane."""
    return memory[lane]


def put(memory, lane, trajectory, like):
    """Put a trajectory into a lane."""
    memory[lane] = trajectory


def _leaf_types(ty):
    """The scalar types in a nest of tuples, in order: a row of the memory each."""
    if isinstance(ty, types.BaseTuple):
        return [leaf for item in ty for leaf in _leaf_types(item)]
    if not isinstance(ty, types.Float | types.Integer | types.Boolean):
        raise TypingError(f"a trajectory may hold floats, integers and booleans, not {ty}")
    return [ty]


def _lane_count(ty):
    count = MAX_LANES
    while count > 16 and len(_leaf_types(ty)) * count * 8 > _LANES_BYTES:
        count //= 2
    return count


def _slot(context, builder, array_type, array, lane, row, count, llvm_type):
    """The address of a number: base + (row · L + lane) · 8, and no bounds or wraparound to check."""
    data = context.make_array(array_type)(context, builder, array).data
    index = builder.add(lane, ir.Constant(lane.type, row * count), flags=("nsw",))
    return builder.bitcast(builder.gep(data, [index], inbounds=True), llvm_type.as_pointer())


def _independent(builder, access, row, rows):
    """Tell LLVM that a row's loads and stores never meet those of another row, nor the flags (row -1)."""
    module = builder.module
    domain = module.add_metadata(["fastpg.lanes"])
    scopes = [module.add_metadata([f"fastpg.lanes.row{r}", domain]) for r in range(-1, rows)]
    access.set_metadata("alias.scope", module.add_metadata([scopes.pop(row + 1)]))
    access.set_metadata("noalias", module.add_metadata(scopes))
    return access


def _row_type(leaf):
    return ir.DoubleType() if isinstance(leaf, types.Float) else ir.IntType(64)


@intrinsic
def _counts(typing, like):
    rows, count = len(_leaf_types(like)), _lane_count(like)

    def codegen(context, builder, signature, args):
        return cgutils.pack_array(builder, [context.get_constant(types.intp, n) for n in (rows, count)])

    return types.UniTuple(types.intp, 2)(like), codegen


@intrinsic
def _take(typing, memory, lane, like):
    count, rows = _lane_count(like), len(_leaf_types(like))

    def codegen(context, builder, signature, args):
        row = 0

        def build(ty):
            nonlocal row
            if isinstance(ty, types.BaseTuple):
                value = cgutils.get_null_value(context.get_value_type(ty))
                for i, item in enumerate(ty):
                    value = builder.insert_value(value, build(item), i)
                return value
            slot = _slot(context, builder, memory, args[0], args[1], row, count, _row_type(ty))
            value, wanted = _independent(builder, builder.load(slot), row, rows), context.get_value_type(ty)
            row += 1
            if isinstance(ty, types.Float):
                return context.cast(builder, value, types.float64, ty)
            return value if value.type == wanted else builder.trunc(value, wanted)

        return build(like)

    return like(memory, types.intp, like), codegen


@intrinsic
def _put(typing, memory, lane, trajectory, like):
    count, rows = _lane_count(like), len(_leaf_types(like))
    if not _fits(trajectory, like):
        changed = [
            f"{field} is {new} where it was {old}"
            for field, new, old in zip(like.fields, trajectory, like, strict=True)
            if not _fits(new, old)
        ]
        raise TypingError(f"the type of a trajectory must not change along its steps: {'; '.join(changed)}")

    def codegen(context, builder, signature, args):
        row = 0

        def scatter(ty, like, value):
            nonlocal row
            if isinstance(ty, types.BaseTuple):
                for i, (item, like_item) in enumerate(zip(ty, like, strict=True)):
                    scatter(item, like_item, builder.extract_value(value, i))
                return
            value = context.cast(builder, value, ty, like)
            row_type = _row_type(like)
            if isinstance(like, types.Float):
                value = context.cast(builder, value, like, types.float64)
            elif value.type != row_type:
                value = builder.zext(value, row_type)
            slot = _slot(context, builder, memory, args[0], args[1], row, count, row_type)
            _independent(builder, builder.store(value, slot), row, rows)
            row += 1

        scatter(trajectory, like, args[2])
        return context.get_dummy_value()

    return types.void(memory, types.intp, trajectory, like), codegen


@intrinsic
def _flag(typing, finished, lane, value, like):
    rows = len(_leaf_types(like))

    def codegen(context, builder, signature, args):
        data = context.make_array(finished)(context, builder, args[0]).data
        store = builder.store(
            builder.zext(args[2], ir.IntType(8)), builder.gep(data, [args[1]], inbounds=True)
        )
        _independent(builder, store, -1, rows)
        return context.get_dummy_value()

    return types.void(finished, types.intp, types.boolean, like), codegen


@intrinsic
def _last_flag(typing, flags):
    def codegen(context, builder, signature, args):
        zeros = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(zeros.type, 7), builder.lshr(zeros, ir.Constant(zeros.type, 3)))

    return types.int64(types.uint64), codegen


@intrinsic
def _zero(typing, like):
    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(like), None)

    return like(like), codegen


def _interleaved(module):
    """Loop metadata: work on _INTERLEAVE vectors of lanes at a time, each operation for all of them."""
    count = ir.Constant(ir.IntType(32), _INTERLEAVE)
    request = module.add_metadata(["llvm.loop.interleave.count", count])
    # A loop's metadata names itself first, which keeps that of two loops apart.
    loop = module.add_metadata([request, ir.MetaDataString(module, f"lanes {len(module.metadata)}")])
    loop.operands = (loop, request)
    return loop


def _fits(ty, like):
    """Whether a value may be stored where `like` was: the same nest, integers may become floats."""
    if isinstance(ty, types.BaseTuple) and isinstance(like, types.BaseTuple):
        same_class = getattr(ty, "instance_class", None) is getattr(like, "instance_class", None)
        return same_class and len(ty) == len(like) and all(map(_fits, ty, like))
    kinds = (types.Boolean, types.Integer, types.Float)
    rank = [next((i for i, kind in enumerate(kinds) if isinstance(t, kind)), None) for t in (ty, like)]
    return None not in rank and rank[0] <= rank[1]


@compiled_form(allocate)
def _(like):
    def allocate(like):
        rows, count = _counts(like)
        # On a cache line's boundary: a vector of 512 bits is a line, and would otherwise straddle two.
        buffer = np.empty(rows * count + _VECTOR)
        start = (-(buffer.ctypes.data >> 3)) & (_VECTOR - 1)
        return buffer[start : start + rows * count]

    return allocate


@compiled_form(lane_count)
def _(like):
    return lambda like: _counts(like)[1]


@compiled_form(take)
def _(memory, lane, like):
    return lambda memory, lane, like: _take(memory, lane, like)


@compiled_form(put)
def _(memory, lane, trajectory, like):
    return lambda memory, lane, trajectory, like: _put(memory, lane, trajectory, like)


def flag(finished, lane, value, like):
    """Note whether the trajectory in a lane is finished."""
    finished[lane] = value


def last_flag(flags):
    """Return the number of the last of eight flags that is set, from their 64 bits, which are not all 0."""
    return (int(flags).bit_length() - 1) >> 3


def zero(like):
    """Return a value of the type of `like`, whatever it is."""
    return like


def for_each_lane(function, n_lanes, arguments):
    """Call ``function(lane, *arguments)`` for lanes 0 to n_lanes - 1, which must not meet in memory.

    The plain loop, but for a request to LLVM: the chain of dependent operations in one time step is
    long, so the processor idles unless several vectors are under way at once.
    """
    for lane in range(n_lanes):
        function(lane, *arguments)


@compiled_form(flag)
def _(finished, lane, value, like):
    return lambda finished, lane, value, like: _flag(finished, lane, value, like)


@compiled_form(last_flag)
def _(flags):
    return lambda flags: _last_flag(flags)


@compiled_form(zero)
def _(like):
    return lambda like: _zero(like)


@type_callable(for_each_lane)
def _(context):
    def typer(function, n_lanes, arguments):
        function.get_call_type(context, (types.intp, *arguments), {})
        return types.void

    return typer


@lower_builtin(for_each_lane, types.Any, types.Any, types.Any)
def _(context, builder, signature, args):
    function, _, arguments = signature.args
    called = function.get_call_type(context.typing_context, (types.intp, *arguments), {})
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
    branch.set_metadata("llvm.loop", _interleaved(builder.module))
    builder.position_at_end(after)
    return context.get_dummy_value()


def widest_vectors():
    """Ask LLVM for the processor's widest vectors in the calling function, which is not inlined."""


@type_callable(widest_vectors)
def _(context):
    return lambda: types.void


@lower_builtin(widest_vectors)
def _(context, builder, signature, args):
    attributes = builder.function.attributes
    attributes.add("noinline")  # the caller, without the attribute, would win
    # LLVM prefers 256 bits on processors with 512, and llvmlite does not know this attribute; measured
    # on CartPole, the lane loops gain a third.
    set.add(attributes, '"prefer-vector-width"="512"')
    return context.get_dummy_value()


# --- one step of one trajectory, and the loops over lanes, trajectories and chunks ---


def observation_of(env, state):
    """Return ``env.observe(state)``: a vector of float64, or an integer."""
    observation = env.observe(state)
    return vectors.floats(observation) if isinstance(observation, tuple) else observation


@compiled_form(observation_of)
def _(env, state):
    # A tuple of numbers becomes a vector whatever they are; Numba decides on the type alone.
    def observation_of(env, state):
        return _as_observation(env.observe(state))

    return observation_of


def _as_observation(observation):
    return observation


@compiled_form(_as_observation)
def _(observation):
    if isinstance(observation, types.BaseTuple):
        return lambda observation: vectors.floats(observation)
    return lambda observation: observation


def running_score(policy, theta, observation, action):
    """Return what is added up of the score: ``policy.running_score``, or all of it."""
    if hasattr(policy, "running_score"):
        return policy.running_score(theta, observation, action)
    return policy.score(theta, observation, action)


def whole_score(policy, theta, running):
    """Return the score from its `running_score`."""
    return policy.whole_score(theta, running) if hasattr(policy, "whole_score") else running


@compiled_form(running_score)
def _(policy, theta, observation, action):
    if hasattr(policy.instance_class, "running_score"):
        return lambda policy, theta, observation, action: policy.running_score(theta, observation, action)
    return lambda policy, theta, observation, action: policy.score(theta, observation, action)


@compiled_form(whole_score)
def _(policy, theta, running):
    if hasattr(policy.instance_class, "whole_score"):
        return lambda policy, theta, running: policy.whole_score(theta, running)
    return lambda policy, theta, running: running


@inline
def begin(env, policy, theta, accumulator, key, base, number):
    """Return trajectory number `base + number` of a seed at its start."""
    rng = trajectory_rng(key, base + number)
    state = env.reset(rng)
    rng = next_step(rng)
    # For their types alone: `act` chooses the first action.
    observation = observation_of(env, state)
    action = zero(accumulator.choose(policy, theta, observation, policy_rng(rng)))
    score = zero(running_score(policy, theta, observation, action))
    return Trajectory(state, action, rng, 0, number, accumulator.start(score))


@inline
def restart(env, like, key, base, number):
    """Return what `begin` would: all trajectories of a kind begin with the same action and trace."""
    rng = trajectory_rng(key, base + number)
    return Trajectory(env.reset(rng), like.action, next_step(rng), 0, number, like.trace)


@inline
def act(env, policy, theta, accumulator, trajectory):
    """Observe, choose an action, and take its score: half a time step."""
    observation = observation_of(env, trajectory.state)
    action = accumulator.choose(policy, theta, observation, policy_rng(trajectory.rng))
    score = running_score(policy, theta, observation, action)
    trace = accumulator.acted(trajectory.trace, score)
    return Trajectory(trajectory.state, action, trajectory.rng, trajectory.time, trajectory.number, trace)


@inline
def move(env, accumulator, trajectory, horizon):
    """Let the environment answer: the other half. Return the trajectory and whether it is finished."""
    state, reward, terminated = env.step(trajectory.state, trajectory.action, trajectory.rng)
    time = trajectory.time + 1
    trace = accumulator.rewarded(trajectory.trace, reward * 1.0)
    moved = Trajectory(state, trajectory.action, next_step(trajectory.rng), time, trajectory.number, trace)
    return moved, bool(terminated) | (time >= horizon)


@inline
def _whole_vectors(n_lanes):
    return (n_lanes + (_VECTOR - 1)) & -_VECTOR


@inline
def _fill_last_vector(memory, n_lanes, like):
    if n_lanes > 0:
        for lane in range(n_lanes, _whole_vectors(n_lanes)):
            put(memory, lane, take(memory, 0, like), like)


@inline
def _act_in_lane(lane, env, policy, theta, accumulator, horizon, memory, finished, like):
    put(memory, lane, act(env, policy, theta, accumulator, take(memory, lane, like)), like)


@inline
def _move_in_lane(lane, env, policy, theta, accumulator, horizon, memory, finished, like):
    trajectory, done = move(env, accumulator, take(memory, lane, like), horizon)
    put(memory, lane, trajectory, like)
    flag(finished, lane, done, like)


@outline
def sweep(env, policy, theta, accumulator, horizon, memory, finished, n_lanes, like):
    """Advance the first `n_lanes` lanes, rounded up to whole vectors, by one step.

    Two loops, not one: their dependency chains are half as long, so the processor overlaps more
    lanes, which was measured to outweigh loading and storing the state twice.
    """
    widest_vectors()
    n_lanes = _whole_vectors(n_lanes)
    arguments = (env, policy, theta, accumulator, horizon, memory, finished, like)
    for_each_lane(_act_in_lane, n_lanes, arguments)
    for_each_lane(_move_in_lane, n_lanes, arguments)


@outline
def simulate(env, policy, theta, accumulator, horizon, key, base, start, stop, totals):
    """Run trajectories `start` to `stop - 1` to their ends, add them to `totals`, return the steps."""
    like = begin(env, policy, theta, accumulator, key, base, start)
    memory = allocate(like)
    finished = np.zeros(lane_count(like), np.bool_)
    eights = finished.view(np.uint64)  # most of the time nobody is finished: eight flags at a glance
    n_lanes = min(lane_count(like), stop - start)
    following = start + n_lanes
    n_steps = 0
    for lane in range(n_lanes):
        put(memory, lane, restart(env, like, key, base, start + lane), like)
    _fill_last_vector(memory, n_lanes, like)
    while n_lanes > 0:
        n_steps += n_lanes
        sweep(env, policy, theta, accumulator, horizon, memory, finished, n_lanes, like)
        # Downwards, so that the lane which moves into a gap has had its turn.
        for eight in range((n_lanes - 1) >> 3, -1, -1):
            flags = eights[eight]
            if flags == 0:
                continue
            while flags != 0:
                position = last_flag(flags)
                flags ^= np.uint64(1) << np.uint64(8 * position)
                lane = 8 * eight + position
                if lane >= n_lanes:  # one of the copies that fill the last vector
                    continue
                trajectory = take(memory, lane, like)
                accumulator.finish(policy, theta, totals, trajectory)
                if following < stop:
                    put(memory, lane, restart(env, like, key, base, following), like)
                    following += 1
                else:
                    n_lanes -= 1
                    put(memory, lane, take(memory, n_lanes, like), like)
            if following == stop:
                _fill_last_vector(memory, n_lanes, like)
    return n_steps


@kernel
def simulate_chunks(env, policy, theta, accumulator, horizon, seed, base, start, stop, size, totals, n_steps):
    """Run trajectories `start` to `stop - 1` in chunks of `size`, in parallel, a row of `totals` each."""
    key = seed_key(seed)
    for chunk in prange(totals.shape[0]):
        first = start + chunk * size
        last = min(stop, first + size)
        n_steps[chunk] = simulate(
            env, policy, theta, accumulator, horizon, key, base, first, last, totals[chunk]
        )
