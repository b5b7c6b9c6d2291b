"""Is a policy's score the gradient of its log-probability, in all its forms? Parts of `check_policy`."""

import math

import numba
import numpy as np
from numba.core.errors import NumbaError

from fastpg import vectors
from fastpg.compiler_errors import innermost_cause
from fastpg.dispatch import distinct
from fastpg.distribution_checks import log_prob_of
from fastpg.neural_lanes import row_at
from fastpg.random import Rng
from fastpg.scores import is_neural, is_recorded, running_score, whole_score

_DIFFERENCE = 1e-5  # half the distance of central differences
_DIFFERENCE_TOLERANCE = 1e-6
_AGREEMENT = 1e-9
_COMPONENTS = 64  # of the score that are compared one by one


def size_of(observation):
    """Return by what the parameters of a linear policy are divided, so that it is not deterministic."""
    return max(1.0, float(np.max(np.abs(observation)))) if np.ndim(observation) else 1.0


def check_score(policy, points, actions, seed, report):
    """Check the score against central differences of log π."""
    generator = np.random.default_rng(seed)
    farthest = 0.0
    for (theta, observation, _), action in zip(points, actions, strict=True):

        def slope(direction, theta=theta, observation=observation, action=action):
            step = _DIFFERENCE / size_of(observation)
            ends = (theta + sign * step * direction for sign in (1, -1))
            up, down = (log_prob_of(policy, end, observation, action) for end in ends)
            return (up - down) / (2 * step)

        score = np.asarray(policy.score(theta, observation, action), float)
        scale = max(1.0, abs(score).max(), abs(log_prob_of(policy, theta, observation, action)))
        for at in _components(score, generator):
            unit = np.zeros(len(theta))
            unit[at] = 1.0
            found = slope(unit)
            if not abs(score[at] - found) <= _DIFFERENCE_TOLERANCE * scale:
                report.errors.append(
                    f"score is not the gradient of log_prob: component {at} is {score[at]:.6g}, central "
                    f"differences give {found:.6g} (observation {observation}, action {action})"
                )
                return
            farthest = max(farthest, abs(score[at] - found) / scale)
        direction = generator.standard_normal(len(theta)) / math.sqrt(len(theta))
        found = slope(direction)
        if not abs(score @ direction - found) <= _DIFFERENCE_TOLERANCE * scale:
            report.errors.append(
                "score is not the gradient of log_prob: in a random direction it has "
                f"{score @ direction:.6g}, central differences give {found:.6g} (observation {observation}, "
                f"action {action})"
            )
            return
    report.verified["score = central differences of log_prob"] = f"to {farthest:.1g}"


def _components(score, generator):
    if len(score) <= _COMPONENTS:
        return range(len(score))
    largest = np.argsort(-abs(score), kind="stable")[: _COMPONENTS // 2]
    return [*largest, *generator.integers(len(score), size=_COMPONENTS // 2)]


def check_forms(policy, points, actions, report):
    """Check the score as the lanes carry it, or record it, against ``score``; in ordinary Python."""
    widths = set()
    for (theta, observation, _), action in zip(points, actions, strict=True):
        score = np.asarray(policy.score(theta, observation, action), float)
        if is_neural(policy):
            return  # its score is made of its factor
        if is_recorded(policy):
            factor = policy.factor(theta, observation, action)
            found = np.zeros(len(theta))
            start, width = policy.spread(found, observation, factor, 1.0)
            inside = (np.arange(len(theta)) >= start) & (np.arange(len(theta)) < start + width)
            if found[~inside].any():
                report.errors.append(f"spread adds outside the section [{start}, {start + width}) it returns")
                return
            widths.add(int(width))
            if len(widths) > 1:
                report.errors.append(f"spread returns sections of lengths {sorted(widths)}, must be of one")
                return
            policy.spread(found, observation, factor, -3.0)
            found, forms = found / -2.0, "factor and spread"
        elif hasattr(policy, "running_score"):
            found = whole_score(policy, theta, running_score(policy, theta, observation, action))
            forms = "running_score and whole_score"
        else:
            return
        if not _agree(found, score):
            report.errors.append(
                f"{forms} do not give score: {_unlike(found, score)} (observation {observation}, "
                f"action {action})"
            )
            return
    report.verified[f"{forms} = score"] = f"to {_AGREEMENT:g}"


def check_entropy(policy, points, every_action, n_samples, seed, report):
    """Check H = -E[log π], exactly or by sampling, and its gradient against central differences."""
    if not hasattr(policy, "entropy"):
        return
    generator = np.random.default_rng(seed)
    for theta, observation, _ in points[:4]:
        where = f"(observation {observation})"
        found = float(policy.entropy(theta, observation))
        if every_action is not None:
            logs = np.array([log_prob_of(policy, theta, observation, a) for a in every_action])
            weights = np.exp(logs)
            expected, allowed = -np.sum(weights * np.where(weights > 0, logs, 0.0)), _AGREEMENT * len(logs)
        else:
            drawn = [policy.sample(theta, observation, generator) for _ in range(n_samples)]
            logs = np.array([log_prob_of(policy, theta, observation, action) for action in drawn])
            expected, allowed = -logs.mean(), 5 * logs.std() / math.sqrt(n_samples) + _AGREEMENT
        if not abs(found - expected) <= allowed:
            report.errors.append(f"entropy is {found:.9g}, not -E[log π] = {expected:.9g} {where}")
            return
        if is_neural(policy):
            continue  # its gradient is made of its factor
        if is_recorded(policy):
            slope = np.zeros(len(theta))
            policy.spread(slope, observation, policy.entropy_factor(theta, observation), 1.0)
        elif hasattr(policy, "running_entropy_score"):
            slope = whole_score(policy, theta, policy.running_entropy_score(theta, observation))
        else:
            slope = policy.entropy_score(theta, observation)
        slope, step = np.asarray(slope, float), _DIFFERENCE / size_of(observation)
        for at in _components(slope, generator):
            unit = np.zeros(len(theta))
            unit[at] = step
            up, down = (float(policy.entropy(theta + sign * unit, observation)) for sign in (1, -1))
            difference = (up - down) / (2 * step)
            if not abs(slope[at] - difference) <= _DIFFERENCE_TOLERANCE * max(1.0, abs(slope).max()):
                report.errors.append(
                    f"the gradient of entropy has component {at} {slope[at]:.6g}, central differences give "
                    f"{difference:.6g} {where}"
                )
                return
    report.verified["entropy = -E[log π], and its gradient"] = f"to {_DIFFERENCE_TOLERANCE:g}"


def _agree(found, expected):
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=_AGREEMENT, atol=_AGREEMENT)


def _unlike(found, expected):
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape:
        return f"{found.size} numbers, not {expected.size}"
    at = int(np.argmax(abs(found - expected)))
    return f"component {at} is {found[at]:.9g}, not {expected[at]:.9g}"


# --- compiled ---


@numba.njit(error_model="numpy")
def _sample_and_score(policy, theta, observation, rng):
    action = policy.sample(theta, observation, rng)
    return action, whole_score(policy, theta, running_score(policy, theta, observation, action))


@numba.njit(error_model="numpy")
def _sample_and_spread(policy, theta, observation, rng, score):
    action = policy.sample(theta, observation, rng)
    policy.spread(score, observation, policy.factor(theta, observation, action), 1.0)
    return action


@numba.njit(error_model="numpy")
def _sample_and_backward(policy, theta, x, observation, rng, work, score):
    row = row_at(policy.forward(theta, x, work).reshape(len(policy.row())), 0, policy.row())
    action = policy.sample(row, observation, rng)
    factor = np.empty((1, len(row)), theta.dtype)
    vectors.store(factor.reshape(len(row)), 0, policy.factor(row, observation, action))
    policy.network.backward(theta, x, work, factor, score)
    return action


def check_compiled(policy, points, report):
    """Check actions and scores as compiled against ordinary Python, with the same random numbers."""
    compiled_policy = distinct(policy)
    for theta, observation, rng in points:
        seen = tuple(observation.tolist()) if np.ndim(observation) else observation
        try:
            if is_neural(policy):
                score, x = np.zeros(len(theta)), np.array([observation])
                work = policy.workspace(1, theta)
                action = _sample_and_backward(compiled_policy, theta, x, seen, Rng(*rng), work, score)
            elif is_recorded(policy):
                score = np.zeros(len(theta))
                action = _sample_and_spread(compiled_policy, theta, seen, Rng(*rng), score)
            else:
                action, score = _sample_and_score(compiled_policy, tuple(theta.tolist()), seen, Rng(*rng))
        except NumbaError as error:
            report.errors.append(f"cannot be compiled: {innermost_cause(str(error))}")
            return
        expected = policy.sample(theta, observation, Rng(*rng))
        where = f"(observation {observation})"
        if not _agree(action, expected):
            report.errors.append(
                f"sample compiled is not sample in ordinary Python: {action}, not {expected} {where}; are "
                "there random numbers other than those of rng, or integers that overflow?"
            )
            return
        expected = np.asarray(policy.score(theta, observation, expected), float)
        if not _agree(score, expected):
            report.errors.append(
                "the score compiled is not score in ordinary Python: "
                + _unlike(score, expected)
                + f" {where}"
            )
            return
    report.verified["compiled = ordinary Python"] = f"to {_AGREEMENT:g}"
