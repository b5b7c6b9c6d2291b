"""What a policy did in many environments, as arrays: for learners in PyTorch, JAX or plain NumPy."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpg.arguments import (
    check_environment,
    check_horizon,
    check_integer,
    check_policy,
    check_seed,
    check_theta,
    check_threads,
    check_vector,
)
from fastpg.random import seed_key, trajectory_rng
from fastpg.scores import is_neural
from fastpg.segments import Segments

MAX_ENVS = 2**31  # environment i of episode e has the random numbers of trajectory e · 2³² + i


@dataclass(frozen=True, eq=False)
class Rollout:
    """T steps of N environments; every array begins with the axes (T, N).

    Attributes
    ----------
    observations : array, shape (T, N, ...)
        What the policy saw: float64 for a linear policy, of θ's dtype for a neural one, int64 where the
        environment's observations are integers, and of their own dtype where they are arrays (images).
    actions : array, shape (T, N) of int64 or (T, N, m) of floats
        Gaussian ones as they were drawn: an environment clips them itself.
    log_probs : array, shape (T, N)
        log π_θ(action | observation).
    rewards : array, shape (T, N)
    terminated, truncated : bool array, shape (T, N)
        Whether the step ended an episode, of its own accord or at the horizon. The next step of that
        environment is the first of a new episode.
    next_observations : array, shape (T, N, ...)
        What each step led to: where an episode ended, its true final observation, and everywhere else
        ``observations[t + 1]``.
    values, next_values : array, shape (T, N), or None
        The critic's, of `observations` and `next_observations`; the latter are to be ignored where
        `terminated`.
    """

    observations: np.ndarray
    actions: np.ndarray
    log_probs: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observations: np.ndarray
    values: np.ndarray | None
    next_values: np.ndarray | None


def rollout(
    env: Any,
    policy: Any,
    theta: Any,
    *,
    n_steps: int | None = None,
    n_envs: int = 1,
    seed: int = 0,
    horizon: int | None = None,
    critic: Any = None,
    value_parameters: Any = None,
    threads: int | None = None,
) -> Rollout:
    """Let a policy act for `n_steps` steps in each of `n_envs` environments, and return all that happened.

    An environment whose episode ends begins the next one in the following step. The random numbers of an
    environment's e-th episode are those of trajectory e · 2³² + i of the seed, so the first episodes are the
    trajectories that `fastpg.policy_gradient` sees under the same seed (those of a network up to rounding,
    which depends on its place among others), and everything is bitwise the same for any number of threads.

    Parameters
    ----------
    env, policy : NamedTuple
        The policy has a `log_prob`.
    theta : array_like, shape (policy.n_parameters,)
    n_steps : int, optional
        T, at least 1; the horizon unless given.
    n_envs : int
        N, at least 1.
    seed, horizon, threads
        As for `fastpg.policy_gradient`.
    critic : NamedTuple, optional
        A value network for the environment's observations, such as the one of an actor-critic run, with
        its parameters in `value_parameters`. It computes in what is recorded: a neural policy's dtype,
        float64 beside others.

    Returns
    -------
    Rollout

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    """
    check_environment(env)
    check_policy(policy, env)
    if not hasattr(policy, "log_prob"):
        raise TypeError(f"policy={policy!r}: {type(policy).__name__} lacks log_prob")
    theta = check_theta(policy, theta)
    horizon = check_horizon(env, horizon)
    n_steps = horizon if n_steps is None else check_integer("n_steps", n_steps, 1)
    if (critic is None) != (value_parameters is None):
        raise ValueError("critic, value_parameters: must be given together, or neither")
    dtype = policy.network.dtype if is_neural(policy) else theta.dtype
    if critic is not None:
        _check_critic(critic, env, dtype)
        value_parameters = check_vector("value_parameters", value_parameters, critic.n_parameters)
        value_parameters = value_parameters.astype(dtype)
    segments = Segments(
        env,
        policy,
        check_integer("n_envs", n_envs, 1, MAX_ENVS),
        n_steps,
        horizon,
        check_seed(seed),
        dtype,
        critic,
        check_threads(threads),
    )
    segments.record(theta, value_parameters)
    segment = segments.segment
    following = segment.observations[1:].copy()
    over = segment.terminated | segment.truncated
    following[over] = segment.final_observations[over]
    return Rollout(
        segment.observations[:-1],
        segment.actions,
        segment.log_probs,
        segment.rewards,
        segment.terminated,
        segment.truncated,
        following,
        None if critic is None else segment.values,
        None if critic is None else segment.next_values,
    )


def _check_critic(critic, env, dtype):
    """Raise TypeError or ValueError unless `critic` is a value network for what is recorded."""
    if not all(hasattr(critic, name) for name in ("forward", "n_inputs", "n_outputs", "n_parameters")):
        raise TypeError(f"critic={critic!r}: must be a network (fastpg.networks), such as MLP.of((4, 64, 1))")
    observation = env.observe(env.reset(trajectory_rng(seed_key(0), 0)))
    if isinstance(observation, int | np.integer):
        raise ValueError(f"critic={critic!r}: a network cannot see observations that are integers")
    n = np.size(observation)
    if critic.n_inputs != n:
        raise ValueError(f"critic={critic!r}: has {critic.n_inputs} inputs, observations have {n} numbers")
    if critic.n_outputs != 1:
        raise ValueError(f"critic={critic!r}: has {critic.n_outputs} outputs, a value is one")
    if critic.dtype != dtype:
        raise ValueError(f"critic={critic!r}: computes in {critic.dtype}, what is recorded is {dtype}")
