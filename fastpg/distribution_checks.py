"""Does a policy sample what its log-probability says, and is that one? Parts of `check_policy`."""

import math

import numpy as np

from fastpg.random import seed_key, trajectory_rng

_SUM_TOLERANCE = 1e-9
_INTEGRAL_TOLERANCE = 1e-3
_MODE_TOLERANCE = 1e-9
_MAX_ERRORS = 5.0  # standard errors
_SAMPLED = 4  # observations at which actions are drawn in numbers
_NODES = 5001  # of the quadrature
_DEGREES = 5  # of Student's t, heavier in its tails than what it is to sample


def log_prob_of(policy, theta, observation, action):
    """Return log π(action | observation): from ``log_prob``, or else ``probabilities``."""
    if hasattr(policy, "log_prob"):
        return policy.log_prob(theta, observation, action)
    with np.errstate(divide="ignore"):
        return np.log(policy.probabilities(theta, observation))[action - getattr(policy, "first_action", 0)]


def every_action_of(policy, env):
    """Return the discrete actions there are."""
    if env is not None:
        return [int(env.action_space.start) + a for a in range(int(env.action_space.n))]
    n = getattr(policy, "n_actions", None) or len(getattr(policy, "initial_preferences", ()))
    if not n:
        raise ValueError("which actions there are cannot be told (it has no n_actions): give env")
    return [getattr(policy, "first_action", 0) + a for a in range(n)]


def _scores(policy, theta, observation, actions):
    return np.array([policy.score(theta, observation, action) for action in actions], float)


def check_probabilities(policy, points, every_action, n_samples, report):
    """Check the sum, E[score] and frequencies of discrete actions."""
    farthest = [0.0, 0.0]
    for theta, observation, _ in points:
        logs = [log_prob_of(policy, theta, observation, action) for action in every_action]
        probabilities = np.exp(np.array(logs, float))
        off = abs(probabilities.sum() - 1)
        if not off <= _SUM_TOLERANCE:
            report.errors.append(
                f"log_prob does not normalise: the probabilities {probabilities.tolist()} sum to "
                f"{probabilities.sum():.9g} (observation {observation})"
            )
            return
        possible = [(a, p) for a, p in zip(every_action, probabilities, strict=True) if p > 0]
        scores = _scores(policy, theta, observation, [a for a, _ in possible])
        mean = np.array([p for _, p in possible]) @ scores
        at = np.argmax(abs(mean))
        if not abs(mean[at]) <= _SUM_TOLERANCE * max(1, abs(scores).max()):
            report.errors.append(
                f"E[score] is not 0: its component {at} is {mean[at]:.6g} (observation {observation})"
            )
            return
        farthest = [max(farthest[0], off), max(farthest[1], abs(mean[at]))]
    report.verified["probabilities sum to 1"] = f"to {farthest[0]:.1g}"
    report.verified["E[score] = 0"] = f"to {farthest[1]:.1g}"
    for number, (theta, observation, _) in enumerate(points[:_SAMPLED]):
        drawn = _draw(policy, theta, observation, n_samples, number)
        if not set(drawn) <= set(every_action):
            strange = next(action for action in drawn if action not in every_action)
            report.errors.append(f"sample returns {strange}, must be one of {every_action}")
            return
        for action in every_action:
            p = math.exp(log_prob_of(policy, theta, observation, action))
            times, error = drawn.count(action), math.sqrt(n_samples * p * (1 - p))
            if abs(times - n_samples * p) > _MAX_ERRORS * (
                error + 1
            ):  # one more: a rare action is not normal
                report.errors.append(
                    f"sample does not follow log_prob: action {action} of probability {p:.4g} came "
                    f"{times} times of {n_samples} (observation {observation})"
                )
                return
    report.verified["sample follows log_prob"] = f"within {_MAX_ERRORS:g} standard errors"


def _draw(policy, theta, observation, n, stream):
    rngs = (trajectory_rng(seed_key(stream + 1), i) for i in range(n))
    drawn = (policy.sample(theta, observation, rng) for rng in rngs)
    return [int(action) if np.ndim(action) == 0 else np.array(action, float) for action in drawn]


def check_density(policy, points, n_samples, report):
    """Check the integral, E[score] and moments of continuous actions, which are vectors."""
    for number, (theta, observation, _) in enumerate(points[:_SAMPLED]):

        def log_density(actions, theta=theta, observation=observation):
            return np.array([log_prob_of(policy, theta, observation, action) for action in actions], float)

        drawn = np.array(_draw(policy, theta, observation, n_samples, number))
        center, scale = drawn.mean(axis=0), drawn.std(axis=0)
        if not scale.all():
            report.errors.append(f"sample returns {drawn[0]} every time (observation {observation})")
            return
        scores = _scores(policy, theta, observation, drawn)
        at, errors = _largest(scores.mean(axis=0), scores.std(axis=0) / math.sqrt(n_samples))
        if errors > _MAX_ERRORS:
            report.errors.append(
                f"E[score] is not 0: component {at} has the mean {scores[:, at].mean():.4g}, {errors:.1f} "
                f"standard errors of {n_samples} samples (observation {observation})"
            )
            return
        if drawn.shape[1] == 1:
            nodes = center + 10 * scale * np.linspace(-1, 1, _NODES)[:, np.newaxis]
            integral = np.exp(log_density(nodes)).sum() * (nodes[1] - nodes[0]).item()
            if not abs(integral - 1) <= _INTEGRAL_TOLERANCE:
                report.errors.append(
                    f"log_prob does not normalise: its density integrates to {integral:.6g} "
                    f"(observation {observation})"
                )
                return
        if not _follows(drawn, log_density, center, scale, number, observation, report):
            return
    report.verified["E[score] = 0, and sample follows log_prob, which normalises"] = (
        f"within {_MAX_ERRORS:g} standard errors of {n_samples} samples"
    )


def _follows(drawn, log_density, center, scale, seed, observation, report):
    """Whether samples have the moments of the density, by importance sampling."""
    n, m = drawn.shape
    z = np.random.default_rng(seed).standard_t(_DEGREES, (n, m))
    half = (_DEGREES + 1) / 2
    constant = math.lgamma(half) - math.lgamma(_DEGREES / 2) - 0.5 * math.log(_DEGREES * math.pi)
    log_proposal = (constant - half * np.log1p(z**2 / _DEGREES) - np.log(scale)).sum(axis=1)
    actions = center + scale * z
    logs = log_density(actions)
    weights = np.exp(logs - log_proposal)
    logs = np.where(weights > 0, logs, 0.0)  # not 0 · ∞
    standardised = (drawn - center) / scale
    names = ["1", *(f"a[{k}]" for k in range(m)), *(f"a[{k}]²" for k in range(m)), "log_prob"]
    theirs = np.column_stack([np.ones(n), z, z**2, logs]) * weights[:, np.newaxis]
    ours = np.column_stack([np.ones(n), standardised, standardised**2, log_density(drawn)])
    difference = theirs.mean(axis=0) - ours.mean(axis=0)
    at, errors = _largest(difference, np.sqrt((theirs.var(axis=0) + ours.var(axis=0)) / n))
    if errors <= _MAX_ERRORS:
        return True
    what = "log_prob does not normalise" if at == 0 else f"sample does not follow log_prob in E[{names[at]}]"
    report.errors.append(
        f"{what}: {errors:.1f} standard errors of {n} samples between the two (observation {observation})"
    )
    return False


def _largest(deviations, standard_errors):
    """The component farthest from 0, and how many standard errors that is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(abs(deviations) <= 1e-12, 0.0, abs(deviations) / standard_errors)
    ratios = np.where(np.isnan(ratios), np.inf, ratios)
    at = int(np.argmax(ratios))
    return at, float(ratios[at])


def check_mode(policy, points, actions, every_action, report):
    """Check that nothing is more probable than the mode (of all actions, or of those given)."""
    if not hasattr(policy, "mode"):
        return
    for (theta, observation, _), action in zip(points, actions, strict=True):
        mode = policy.mode(theta, observation)
        at_mode = log_prob_of(policy, theta, observation, mode)
        for other in every_action or [action]:
            if not at_mode >= log_prob_of(policy, theta, observation, other) - _MODE_TOLERANCE:
                report.errors.append(
                    f"mode returns {mode}, and action {other} is more probable (observation {observation})"
                )
                return
