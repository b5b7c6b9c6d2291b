"""The call that estimates a policy gradient."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastpg.arguments import (
    MAX_TRAJECTORIES,
    check_environment,
    check_estimator,
    check_horizon,
    check_integer,
    check_policy,
    check_positive,
    check_seed,
    check_theta,
    check_threads,
)
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.gpomdp import GPOMDP
from fastpg.estimators.importance import check_behavior, effective_sample_size, weighted, without_weights
from fastpg.estimators.natural import MAX_DENSE, FisherInformation
from fastpg.estimators.problem import Problem
from fastpg.estimators.reinforce import REINFORCE, ScoresAndReturns, without_zeros
from fastpg.estimators.second_moments import mean_outer_product
from fastpg.estimators.sums import merged, return_statistics

_FIRST_ROUND = 1024  # trajectories, before their errors tell how many are needed


def policy_gradient(
    env: Any,
    policy: Any,
    theta: Any,
    estimator: Any = None,
    *,
    n_trajectories: int | None = None,
    behavior: Any = None,
    relative_error: float | None = None,
    max_trajectories: int = 10_000_000,
    covariance: bool = False,
    fisher: bool = False,
    seed: int = 0,
    horizon: int | None = None,
    threads: int | None = None,
    first_trajectory: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Estimate:
    r"""Estimate the gradient of the expected return by Monte Carlo.

    .. math:: \nabla J(\theta) = E_\tau\Big[\Big(\sum_t \nabla\log\pi_\theta(a_t|s_t)\Big) R(\tau)\Big]
              \approx \frac1N \sum_{i=1}^N \Big(\sum_t \nabla\log\pi_\theta(a_{it}|s_{it})\Big) R(\tau_i)

    Parameters
    ----------
    env : NamedTuple
        An environment, from `fastpg.make` or of your own class.
    policy : NamedTuple
        A policy, such as ``SoftmaxLinear.for_env(env)``.
    theta : array_like, shape (policy.n_parameters,)
        Where the gradient is taken; finite.
    estimator : REINFORCE, GPOMDP or RewardToGo, optional
        The formula above is `REINFORCE`'s, which is used unless another is given: its options, and the other
        estimators, have other baselines and discounts.
    n_trajectories : int
        N, at least 1; at least 2 with a baseline of REINFORCE's. With 1 the standard errors are NaN. To be
        left out if `relative_error` is given.
    behavior : array_like, shape (policy.n_parameters,), optional
        Take the trajectories from the policy with these parameters in place of θ, and weight them
        (`fastpg.estimators.importance`); with `GPOMDP` or `RewardToGo`. The mean return is then that of the
        trajectories taken; a pilot batch is taken under θ.
    relative_error : float, optional
        Sample on until ``norm(standard_error) <= relative_error · norm(gradient)``, and the gradient is not
        0. The trajectories are those that a call with the N it ends with would use, but for a pilot batch,
        which is that of the first 1024. (As N depends on what was seen, intervals are a trace narrower than
        for an N fixed beforehand.)
    max_trajectories : int
        Where that stops in any case.
    covariance : bool
        Estimate the covariance of all components too. Takes the trajectories a second time.
    fisher : bool
        Estimate the Fisher information too, of θ. Takes the trajectories once more (with `behavior` as many
        of θ itself); of more than 512 parameters no matrix is formed, and each of its products takes them.
    seed : int
        0 <= seed < 2**64. Trajectory i of a seed is the same in every call.
    horizon : int, optional
        T, the number of steps after which a trajectory is cut off; the environment's own (Gymnasium's
        time limit) unless given. J is the T-horizon objective: nothing is bootstrapped at the cut.
    threads : int, optional
        All that Numba is set to use unless given. The result is bitwise the same for any number.
    first_trajectory : int
        Number of the first trajectory within the seed, for more of the same stream.
    progress : callable, optional
        Called a few times a second with the number of trajectories done.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.
    """
    started = time.perf_counter()
    check_environment(env)
    check_policy(policy, env)
    theta = check_theta(policy, theta)
    if estimator is None:
        estimator = REINFORCE() if behavior is None else GPOMDP()
    check_estimator(estimator)
    if relative_error is None and n_trajectories is None:
        raise TypeError("n_trajectories=None: must be an integer, unless relative_error is given")
    if relative_error is None:
        n = check_integer("n_trajectories", n_trajectories, 1, MAX_TRAJECTORIES)
        most = n
    elif n_trajectories is None:
        check_positive("relative_error", relative_error)
        most = check_integer("max_trajectories", max_trajectories, 2, MAX_TRAJECTORIES)
        n = min(_FIRST_ROUND, most)
    else:
        raise ValueError(f"n_trajectories={n_trajectories!r}: must not be given with relative_error")
    estimator.check(n)
    p = policy.n_parameters
    if covariance and p > MAX_DENSE:
        raise ValueError(f"covariance=True: a matrix of {p}² numbers, at most {MAX_DENSE}² are allowed")
    if behavior is not None:
        behavior = check_theta(policy, behavior, "behavior")
        check_behavior(policy, estimator)
    problem = Problem(
        env,
        policy,
        theta,
        n,
        check_horizon(env, horizon),
        check_seed(seed),
        check_integer("first_trajectory", first_trajectory, 0, MAX_TRAJECTORIES),
        check_threads(threads),
        [],
    )
    accumulator = estimator.accumulator(problem)
    if behavior is None:
        estimator, accumulator = without_zeros(estimator, accumulator, problem)
    shape = estimator.totals_shape(p)
    if behavior is not None:
        accumulator, shape = weighted(accumulator, shape, policy, behavior)
    sums: Any = None
    n_steps = before = 0
    part = problem
    while True:
        for done, totals, steps in part.sample(accumulator, shape):
            sums = merged(sums, totals, p)
            n_steps += steps
            if progress is not None:
                progress(before + done)
        terms = sums if behavior is None else without_weights(sums)
        gradient, standard_error = estimator.gradient(terms, n)
        if relative_error is None or n == most:
            break
        error, allowed = np.linalg.norm(standard_error), relative_error * np.linalg.norm(gradient)
        if error <= allowed and allowed > 0.0:
            break
        missing = error / allowed if allowed > 0.0 else np.inf
        # In whole rounds, so that a trajectory's group (its number modulo a power of two) stays what it is.
        before, wanted = n, min(8.0, max(1.5, 1.1 * missing**2)) * n
        n = min(most, -(-int(wanted) // _FIRST_ROUND) * _FIRST_ROUND)
        first = problem.first_trajectory + before
        part = problem._replace(n_trajectories=n - before, first_trajectory=first)
    problem = problem._replace(n_trajectories=n)
    more: dict[str, Any] = {}
    if behavior is not None:
        more["effective_sample_size"] = effective_sample_size(sums)
    if covariance:
        weights = 1.0, np.zeros((1, p))  # α = 1, β = 0: the importance weights
        factor, offsets = estimator.terms(sums, n) if behavior is None else weights
        second = mean_outer_product(problem, accumulator, factor, offsets)
        centred = second - np.outer(gradient, gradient)
        more["covariance"] = centred / (n - 1) if n > 1 else np.full((p, p), np.nan)
    if fisher and p > MAX_DENSE:
        more["fisher"] = FisherInformation(problem)
    elif fisher:
        more["fisher"] = mean_outer_product(problem, ScoresAndReturns(1), 0.0, np.ones((1, p)))
    n_steps += sum(problem.pilot_steps)
    seconds = time.perf_counter() - started
    mean_return, return_error, mean_length = return_statistics(sums)
    return Estimate(
        gradient, standard_error, mean_return, return_error, mean_length, n, n_steps, seconds, **more
    )
