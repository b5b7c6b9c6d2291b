"""Many copies of one environment, stepped together with actions from outside.

The lanes of `fastpg.lanes`, kept between calls and told what to do: the engine below the Gymnasium
interfaces. Environment i of a seed has in its first episode the random numbers of trajectory i of that
seed, and in episode e those of trajectory e · 2³² + i.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from fastpg.dispatch import inline, inner, kernel, lowered, outline
from fastpg.lane_loop import for_each_lane, keep_apart, widest_vectors
from fastpg.lane_memory import last_flag, leaf_types, put, take, write
from fastpg.lanes import as_observation
from fastpg.parallel import in_parallel, pack, unpack
from fastpg.random import Rng, next_step, steps_later, trajectory_rng
from fastpg.tables import load_from_table, lookup
from fastpg.vectors import store_record

EPISODE_BITS = 32
TERMINATED, TRUNCATED, BEGUN = 1, 2, 4  # the bits of an outcome
_EACH = np.uint64(0x0101010101010101)  # the lowest bit of eight bytes
_EIGHT_BEGUN, _BYTE, _ONE = np.uint64(BEGUN * 0x0101010101010101), np.uint64(255), np.uint64(1)


class Seat(NamedTuple):
    """What a lane holds: an environment."""

    state: Any
    rng: Rng  # of the episode's first step: never written again, and read where a step draws
    time: int


def action_at(actions, i, like):
    """Return action i of a batch: an integer, or as many numbers as `like` has."""


@lowered(action_at)
def _(typing, actions, i, like):
    result = like if isinstance(like, types.BaseTuple) else actions.dtype

    def codegen(context, builder, signature, args):
        data = context.make_array(actions)(context, builder, args[0]).data

        def load(index):
            number = load_from_table(builder, builder.gep(data, [index], inbounds=True))
            return context.cast(builder, number, actions.dtype, like[0])

        if not isinstance(like, types.BaseTuple):
            return load_from_table(builder, builder.gep(data, [args[1]], inbounds=True))
        width = ir.Constant(ir.IntType(64), len(like))
        start = builder.mul(args[1], width, flags=("nsw",))
        values = [
            load(builder.add(start, ir.Constant(start.type, k), flags=("nsw",))) for k in range(len(like))
        ]
        return context.make_tuple(builder, like, values)

    return result(actions, types.intp, like), codegen


def write_observation(observations, i, observation):
    """Write an observation into row i of a batch, in the batch's type."""


@lowered(write_observation)
def _(typing, observations, i, observation):
    def codegen(context, builder, signature, args):
        store_record(context, builder, observations, args[0], args[1], observation, args[2])
        return context.get_dummy_value()

    return types.void(observations, types.intp, observation), codegen


def write_kinds(kinds, like):
    """Write into an array what each number in a state is: 0 a boolean, 1 an integer, 2 a float."""


@lowered(write_kinds)
def _(typing, kinds, like):
    def codegen(context, builder, signature, args):
        data = context.make_array(kinds)(context, builder, args[0]).data
        for i, ty in enumerate(leaf_types(like)):
            kind = 2 if isinstance(ty, types.Float) else 0 if isinstance(ty, types.Boolean) else 1
            builder.store(
                ir.Constant(ir.IntType(8), kind), builder.gep(data, [ir.Constant(ir.IntType(64), i)])
            )
        return context.get_dummy_value()

    return types.void(kinds, like), codegen


class Keep(NamedTuple):
    """What is kept between steps, an element for each environment."""

    keys: np.ndarray
    numbers: np.ndarray  # of the next episode
    over: np.ndarray  # whose episode has ended
    over_by_eight: np.ndarray  # the same memory
    outcomes: np.ndarray  # a byte each: TERMINATED | TRUNCATED, or BEGUN
    outcomes_by_eight: np.ndarray
    kinds: np.ndarray  # of the numbers in a state


class Output(NamedTuple):
    """What comes out of a step, for each environment; the last two a byte each, by eight."""

    observations: np.ndarray
    final_observations: np.ndarray  # of who has ended, if the last step of an episode begins the next
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


@inline
def start_of(env, key, number):
    """Return an environment at the start of the episode with that number."""
    rng = trajectory_rng(key, number)
    return Seat(env.reset(rng), next_step(rng), 0)


@inline
def _seen(env, memory, lane, like):
    """Return what an environment shows."""
    return as_observation(env.observe(take(memory, lane, like).state))


@inline
def _step_seat(lane, env, memory, actions, restart, shown, first, horizon, like, like_action):
    observations, rewards, outcomes = shown
    i = first + lane
    seat = take(memory, lane, like)
    begins = lookup(restart, i)
    # Who begins an episode is stepped with the others, but from a state that has a step, and not for good.
    state = like.state if begins else seat.state
    action = action_at(actions, i, like_action)
    state, reward, terminated = env.step(state, action, steps_later(seat.rng, seat.time))
    time = seat.time + 1
    write(observations, i, as_observation(env.observe(state)), like)  # now: its arrays may lie in the lane
    put(memory, lane, Seat(state, seat.rng, time), like)
    outcome = (TERMINATED if terminated else 0) | (TRUNCATED if time >= horizon else 0)
    write(rewards, i, 0.0 if begins else reward * 1.0, like)
    write(outcomes, i, BEGUN if begins else outcome, like)


@outline
def step_seats(env, memory, actions, restart, shown, first, n_lanes, horizon, like, like_action):
    """Step the first `n_lanes` lanes, which are environments number `first` on.

    `shown` are the arrays of observations, rewards and outcomes.
    """
    widest_vectors()
    arguments = (env, memory, actions, restart, shown, first, horizon, like, like_action)
    for_each_lane(_step_seat, n_lanes, arguments)


@outline
def _put_at_start(env, memory, lane, key, number, like):
    """Put an environment into a lane at the start of an episode."""
    keep_apart()
    put(memory, lane, start_of(env, key, number), like)


@outline
def _drive_share(parcel, share):
    """Drive the lanes of some chunks: many, for the way here takes as long as some 50 steps."""
    settings, (actions, restart), keep, output = unpack(parcel)
    env, like_action, all_memory, lanes, share_size, stepping, same_step, horizon = settings
    # By name, once: every access to an array within a tuple counts a reference.
    keys, numbers, over, over_by_eight, outcomes, outcomes_by_eight, _ = keep
    observations, final, rewards, terminated, truncated = output
    like = start_of(env, keys[0], 0)
    for chunk in range(share * share_size, min((share + 1) * share_size, len(all_memory))):
        memory = all_memory[chunk]
        first = chunk * lanes
        n_lanes = min(lanes, len(over) - first)
        if stepping:
            shown = observations, rewards, outcomes
            step_seats(env, memory, actions, restart, shown, first, n_lanes, horizon, like, like_action)
        else:
            for lane in range(n_lanes):
                begins = restart[first + lane]
                outcomes[first + lane] = BEGUN if begins else 0
                over[first + lane] &= not begins
                if not begins:  # a state may have been set from outside
                    write(observations, first + lane, _seen(env, memory, lane, like), like)
        for eight in range(n_lanes >> 3):  # at a glance
            word = (first >> 3) + eight
            bits = outcomes_by_eight[word]
            if stepping:
                terminated[word] = bits & _EACH
                truncated[word] = (bits >> _ONE) & _EACH
                over_by_eight[word] = (bits | (bits >> _ONE)) & _EACH
            starting = bits if same_step else bits & _EIGHT_BEGUN
            while starting != 0:
                position = last_flag(starting)
                starting &= ~(_BYTE << np.uint64(8 * position))
                lane, i = 8 * eight + position, 8 * word + position
                if outcomes[i] != BEGUN:
                    write(final, i, _seen(env, memory, lane, like), like)
                _put_at_start(env, memory, lane, keys[i], numbers[i], like)
                numbers[i] += 1 << EPISODE_BITS
                write(observations, i, _seen(env, memory, lane, like), like)


@inner
def _are_allowed(actions, lowest, highest):
    """Whether all actions are within bounds, which a NaN is not."""
    allowed = True
    for action in actions:
        allowed &= (action >= lowest) & (action <= highest)
    return allowed


@kernel
def drive(
    env,
    like_action,
    memory,
    lanes,
    share_size,
    keep,
    output,
    actions,
    bounds,
    restart,
    stepping,
    same_step,
    horizon,
    parallel,
):
    """Step all environments, or none, and begin a new episode where `restart` says so instead.

    With `same_step` those whose episode is over begin the next at once. Returns whether all actions are
    within `bounds`; if not, nothing is done.
    """
    if stepping and not _are_allowed(actions, bounds[0], bounds[1]):
        return False
    write_kinds(keep.kinds, start_of(env, keep.keys[0], 0).state)
    settings = env, like_action, memory, lanes, share_size, stepping, same_step, horizon
    parcel = pack((settings, (actions, restart), keep, output))
    shares = -(-memory.shape[0] // share_size)
    if parallel:
        in_parallel(_drive_share, parcel, shares)
    else:
        for share in range(shares):
            _drive_share(parcel, share)
    return True
