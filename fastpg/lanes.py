"""Trajectories in lock-step: the compiled heart of fastpg.

A thread simulates L trajectories ("lanes") at once. The loop over lanes is innermost and its body is a
whole time step, so LLVM turns it into SIMD code (`fastpg.lane_loop`). A lane whose trajectory ends is
handed to the accumulator and starts the next trajectory; when none is left, the last lane moves into its
place, so no lane in use is ever idle or masked. Up to the next multiple of the vector width, copies of a
live lane fill the last vector; nobody counts them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed

from fastpg import vectors
from fastpg.dispatch import driver, inner, kernel, lowered, outline
from fastpg.lane_arrays import check_array_type
from fastpg.lane_loop import for_each_lane, widest_vectors
from fastpg.lane_memory import (
    allocate,
    flag,
    holds_arrays,
    lane_count,
    last_bit,
    put,
    raised,
    take,
    vector_lanes,
    zero,
)
from fastpg.neural_lanes import behavior_of, in_lane, new_sight, outputs_of, rows_at, rows_like
from fastpg.parallel import borrowed, in_parallel, keep, pack, unpack
from fastpg.precision import as_precise_as, lane_parameters, widened
from fastpg.random import Rng, next_step, policy_rng, rng_for, seed_key, trajectory_rng
from fastpg.records import (
    final_score,
    looks_at_steps,
    move_record,
    new_factor,
    new_record,
    prepare_scores,
    settle_scores,
    write_mark,
    write_record,
)
from fastpg.running_sums import put_increments, take_increments
from fastpg.scores import acted, note, running_score


class Trajectory(NamedTuple):
    """What a lane holds: one trajectory under way."""

    state: Any  # the environment's NamedTuple
    action: Any
    rng: Rng
    time: int  # steps taken
    number: int  # within the call, from 0
    trace: Any  # what the accumulator carries along the trajectory
    factor: Any  # of the last action's score, where trajectories are recorded; or the visit of a table
    rows: Any  # the outputs of a neural policy at the state


def as_observation(observation):
    """Return what `observe` returned as policies take it: a tuple of numbers as a vector of float64.

    An integer, or an array (an image), stays what it is.
    """
    return vectors.floats(observation) if isinstance(observation, tuple) else observation


@lowered(as_observation)
def _(typing, observation):
    result = (
        vectors.float_vector(len(observation), observation)
        if isinstance(observation, types.BaseTuple)
        else observation
    )

    if isinstance(observation, types.Array):
        check_array_type(observation)
        if observation.ndim == 1:
            raise TypingError("an observation of one axis must be a tuple of numbers, not an array")

    def codegen(context, builder, signature, args):
        if isinstance(observation, types.Array):
            return impl_ret_borrowed(context, builder, observation, args[0])
        return context.cast(builder, args[0], observation, result)

    return result(observation), codegen


@inner
def begin(env, policy, theta, accumulator, key, base, number):
    """Return trajectory number `base + number` of a seed at its start."""
    rng = rng_for(theta, trajectory_rng(key, base + number))
    state = as_precise_as(theta, env.reset(rng))
    rng = next_step(rng)
    # For their types alone: `act` chooses the first action.
    observation = as_observation(env.observe(state))
    rows = zero(rows_like(policy, behavior_of(accumulator)))
    seen = in_lane(policy, theta, rows)
    action = zero(accumulator.choose(policy, seen, observation, policy_rng(rng)))
    score = zero(running_score(policy, seen, observation, action))
    factor = zero(new_factor(policy, seen, observation, action))
    return Trajectory(state, action, rng, 0, number, accumulator.start(score), factor, rows)


@inner
def restart(env, theta, like, key, base, number):
    """Return what `begin` would: all trajectories of a kind begin with the same action and trace."""
    rng = rng_for(theta, trajectory_rng(key, base + number))
    state, rng = as_precise_as(theta, env.reset(rng)), next_step(rng)
    return Trajectory(state, like.action, rng, 0, number, like.trace, like.factor, like.rows)


@inner
def act(env, policy, theta, accumulator, trajectory):
    """Observe, choose an action, and take its score: half a time step."""
    state, _, rng, time, number, trace, _, rows = trajectory
    observation = as_observation(env.observe(state))
    seen = in_lane(policy, theta, rows)
    action = accumulator.choose(policy, seen, observation, policy_rng(rng))
    trace = acted(accumulator, policy, seen, trace, observation, action, time)
    factor = new_factor(policy, seen, observation, action)
    return Trajectory(state, action, rng, time, number, trace, factor, rows)


@inner
def move(env, accumulator, trajectory, horizon):
    """Let the environment answer: the other half. Return the trajectory and whether it is finished."""
    state, action, rng, time, number, trace, factor, rows = trajectory
    state, reward, terminated = env.step(state, action, rng)
    time += 1
    trace = accumulator.rewarded(trace, widened(reward * 1.0))
    moved = Trajectory(state, action, next_step(rng), time, number, trace, factor, rows)
    return moved, bool(terminated) | (time >= horizon)


@inner
def _whole_vectors(n_lanes, like):
    return n_lanes if holds_arrays(like) else (n_lanes + (vector_lanes(like) - 1)) & -vector_lanes(like)


@inner
def _fill_last_vector(memory, n_lanes, like):
    if n_lanes > 0:
        for lane in range(n_lanes, _whole_vectors(n_lanes, like)):
            put(memory, lane, take(memory, 0, like), like)


@inner
def _act_in_lane(lane, env, policy, theta, accumulator, horizon, memory, like):
    trajectory = act(env, policy, theta, accumulator, take_increments(memory, lane, like))
    put_increments(memory, lane, trajectory, like)


@inner
def _move_in_lane(lane, env, policy, theta, accumulator, horizon, memory, like):
    trajectory, done = move(env, accumulator, take_increments(memory, lane, like), horizon)
    put_increments(memory, lane, trajectory, like)
    flag(memory, lane, done, like)


@inner
def _record_lanes(env, accumulator, record, totals, horizon, memory, n_lanes, like):
    if looks_at_steps(accumulator, record):
        for lane in range(n_lanes):
            trajectory = take(memory, lane, like)
            observation = as_observation(env.observe(trajectory.state))
            write_record(record, lane, horizon, trajectory, observation)
            write_mark(accumulator, record, lane, horizon, trajectory, observation)
            note(accumulator, totals, trajectory, observation)


@inner
def _look(env, policy, theta, accumulator, memory, n_lanes, like, sight):
    """Give each lane its row of a neural policy's outputs."""
    if sight is not None:
        x = sight[0]
        n, flat = x.shape[1], x.reshape(x.size)
        for lane in range(n_lanes):
            vectors.store(flat, lane * n, as_observation(env.observe(take(memory, lane, like).state)))
        outputs = outputs_of(policy, theta, behavior_of(accumulator), x[:n_lanes], sight)
        for lane in range(n_lanes):
            state, action, rng, time, number, trace, factor, _ = take(memory, lane, like)
            rows = rows_at(outputs, lane, like.rows)
            put(memory, lane, Trajectory(state, action, rng, time, number, trace, factor, rows), like)


@inner
def _anyone_finished(memory, n_lanes, like):
    bits = raised(memory, 0, like)
    for block in range(1, (n_lanes + 63) >> 6):
        bits |= raised(memory, block, like)
    return bits != 0


@outline
def sweep(parcel, n_lanes):
    """Advance the first `n_lanes` lanes, rounded up to whole vectors, until one is finished.

    In the parcel is what all sweeps of a chunk have in common: hundreds of numbers, that would be arguments.
    Return the number of steps; it is 1 if somebody looks at every step, or a network's outputs are needed.

    Two loops, not one: their dependency chains are half as long, so the processor overlaps more
    lanes, which was measured to outweigh loading and storing the state twice. And a third around them, so
    that what does not change is spread over vectors, some seventy of them, once and not before every step.
    """
    widest_vectors()
    env, policy, theta, accumulator, horizon, memory, like, record, totals = unpack(parcel)
    n_used = n_lanes
    n_lanes = _whole_vectors(n_lanes, like)
    arguments = (env, policy, theta, accumulator, horizon, memory, like)
    n_steps = 0
    while True:
        for_each_lane(_act_in_lane, n_lanes, arguments)
        _record_lanes(env, accumulator, record, totals, horizon, memory, n_used, like)
        for_each_lane(_move_in_lane, n_lanes, arguments)
        n_steps += 1
        if (
            looks_at_steps(accumulator, record)
            or len(like.rows) > 0
            or _anyone_finished(memory, n_lanes, like)
        ):
            return n_steps


@driver
def simulate(parcel, chunk):
    """Run a chunk's trajectories to their ends, add them to its row of `totals`, and note the steps."""
    call, all_totals, all_steps = unpack(parcel)
    env, policy, theta, accumulator, horizon, key, base, first, end, size = call
    theta = lane_parameters(theta)
    start = first + chunk * size
    stop = end if end < start + size else start + size
    totals = all_totals[chunk]
    like = begin(env, policy, theta, accumulator, key, base, start)
    observation = as_observation(env.observe(like.state))
    owners = (
        allocate(like),
        new_record(policy, theta, accumulator, like, observation, horizon),
        new_sight(policy, theta, behavior_of(accumulator), observation, lane_count(like)),
    )
    memory, record, sight = borrowed(owners)
    n_lanes = lane_count(like) if lane_count(like) < stop - start else stop - start
    following = start + n_lanes
    n_steps = 0
    for lane in range(n_lanes):
        put(memory, lane, restart(env, theta, like, key, base, start + lane), like)
    _fill_last_vector(memory, n_lanes, like)
    parcel = pack((env, policy, theta, accumulator, horizon, memory, like, record, totals))
    while n_lanes > 0:
        _look(env, policy, theta, accumulator, memory, n_lanes, like, sight)
        n_steps += n_lanes * sweep(parcel, n_lanes)
        prepare_scores(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation)
        # Downwards, so that the lane which moves into a gap has had its turn.
        for block in range((n_lanes - 1) >> 6, -1, -1):
            finished = raised(memory, block, like)
            if finished == 0:
                continue
            while finished != 0:
                position = last_bit(finished)
                finished ^= np.uint64(1) << np.uint64(position)
                lane = 64 * block + position
                if lane >= n_lanes:  # one of the copies that fill the last vector
                    continue
                trajectory = widened(take(memory, lane, like))
                score = final_score(
                    policy, theta, accumulator, trajectory, record, lane, horizon, observation
                )
                accumulator.finish(totals, trajectory, score)
                if following < stop:
                    put(memory, lane, restart(env, theta, like, key, base, following), like)
                    following += 1
                else:
                    n_lanes -= 1
                    last = take(memory, n_lanes, like)
                    put(memory, lane, last, like)
                    move_record(record, n_lanes, lane, horizon, last, observation)
            if following == stop:
                _fill_last_vector(memory, n_lanes, like)
    settle_scores(policy, record)
    keep(owners)
    all_steps[chunk] = n_steps


@kernel
def simulate_chunks(env, policy, theta, accumulator, horizon, seed, base, start, stop, size, totals, n_steps):
    """Run trajectories `start` to `stop - 1` in chunks of `size`, in parallel, a row of `totals` each."""
    call = env, policy, theta, accumulator, horizon, seed_key(seed), base, start, stop, size
    in_parallel(simulate, pack((call, totals, n_steps)), totals.shape[0])
