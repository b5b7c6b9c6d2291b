"""Recorded trajectories, and their scores, put together at the end.

For each step the lane notes the observation and the `factor` of the score, from which the policy's `spread`
makes the score when the trajectory is complete. If the policy has `recorded_score`, that makes the score of
all steps at once, in compiled code; of a table less is noted (`fastpg.visits`).
"""

import numpy as np
from numba import types
from numba.core import cgutils

from fastpg import moments, score_queue, vectors, visits
from fastpg.dispatch import compiled_form, compiled_only, inner, lowered
from fastpg.lane_memory import lane_count
from fastpg.scores import as_long_as, is_neural, is_paired, is_recorded, is_scored, is_weighted, whole_score


def new_factor(policy, theta, observation, action):
    """Return ``policy.factor``, or nothing."""
    return policy.factor(theta, observation, action) if is_recorded(policy) else vectors.nothing()


def new_record(policy, theta, accumulator, like, observation, horizon):
    """Return memory for `lane_count` trajectories, a number of each kind for every step, and for one score.

    Observations, factors, the score, where its sections begin (or a neural policy's `score_memory`), and
    marks (`is_weighted`).
    """
    if not (is_recorded(policy) and is_scored(accumulator)):
        return None
    size = lane_count(like) * horizon
    observations = vectors.new_rows(size, observation, np.float64).ravel()
    factors = np.empty(size * len(like.factor))
    marks = np.empty(2 * size if is_weighted(accumulator) else 0)
    score, starts = np.zeros(len(theta)), np.empty(horizon, np.int64)
    memory = policy.score_memory(theta, accumulator, observation, horizon) if is_neural(policy) else starts
    return observations, factors, score, memory, marks


def write_record(record, lane, horizon, trajectory, observation):
    """Note an observation and the factor of the action that followed."""
    if record is not None:
        observations, factors, _, _, _ = record
        step = lane * horizon + trajectory.time
        n, m = np.size(observation), len(trajectory.factor)
        vectors.store(observations, step * n, observation)
        factors[step * m : (step + 1) * m] = trajectory.factor


def write_mark(accumulator, record, lane, horizon, trajectory, observation):
    """Note the mark of a step, if its weight depends on one."""
    if record is not None and is_weighted(accumulator):
        mark = accumulator.mark(trajectory.trace, observation, trajectory.time)
        _write_pair(record, lane * horizon + trajectory.time, *mark)


def _write_pair(record, step, first, second):
    record[4][2 * step : 2 * step + 2] = first, second


def move_record(record, source, lane, horizon, trajectory, observation):
    """Move what is noted of a trajectory to another lane."""
    if record is not None:
        widths = np.size(observation), len(trajectory.factor), 2 if len(record[4]) else 0
        for numbers, width in zip((*record[:2], record[4]), widths, strict=True):
            n, old, new = trajectory.time * width, source * horizon * width, lane * horizon * width
            numbers[new : new + n] = numbers[old : old + n]


def weigh_record(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """Multiply the recorded factors of a finished trajectory by their steps' weights, if there are some.

    From the last step to the first: what was earned later is what the weight of a reward-to-go is made of.
    """
    if not is_weighted(accumulator):
        return
    observations, factors, _, _, marks = record
    n, m = np.size(observation), len(trajectory.factor)
    later = accumulator.latest(trajectory.trace)
    for step in range(lane * horizon + trajectory.time - 1, lane * horizon - 1, -1):
        seen = vectors.load(observations, step * n, observation)
        mark = marks[2 * step], marks[2 * step + 1]
        factor = factors[step * m : (step + 1) * m]
        factor, later = accumulator.weigh(policy, theta, trajectory.trace, seen, factor, mark, later)
        factors[step * m : (step + 1) * m] = factor


def final_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """Return the score of a finished trajectory, carried along or recorded, if the accumulator wants it."""
    if not is_scored(accumulator):
        return vectors.nothing()
    if record is None:
        score = as_long_as(whole_score(policy, theta, accumulator.term(trajectory.trace)), theta)
        if not is_paired(accumulator):
            return score
        return moments.Pair(score, whole_score(policy, theta, accumulator.partner(trajectory.trace)))
    if is_neural(policy):
        return policy.gathered_score(theta, accumulator, trajectory, record, lane, horizon, observation)
    partner = None
    if is_paired(accumulator):
        partner = _recorded_partner(
            policy, theta, accumulator, trajectory, record, lane, horizon, observation
        )
    weigh_record(policy, theta, accumulator, trajectory, record, lane, horizon, observation)
    observations, factors, score, starts, _ = record
    n, m = np.size(observation), len(trajectory.factor)
    width = 0
    for time in range(trajectory.time):
        step = lane * horizon + time
        seen = vectors.load(observations, step * n, observation)
        starts[time], width = policy.spread(score, seen, factors[step * m : (step + 1) * m], 1.0)
    sparse = moments.Sparse(score, starts, trajectory.time, width, trajectory.factor)
    return sparse if partner is None else moments.Pair(sparse, partner)


def _recorded_partner(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """The second score that an accumulator wants, from factors that are not weighted yet."""
    observations, factors, _, _, marks = record
    n, m = np.size(observation), len(trajectory.factor)
    partner = np.zeros(len(theta))
    for step in range(lane * horizon, lane * horizon + trajectory.time):
        seen = vectors.load(observations, step * n, observation)
        weight = accumulator.partner_weight((marks[2 * step], marks[2 * step + 1]))
        policy.spread(partner, seen, factors[step * m : (step + 1) * m], weight)
    return partner


def prepare_scores(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
    """Make the scores of a neural policy's trajectories that have just finished, together."""
    if record is not None and is_neural(policy):
        policy.gather(theta, accumulator, memory, n_lanes, like, record, horizon, observation)


def settle_scores(policy, record):
    """Add up the moments that still wait for it when all trajectories are finished."""
    if record is not None and is_neural(policy):
        score_queue.flush(record[3].queue)


@compiled_form(prepare_scores)
def _(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
    if isinstance(record, types.NoneType) or not is_neural(policy.instance_class):

        def nothing(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
            return None

        return nothing

    def prepare_scores(policy, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
        policy.gather(theta, accumulator, memory, n_lanes, like, record, horizon, observation)

    return prepare_scores


@compiled_form(settle_scores)
def _(policy, record):
    if isinstance(record, types.NoneType) or not is_neural(policy.instance_class):
        return lambda policy, record: None
    return lambda policy, record: score_queue.flush(record[3].queue)


@inner
def _clear(score, starts):
    """Set a dense score to zero; a sparse one, which has sections, is zero again when it has been added."""
    if len(starts) == 0:
        score[:] = 0.0


@compiled_form(new_factor)
def _(policy, theta, observation, action):
    if visits.has_visits(policy.instance_class):
        return lambda policy, theta, observation, action: policy.visit(observation, action)
    if is_recorded(policy.instance_class):
        return lambda policy, theta, observation, action: policy.factor(theta, observation, action)
    return lambda policy, theta, observation, action: vectors.nothing()


@compiled_form(new_record)
def _(policy, theta, accumulator, like, observation, horizon):
    if not (is_recorded(policy.instance_class) and is_scored(accumulator.instance_class)):
        return lambda policy, theta, accumulator, like, observation, horizon: None

    at_once = hasattr(policy.instance_class, "recorded_score")
    weighted = is_weighted(accumulator.instance_class)
    if visits.has_visits(policy.instance_class):

        def new_visits(policy, theta, accumulator, like, observation, horizon):
            n_marks = 2 * lane_count(like) * horizon if weighted else 0
            return visits.new_visits(theta, like, horizon, n_marks)

        return new_visits
    if is_neural(policy.instance_class):

        def new_neural_record(policy, theta, accumulator, like, observation, horizon):
            size = lane_count(like) * horizon
            rows = vectors.new_rows(size, observation, np.float64)
            observations = rows.reshape(rows.size)
            factors = np.empty(size * len(like.factor))
            memory = policy.score_memory(theta, accumulator, observation, horizon)
            return observations, factors, np.empty(0), memory, np.empty(2 * size if weighted else 0)

        return new_neural_record

    def new_record(policy, theta, accumulator, like, observation, horizon):
        size = lane_count(like) * horizon
        rows = vectors.new_rows(size, observation, np.float64)
        observations = rows.reshape(rows.size)
        factors = np.empty(size * len(like.factor))
        n_sections = horizon * policy.sections_per_step() if at_once else horizon
        marks = np.empty(2 * size if weighted else 0)
        return observations, factors, np.zeros(len(theta)), np.empty(n_sections, np.int64), marks

    return new_record


# Instructions and not a function: that would count the arrays as in use for every step, which is slow.
@lowered(write_record)
def _(typing, record, lane, horizon, trajectory, observation):
    def codegen(context, builder, signature, args):
        if isinstance(record, types.BaseTuple):
            fields = {name: builder.extract_value(args[3], i) for i, name in enumerate(trajectory.fields)}
            step = builder.add(builder.mul(args[1], args[2]), fields["time"])
            factor = trajectory[trajectory.fields.index("factor")]
            written = [(factor, fields["factor"])]
            if isinstance(factor, types.BaseTuple):  # else it is a visit
                written.insert(0, (observation, args[4]))
            for i, (kind, value) in enumerate(written):
                array = builder.extract_value(args[0], i)
                vectors.store_record(context, builder, record[i], array, step, kind, value)
        return context.get_dummy_value()

    return types.void(record, types.intp, types.intp, trajectory, observation), codegen


@compiled_form(write_mark)
def _(accumulator, record, lane, horizon, trajectory, observation):
    if isinstance(record, types.NoneType) or not is_weighted(accumulator.instance_class):
        return lambda accumulator, record, lane, horizon, trajectory, observation: None

    def write_mark(accumulator, record, lane, horizon, trajectory, observation):
        first, second = accumulator.mark(trajectory.trace, observation, trajectory.time)
        _write_pair(record, lane * horizon + trajectory.time, first, second)

    return write_mark


@lowered(_write_pair)
def _(typing, record, step, first, second):
    pair = types.UniTuple(types.float64, 2)

    def codegen(context, builder, signature, args):
        value = cgutils.pack_array(builder, args[2:])
        array = builder.extract_value(args[0], 4)
        vectors.store_record(context, builder, record[4], array, args[1], pair, value)
        return context.get_dummy_value()

    return types.void(record, types.intp, types.float64, types.float64), codegen


@compiled_form(weigh_record)
def _(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    if not is_weighted(accumulator.instance_class):

        def no_weights(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            return None

        return no_weights

    def weigh_record(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        observations, factors, _, _, marks = record
        later = accumulator.latest(trajectory.trace)
        for step in range(lane * horizon + trajectory.time - 1, lane * horizon - 1, -1):
            seen = vectors.load(observations, step * vectors.n_components(observation), observation)
            factor = vectors.load(factors, step * len(trajectory.factor), trajectory.factor)
            mark = marks[2 * step], marks[2 * step + 1]
            factor, later = accumulator.weigh(policy, theta, trajectory.trace, seen, factor, mark, later)
            vectors.store(factors, step * len(trajectory.factor), factor)

    return weigh_record


@inner
def _move(numbers, width, source, step, n_steps):
    """Move what is noted of some steps, `width` numbers each, from step `source` on to `step` and on."""
    for k in range(n_steps * width):
        numbers[step * width + k] = numbers[source * width + k]


@compiled_form(move_record)
def _(record, source, lane, horizon, trajectory, observation):
    if isinstance(record, types.NoneType):
        return lambda record, source, lane, horizon, trajectory, observation: None

    def move_visits(record, source, lane, horizon, trajectory, observation):
        visits, _, _, _, marks = record
        _move(marks, 2 if len(marks) > 0 else 0, source * horizon, lane * horizon, trajectory.time)
        _move(visits, 1, source * horizon, lane * horizon, trajectory.time)

    if not isinstance(trajectory[trajectory.fields.index("factor")], types.BaseTuple):
        return move_visits

    def move_record(record, source, lane, horizon, trajectory, observation):
        observations, factors, _, _, marks = record
        old, new, n_steps = source * horizon, lane * horizon, trajectory.time
        _move(marks, 2 if len(marks) > 0 else 0, old, new, n_steps)
        _move(observations, vectors.n_components(observation), old, new, n_steps)
        _move(factors, len(trajectory.factor), old, new, n_steps)

    return move_record


@compiled_form(final_score)
def _(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    if not is_scored(accumulator.instance_class):

        def no_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            return vectors.nothing()

        return no_score
    if isinstance(record, types.NoneType):

        def carried_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            return as_long_as(whole_score(policy, theta, accumulator.term(trajectory.trace)), theta)

        def carried_pair(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            score = as_long_as(whole_score(policy, theta, accumulator.term(trajectory.trace)), theta)
            partner = whole_score(policy, theta, accumulator.partner(trajectory.trace))
            return moments.Pair(score, partner)

        return carried_pair if is_paired(accumulator.instance_class) else carried_score
    if is_neural(policy.instance_class):

        def gathered(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            return policy.gathered_score(theta, accumulator, trajectory, record, lane, horizon, observation)

        return gathered

    if is_paired(accumulator.instance_class):

        def recorded_pair(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            partner = _recorded_partner(
                policy, theta, accumulator, trajectory, record, lane, horizon, observation
            )
            score = _recorded_score(
                policy, theta, accumulator, trajectory, record, lane, horizon, observation
            )
            return moments.Pair(score, partner)

        return recorded_pair

    def recorded(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        return _recorded_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation)

    return recorded


@compiled_form(_recorded_partner)
def _(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    def partner_of_visits(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        return visits.partner_score(policy, theta, accumulator, trajectory, record, lane * horizon)

    if visits.has_visits(policy.instance_class):
        return partner_of_visits

    def recorded_partner(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        observations, factors, _, _, marks = record
        partner = np.zeros(len(theta))
        for step in range(lane * horizon, lane * horizon + trajectory.time):
            seen = vectors.load(observations, step * vectors.n_components(observation), observation)
            factor = vectors.load(factors, step * len(trajectory.factor), trajectory.factor)
            weight = accumulator.partner_weight((marks[2 * step], marks[2 * step + 1]))
            policy.spread(partner, seen, factor, weight)
        return partner

    return recorded_partner


@compiled_only
def _recorded_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    """The score of a recorded trajectory, weighted if the accumulator does that."""


@compiled_form(_recorded_score)
def _(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
    def counted(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        return visits.counted_score(policy, theta, trajectory, record, lane * horizon)

    def weighed(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        return visits.weighed_score(policy, theta, accumulator, trajectory, record, lane * horizon)

    if visits.has_visits(policy.instance_class):
        return weighed if is_weighted(accumulator.instance_class) else counted
    if hasattr(policy.instance_class, "recorded_score"):

        def score_at_once(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
            weigh_record(policy, theta, accumulator, trajectory, record, lane, horizon, observation)
            observations, factors, score, starts, _ = record
            _clear(score, starts)
            return policy.recorded_score(
                score,
                starts,
                observations,
                factors,
                lane * horizon,
                trajectory.time,
                observation,
                trajectory.factor,
            )

        return score_at_once

    def recorded_score(policy, theta, accumulator, trajectory, record, lane, horizon, observation):
        weigh_record(policy, theta, accumulator, trajectory, record, lane, horizon, observation)
        observations, factors, score, starts, _ = record
        width = 0
        for time in range(trajectory.time):
            step = lane * horizon + time
            seen = vectors.load(observations, step * vectors.n_components(observation), observation)
            factor = vectors.load(factors, step * len(trajectory.factor), trajectory.factor)
            starts[time], width = policy.spread(score, seen, factor, 1.0)
        return moments.Sparse(score, starts, trajectory.time, width, trajectory.factor)

    return recorded_score


def looks_at_steps(accumulator, record):
    """Whether somebody looks at every step of every lane: to record it, or to `note` it."""
    return record is not None or hasattr(accumulator, "note")


@lowered(looks_at_steps)
def _(typing, accumulator, record):
    looks = not isinstance(record, types.NoneType) or hasattr(accumulator.instance_class, "note")

    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, looks)

    return types.boolean(accumulator, record), codegen
