"""The score of a trajectory as its lane carries it along; and what policies and accumulators are.

A policy with few parameters has its score added up step by step (`running_score`). One with `factor` and
`spread` has too many to carry along, and its trajectories are recorded (`fastpg.records`).
"""

from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed

from fastpg import vectors
from fastpg.dispatch import compiled_form, lowered


def running_score(policy, theta, observation, action):
    """Return what is added up of the score: ``policy.running_score``, all of it, or nothing if recorded."""
    if is_recorded(policy):
        return vectors.nothing()
    if hasattr(policy, "running_score"):
        return policy.running_score(theta, observation, action)
    return vectors.floats(policy.score(theta, observation, action))


def whole_score(policy, theta, running):
    """Return the score from its `running_score`."""
    return policy.whole_score(theta, running) if hasattr(policy, "whole_score") else running


def as_long_as(score, theta):
    """Return a score, which must have a number for each of θ's."""
    if len(score) != len(theta):
        raise ValueError(f"the score has {len(score)} numbers, and theta {len(theta)}")
    return score


@lowered(as_long_as)
def _(typing, score, theta):
    if len(score) != len(theta):
        raise TypingError(f"the score has {len(score)} numbers, and theta {len(theta)}")

    def codegen(context, builder, signature, args):
        return impl_ret_borrowed(context, builder, score, args[0])

    return score(score, theta), codegen


def running_entropy_score(policy, theta, observation):
    """Return ∇_θ H of the policy in a state as `running_score` has scores; nothing if recorded."""
    if is_recorded(policy):
        return vectors.nothing()
    if hasattr(policy, "running_entropy_score"):
        return policy.running_entropy_score(theta, observation)
    return vectors.floats(policy.entropy_score(theta, observation))


@compiled_form(running_entropy_score)
def _(policy, theta, observation):
    if is_recorded(policy.instance_class):
        return lambda policy, theta, observation: vectors.nothing()
    if hasattr(policy.instance_class, "running_entropy_score"):
        return lambda policy, theta, observation: policy.running_entropy_score(theta, observation)
    return lambda policy, theta, observation: vectors.floats(policy.entropy_score(theta, observation))


@compiled_form(running_score)
def _(policy, theta, observation, action):
    if is_recorded(policy.instance_class):
        return lambda policy, theta, observation, action: vectors.nothing()
    if hasattr(policy.instance_class, "running_score"):
        return lambda policy, theta, observation, action: policy.running_score(theta, observation, action)
    return lambda policy, theta, observation, action: vectors.floats(policy.score(theta, observation, action))


@compiled_form(whole_score)
def _(policy, theta, running):
    if hasattr(policy.instance_class, "whole_score"):
        return lambda policy, theta, running: policy.whole_score(theta, running)
    return lambda policy, theta, running: running


def is_recorded(policy):
    """Whether a policy's trajectories are recorded."""
    return hasattr(policy, "factor")


def is_neural(policy):
    """Whether a policy's distributions are parametrised by the outputs of a network."""
    return hasattr(policy, "network")


def is_scored(accumulator):
    """Whether an accumulator looks at scores: then it has a method `acted`."""
    return hasattr(accumulator, "acted")


def is_weighted(accumulator):
    """Whether an accumulator weights every step's score: then it has methods `mark`, `latest` and `weigh`."""
    return hasattr(accumulator, "weigh")


def is_paired(accumulator):
    """Whether an accumulator wants two sums of scores: then it has `partner` and `partner_weight`."""
    return hasattr(accumulator, "partner")


def acted(accumulator, policy, theta, trace, observation, action, time):
    """Return the trace after an action."""
    if not is_scored(accumulator):
        return trace
    score = running_score(policy, theta, observation, action)
    return accumulator.acted(trace, score, policy, theta, observation, action, time)


@compiled_form(acted)
def _(accumulator, policy, theta, trace, observation, action, time):
    if not is_scored(accumulator.instance_class):
        return lambda accumulator, policy, theta, trace, observation, action, time: trace

    def acted(accumulator, policy, theta, trace, observation, action, time):
        score = running_score(policy, theta, observation, action)
        return accumulator.acted(trace, score, policy, theta, observation, action, time)

    return acted


def note(accumulator, totals, trajectory, observation):
    """Let an accumulator with a method `note` see each step, after the action was chosen."""
    if hasattr(accumulator, "note"):
        accumulator.note(totals, trajectory, observation)


@compiled_form(note)
def _(accumulator, totals, trajectory, observation):
    if hasattr(accumulator.instance_class, "note"):
        return lambda accumulator, totals, trajectory, observation: accumulator.note(
            totals, trajectory, observation
        )
    return lambda accumulator, totals, trajectory, observation: None
