"""The call that estimates a policy gradient."""

import time
from collections.abc import Callable
from typing import Any

from fastpg.arguments import (
    MAX_TRAJECTORIES,
    check_environment,
    check_estimator,
    check_horizon,
    check_integer,
    check_policy,
    check_seed,
    check_theta,
    check_threads,
)
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.reinforce import REINFORCE
from fastpg.sampling import sample


def policy_gradient(
    env: Any,
    policy: Any,
    theta: Any,
    estimator: REINFORCE | None = None,
    *,
    n_trajectories: int,
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
    estimator : REINFORCE, optional
        ``REINFORCE(baseline="none" | "mean" | "optimal")``; without a baseline unless given.
    n_trajectories : int
        N, at least 1; at least 2 with a baseline. With 1 the standard errors are NaN.
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
    estimator = REINFORCE() if estimator is None else estimator
    check_estimator(estimator)
    n = check_integer("n_trajectories", n_trajectories, 1, MAX_TRAJECTORIES)
    estimator.check(n)
    shape = estimator.totals_shape(policy.n_parameters)
    settings: dict[str, Any] = {
        "horizon": check_horizon(env, horizon),
        "seed": check_seed(seed),
        "first_trajectory": check_integer("first_trajectory", first_trajectory, 0, MAX_TRAJECTORIES),
        "threads": check_threads(threads),
    }
    sums, n_steps = None, 0
    for done, totals, steps in sample(
        env, policy, theta, estimator.accumulator(policy.n_parameters), shape, n_trajectories=n, **settings
    ):
        sums = estimator.merge(sums, totals)
        n_steps += steps
        if progress is not None:
            progress(done)
    gradient, standard_error = estimator.gradient(sums, n)
    seconds = time.perf_counter() - started
    mean_return, return_standard_error, mean_length = estimator.returns(sums, n)
    return Estimate(
        gradient, standard_error, mean_return, return_standard_error, mean_length, n, n_steps, seconds
    )
