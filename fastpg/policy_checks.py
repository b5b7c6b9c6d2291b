"""Is this a policy, and is its score the gradient of its log-probability? `check_policy`."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numba
import numpy as np

from fastpg import arguments
from fastpg.distribution_checks import (
    check_density,
    check_mode,
    check_probabilities,
    every_action_of,
    log_prob_of,
)
from fastpg.random import RecordedRng, Rng, next_step, policy_rng, seed_key, trajectory_rng
from fastpg.reports import Report
from fastpg.score_checks import check_compiled, check_entropy, check_forms, check_score, size_of
from fastpg.scores import is_neural

_SPREAD = 0.5  # standard deviation of θ around `initial`


@dataclass
class PolicyReport(Report):
    """What `check_policy` found.

    Attributes
    ----------
    verified : dict of str to str
        What holds, and how closely.
    """

    verified: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line for each finding."""
        verdict = "not a policy fastpg can trust" if self.errors else "a correct policy"
        return self.lines(verdict, *(f"{what}: {how}" for what, how in self.verified.items()))


class _Point(NamedTuple):
    """A place to look at."""

    theta: np.ndarray
    observation: Any  # a float64 array, or an integer
    rng: Rng


def check_policy(
    policy: Any, env: Any = None, *, n_observations: int = 10, n_samples: int = 2000, seed: int = 0
) -> PolicyReport:
    r"""Check a policy: what its methods return, its log-probability, its score, and its compiled form.

    At observations o of the environment, and for each a θ = ``initial()`` + 0.5 / m · N(0, 1), where m is the
    largest of 1 and abs(o):

    - **log π normalises**: discrete probabilities sum to 1 (to 1e-9); a density of one number integrates to
      1 by quadrature over 10 standard deviations on both sides (to 1e-3), one of several numbers by
      importance sampling with a Student t proposal (to 5 standard errors).
    - **sample follows log π**: the frequencies of discrete actions (to 5 standard errors), or the first two
      moments of continuous ones and their mean log π, against importance sampling (to 5 standard errors).
    - **score is ∇ log π**: central differences at distance ± 1e-5 / m, to 1e-6 relative to the largest of 1,
      abs(score) and abs(log π). Of more than 64 components, the 32 largest, 32 others, and a random
      direction of all.
    - **E[score] = 0**: the exact sum for discrete actions (to 1e-9), by sampling for others (to 5 standard
      errors).
    - **forms of the score agree**: ``running_score`` and ``whole_score``, or ``factor`` and ``spread``, where
      the policy has them, with ``score``; and ``sample`` and the score compiled with those of ordinary
      Python and the same random numbers (all to 1e-9).
    - **entropy**, where there is one, is -E[log π] (exactly for discrete actions, to 5 standard errors for
      others), and its gradient is that of central differences.
    - **mode**, where there is one, has the largest log π.

    A policy with a network in float32 is checked in float64 (`in_float64`).

    A policy needs ``n_parameters``, ``sample(theta, observation, rng)`` and ``score(theta, observation,
    action)``, and for this check ``log_prob(theta, observation, action)``, or ``probabilities(theta,
    observation)`` of the actions ``first_action`` (0 unless it has one) and following. `fastpg.train` begins
    at ``initial()``.

    Parameters
    ----------
    policy : NamedTuple
    env : NamedTuple, optional
        Where its observations come from. Without, they are ``policy.n_observations`` standard normal numbers,
        or random integers below ``policy.sizes``, for policies that have these.
    n_observations : int
        At least 1.
    n_samples : int
        Actions drawn at each of four of them, at least 100.
    seed : int

    Returns
    -------
    PolicyReport
        To be printed.

    Raises
    ------
    TypeError
        If there are errors; the message is the report.
    ValueError
        If `env` is needed, or another argument is not allowed, or the policy is for another environment.

    Examples
    --------
    >>> import fastpg
    >>> env = fastpg.make("CartPole-v1")
    >>> report = fastpg.check_policy(fastpg.SoftmaxLinear.for_env(env), env)
    >>> report.errors
    []
    """
    if not (isinstance(policy, tuple) and hasattr(policy, "_fields")):
        raise TypeError(f"policy={policy!r}: must be an instance of a typing.NamedTuple class")
    arguments.check_integer("n_observations", n_observations, 1)
    arguments.check_integer("n_samples", n_samples, 100)
    arguments.check_seed(seed)
    report = PolicyReport(type(policy).__name__)
    if is_neural(policy):
        policy = policy.in_float64()  # type: ignore[attr-defined]
    if env is not None:
        arguments.check_environment(env)
    if _has_members(policy, report):
        if env is not None:
            arguments.check_policy(policy, env)
        elif not (hasattr(policy, "n_observations") or hasattr(policy, "sizes")):
            raise ValueError(
                f"env=None: must be given, for {report.name} has neither n_observations nor sizes to make "
                "observations from"
            )
        try:
            with np.errstate(all="ignore"):  # as compiled code has it
                _check_in_ordinary_python(policy, env, n_observations, n_samples, seed, report)
        except Exception as exception:
            report.errors.append(f"in ordinary Python: {type(exception).__name__}: {exception}")
    if report.errors:
        raise TypeError(f"policy: {report}")
    return report


def _has_members(policy, report):
    missing = [name for name in ("n_parameters", "sample", "score") if not hasattr(policy, name)]
    if missing:
        report.errors.append(f"lacks {', '.join(missing)}")
    if not (hasattr(policy, "log_prob") or hasattr(policy, "probabilities")):
        report.errors.append("lacks log_prob (or probabilities), by which its score is checked")
    if hasattr(policy, "running_score") != hasattr(policy, "whole_score"):
        report.errors.append("has only one of running_score and whole_score, which belong together")
    if not is_neural(policy) and hasattr(policy, "factor") != hasattr(policy, "spread"):
        report.errors.append("has only one of factor and spread, which belong together")
    return not report.errors


def _check_in_ordinary_python(policy, env, n_observations, n_samples, seed, report):
    start = _initial(policy, report)
    if start is None:
        return
    points = _points(policy, env, start, n_observations, seed)
    actions = _check_samples(policy, env, points, report)
    if report.errors:
        return
    every_action = None
    if np.ndim(actions[0]) == 0:
        every_action = every_action_of(policy, env)
        check_probabilities(policy, points, every_action, n_samples, report)
    else:
        check_density(policy, points, n_samples, report)
    check_score(policy, points, actions, seed, report)
    check_mode(policy, points, actions, every_action, report)
    check_forms(policy, points, actions, report)
    check_entropy(policy, points, every_action, n_samples, seed, report)
    if not (report.errors or numba.config.DISABLE_JIT):
        check_compiled(policy, points, report)


# --- where to look ---


def _initial(policy, report):
    """Where θ is drawn around; None, and an error, if there is no such place."""
    n = policy.n_parameters
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        report.errors.append(f"n_parameters={n!r}: must be a positive integer")
        return None
    if not hasattr(policy, "initial"):
        report.warnings.append("lacks initial: fastpg.train needs theta=")
    try:
        return arguments.check_theta(policy, policy.initial() if hasattr(policy, "initial") else np.zeros(n))
    except (TypeError, ValueError) as error:
        report.errors.append(f"initial: {error}")
        return None


def _points(policy, env, start, n, seed):
    generator = np.random.default_rng(seed)
    if env is None:
        observations = [_made_up_observation(policy, generator) for _ in range(n)]
    else:
        observations = _played_observations(policy, env, start, n, seed)
    points = []
    for i, observation in enumerate(observations):
        theta = start + _SPREAD / size_of(observation) * generator.standard_normal(len(start))
        points.append(_Point(theta, observation, RecordedRng(*trajectory_rng(seed_key(seed), i))))
    return points


def _made_up_observation(policy, generator):
    if hasattr(policy, "sizes"):
        numbers = generator.integers(policy.sizes)
        first = getattr(policy, "first_observation", 0)
        return numbers.astype(float) if len(numbers) > 1 else first + int(numbers[0])
    return generator.standard_normal(policy.n_observations)


def _played_observations(policy, env, theta, n, seed):
    """Return observations 0, 3, 6, ... of trajectories under a policy."""
    seen: list = []
    for number in range(3 * n):  # trajectories, most of which are not needed
        rng = trajectory_rng(seed_key(seed), number)
        state, ended, time = env.reset(rng), False, 0
        while not ended and len(seen) < 3 * n and (env.horizon is None or time < env.horizon):
            observation = _as_policies_see(env.observe(state))
            seen.append(observation)
            rng = next_step(rng)
            action = policy.sample(theta, observation, policy_rng(rng))
            _check_inside(action, env.action_space)
            action = tuple(np.asarray(action).tolist()) if np.ndim(action) else int(action)
            state, _, ended = env.step(state, action, rng)
            time += 1
    return seen[::3][:n]


def _check_inside(action, space):
    """Raise ValueError if a discrete action is not there: compiled code would not look."""
    if (
        hasattr(space, "n")
        and np.ndim(action) == 0
        and not 0 <= action - getattr(space, "start", 0) < space.n
    ):
        raise ValueError(f"sample returns {action!r}, where the action_space is {space}")


def _as_policies_see(observation):
    return np.array(observation, float) if isinstance(observation, tuple) else int(observation)


# --- what comes back ---


def _check_samples(policy, env, points, report):
    """An action at each point."""
    actions: list = []
    for theta, observation, rng in points:
        action = policy.sample(theta, observation, rng)
        report.note_draws("sample", rng.draws)
        if np.ndim(action) == 0 and not isinstance(np.asarray(action)[()], np.integer):
            report.errors.append(
                f"sample returns {action!r}, must be an integer, or a tuple of floats for a Box"
            )
            return actions
        actions.append(int(action) if np.ndim(action) == 0 else np.array(action, float))
        if np.shape(actions[-1]) != np.shape(actions[0]):
            report.errors.append(f"sample returns {action!r} and {actions[0]!r}: the length must not vary")
        if not np.array_equal(policy.sample(theta, observation, rng), action):
            report.errors.append("sample gives another action with the same random numbers: it is not pure")
        returned = policy.score(theta, observation, actions[-1])
        score = np.asarray(returned)
        if score.shape != (policy.n_parameters,) or not np.isfinite(score).all():
            report.errors.append(
                f"score returns {returned!r}, must be a tuple of {policy.n_parameters} (n_parameters) finite "
                "numbers"
            )
        value = log_prob_of(policy, theta, observation, actions[-1])
        if np.shape(value) != () or not math.isfinite(value):
            report.errors.append(f"log_prob returns {value!r} of a sampled action, must be a finite number")
        if env is not None and np.ndim(action) and np.shape(action) != env.action_space.shape:
            report.errors.append(
                f"sample returns {action!r}, where the action_space has shape {env.action_space.shape}"
            )
        if report.errors:
            break
    return actions
