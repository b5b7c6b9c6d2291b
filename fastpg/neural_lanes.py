"""The outputs of a neural policy, for all lanes at once.

Before the lanes act, their observations are written into the rows of a matrix, and the network's outputs are
computed by matrix products (`fastpg.networks`). Each lane holds its row of them, and the policy's methods are
given that row in the place of θ. Where trajectories of another θ are taken (`fastpg.estimators.importance`),
it holds both rows.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from fastpg import vectors
from fastpg.dispatch import compiled_form
from fastpg.scores import is_neural


class Rows(NamedTuple):
    """Two rows of outputs: a policy's own, and the behaviour policy's."""

    row: tuple
    behavior: tuple


def behavior_of(accumulator):
    """Return the θ that trajectories are taken from, if an accumulator or the one within has one; or None."""
    if hasattr(accumulator, "behavior"):
        return accumulator.behavior
    return behavior_of(accumulator.of) if hasattr(accumulator, "of") else None


@compiled_form(behavior_of)
def _(accumulator):
    if "behavior" in accumulator.fields:
        return lambda accumulator: accumulator.behavior
    if "of" in accumulator.fields:
        return lambda accumulator: behavior_of(accumulator.of)
    return lambda accumulator: None


def rows_like(policy, behavior):
    """Return what a lane holds of outputs, of any value: nothing unless the policy is neural."""
    if not is_neural(policy):
        return vectors.nothing()
    row = tuple(policy.row())
    return row if behavior is None else Rows(row, row)


@compiled_form(rows_like)
def _(policy, behavior):
    if not is_neural(policy.instance_class):
        return lambda policy, behavior: vectors.nothing()
    if isinstance(behavior, types.NoneType):
        return lambda policy, behavior: policy.row()
    return lambda policy, behavior: Rows(policy.row(), policy.row())


def in_lane(policy, theta, rows):
    """Return what a policy's methods are given for θ: its row of outputs if it is neural, else θ."""
    return rows if is_neural(policy) else theta


@compiled_form(in_lane)
def _(policy, theta, rows):
    if is_neural(policy.instance_class):
        return lambda policy, theta, rows: rows
    return lambda policy, theta, rows: theta


def behavior_in_lane(theta, behavior):
    """Return what the behaviour policy's methods are given, where `in_lane` gave `theta`."""
    return tuple(theta.behavior) if isinstance(theta, Rows) else behavior


@compiled_form(behavior_in_lane)
def _(theta, behavior):
    if getattr(theta, "instance_class", None) is Rows:
        return lambda theta, behavior: theta.behavior
    return lambda theta, behavior: behavior


def new_sight(policy, theta, behavior, observation, n_lanes):
    """Return memory for the observations of all lanes, a row each, and for two networks; else None."""
    if not is_neural(policy):
        return None
    return (
        vectors.new_rows(n_lanes, observation, theta.dtype),
        policy.workspace(n_lanes, theta),
        policy.workspace(n_lanes if behavior is not None else 0, theta),
    )


@compiled_form(new_sight)
def _(policy, theta, behavior, observation, n_lanes):
    if not is_neural(policy.instance_class):
        return lambda policy, theta, behavior, observation, n_lanes: None
    alone = isinstance(behavior, types.NoneType)

    def new_sight(policy, theta, behavior, observation, n_lanes):
        return (
            vectors.new_rows(n_lanes, observation, theta.dtype),
            policy.workspace(n_lanes, theta),
            policy.workspace(0 if alone else n_lanes, theta),
        )

    return new_sight


def outputs_of(policy, theta, behavior, x, sight):
    """Return the outputs of both, row after row; without another θ the same twice."""
    outputs = policy.forward(theta, x, sight[1]).ravel()
    return outputs, outputs if behavior is None else policy.forward(behavior, x, sight[2]).ravel()


@compiled_form(outputs_of)
def _(policy, theta, behavior, x, sight):
    if isinstance(behavior, types.NoneType):

        def outputs_alone(policy, theta, behavior, x, sight):
            outputs = policy.forward(theta, x, sight[1])
            flat = outputs.reshape(outputs.size)
            return flat, flat

        return outputs_alone

    def outputs_of(policy, theta, behavior, x, sight):
        own, other = policy.forward(theta, x, sight[1]), policy.forward(behavior, x, sight[2])
        return own.reshape(own.size), other.reshape(other.size)

    return outputs_of


def rows_at(outputs, lane, like):
    """Return a lane's rows of the `outputs_of` all, of the type of `like`."""
    if isinstance(like, Rows):
        return Rows(row_at(outputs[0], lane, like.row), row_at(outputs[1], lane, like.behavior))
    return row_at(outputs[0], lane, like)


def row_at(outputs, i, like):
    """Return row i of outputs, which are given row after row, as a vector."""
    return tuple(outputs[i * len(like) : (i + 1) * len(like)].astype(np.float64))


@compiled_form(row_at)
def _(outputs, i, like):
    return lambda outputs, i, like: vectors.load(outputs, i * len(like), like)


@compiled_form(rows_at)
def _(outputs, lane, like):
    if getattr(like, "instance_class", None) is Rows:
        return lambda outputs, lane, like: Rows(
            row_at(outputs[0], lane, like.row), row_at(outputs[1], lane, like.behavior)
        )
    return lambda outputs, lane, like: row_at(outputs[0], lane, like)
