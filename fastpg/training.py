"""REINFORCE, the algorithm: sample, differentiate, step θ, repeat (Williams 1992)."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastpg.arguments import (
    MAX_TRAJECTORIES,
    check_environment,
    check_estimator,
    check_horizon,
    check_integer,
    check_optimizer,
    check_policy,
    check_seed,
    check_theta,
    check_threads,
)
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.gradient import policy_gradient
from fastpg.estimators.reinforce import REINFORCE
from fastpg.optimizers import Adam, learning_rate_at
from fastpg.runs import HISTORY, Run, encode


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; ``run`` holds the updates that were finished."""

    def __init__(self, run: Run):
        super().__init__(f"interrupted after {len(run.history)} updates; they are in this exception's .run")
        self.run = run


class TrainingDiverged(FloatingPointError):
    """An update was not finite; ``run`` holds the updates before it."""

    def __init__(self, run: Run):
        super().__init__(
            f"update {len(run.history)} is not finite (a learning rate too large?); "
            "the updates before it are in this exception's .run"
        )
        self.run = run


def train(
    env: Any,
    policy: Any,
    estimator: REINFORCE | None = None,
    *,
    n_updates: int = 100,
    n_trajectories: int = 1000,
    optimizer: Any = None,
    theta: Any = None,
    seed: int = 0,
    horizon: int | None = None,
    threads: int | None = None,
    resume: Run | None = None,
    progress: Callable[[int, Estimate], None] | None = None,
) -> Run:
    r"""Train a policy by gradient ascent on its estimated policy gradient.

    .. math:: \theta_{k+1} = \theta_k + \alpha_k \widehat{\nabla J}(\theta_k), \qquad k = 0, 1, \dots

    Update k uses the trajectories k·N, ..., (k+1)·N − 1 of the seed, so a run that is resumed equals
    an uninterrupted one bit for bit.

    Parameters
    ----------
    env, policy : NamedTuple
    estimator : REINFORCE, optional
        With the leave-one-out mean baseline unless given, or with none if N = 1.
    n_updates : int
        Updates to add, at least 1.
    n_trajectories : int
        N, trajectories an update, at least 1.
    optimizer : SGD, Momentum or Adam, optional
        ``Adam()`` unless given; or anything with their two methods.
    theta : array_like, optional
        Where to start; ``policy.initial()`` unless given.
    seed, horizon, threads
        As for `fastpg.policy_gradient`.
    resume : Run, optional
        Go on with this run. Its settings must be given again as they were, but for `estimator` and
        `optimizer`, which are taken from it; `optimizer` may be another of the same class (its state
        goes on), and `theta` must not be given.
    progress : callable, optional
        Called after each update with its number and its `Estimate`.

    Returns
    -------
    Run

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    TrainingInterrupted
        On Ctrl-C (within a quarter of a second); it carries the finished updates.
    TrainingDiverged
        If θ would stop being finite.
    Exception
        What the estimator, the optimizer or `progress` raises; it too carries the finished updates, as
        its attribute ``run``.
    """
    check_environment(env)
    check_policy(policy, env)
    n_updates = check_integer("n_updates", n_updates, 1)
    n_trajectories = check_integer("n_trajectories", n_trajectories, 1, MAX_TRAJECTORIES)
    if resume is None:
        if estimator is None:
            estimator = REINFORCE(baseline="mean" if n_trajectories > 1 else "none")
        optimizer = Adam() if optimizer is None else optimizer
        check_optimizer(optimizer)
        theta = check_theta(policy, policy.initial() if theta is None else theta)
        run = Run(
            env=env,
            policy=policy,
            estimator=estimator,
            optimizer=optimizer,
            theta=theta,
            history=np.empty(0, HISTORY),
            optimizer_state=optimizer.initial(theta),
            n_trajectories=n_trajectories,
            horizon=check_horizon(env, horizon),
            seed=check_seed(seed),
        )
    else:
        run = _resumed(
            resume,
            optimizer,
            theta,
            env=env,
            policy=policy,
            n_trajectories=n_trajectories,
            seed=check_seed(seed),
            horizon=check_horizon(env, horizon),
            estimator=resume.estimator if estimator is None else estimator,
        )
    check_threads(threads)
    check_estimator(run.estimator)
    run.estimator.check(n_trajectories)
    _learning_rate(run.optimizer, len(run.history))

    first = len(run.history)
    history = np.empty(first + n_updates, HISTORY)
    history[:first] = run.history
    n_steps = int(history[first - 1]["n_steps"]) if first else 0
    started = time.perf_counter() - (float(history[first - 1]["seconds"]) if first else 0.0)
    finished = first, run.theta, run.optimizer_state  # one name, so that Ctrl-C cannot fall between

    def so_far():
        updates, theta, state = finished
        return replace(run, theta=theta, history=history[:updates], optimizer_state=state)

    try:
        for update in range(first, first + n_updates):
            _, theta, state = finished
            estimate = policy_gradient(
                env,
                policy,
                theta,
                run.estimator,
                n_trajectories=n_trajectories,
                seed=run.seed,
                horizon=run.horizon,
                threads=threads,
                first_trajectory=update * n_trajectories,
            )
            with np.errstate(all="ignore"):  # what is not finite is told below
                theta, state = run.optimizer.step(theta, estimate.gradient, state, update)
            if not np.isfinite(theta).all():
                raise TrainingDiverged(so_far())
            n_steps += estimate.n_steps
            history[update] = (
                update,
                n_steps,
                time.perf_counter() - started,
                estimate.mean_return,
                estimate.return_standard_error,
                estimate.mean_length,
                np.linalg.norm(estimate.gradient),
                np.linalg.norm(estimate.standard_error),
                estimate.signal_to_noise,
                _learning_rate(run.optimizer, update),
            )
            finished = update + 1, theta, state
            if progress is not None:
                progress(update, estimate)
    except KeyboardInterrupt:
        raise TrainingInterrupted(so_far()) from None
    except Exception as error:
        error.run = so_far()  # type: ignore[attr-defined]
        raise
    return so_far()


def _learning_rate(optimizer, update):
    """The learning rate of an update; NaN for an optimizer that has none."""
    schedule = getattr(optimizer, "learning_rate", None)
    return float("nan") if schedule is None else learning_rate_at(schedule, update)


def _resumed(run, optimizer, theta, **settings):
    """The run to go on with, checked against the settings that must be the same."""
    if theta is not None:
        raise ValueError("theta: must not be given with resume, which goes on from the run's own")
    for name, value in settings.items():
        kept = getattr(run, name)
        if repr(encode(value)) != repr(encode(kept)):  # as text: arrays, and 1 is neither 1.0 nor True
            raise ValueError(f"{name}={value!r}: the run to resume has {kept!r}")
    if optimizer is not None:
        if run.optimizer is not None and type(optimizer) is not type(run.optimizer):
            raise ValueError(
                f"optimizer={optimizer!r}: the run to resume has the state of {run.optimizer!r}, must be of "
                "the same class; to change it, start anew with theta=run.theta"
            )
        return replace(run, optimizer=optimizer)
    if run.optimizer is None or _learning_rate_lost(run.optimizer):
        raise ValueError("optimizer: the saved run's could not be kept (a function?); give it again")
    return run


def _learning_rate_lost(optimizer):
    return hasattr(optimizer, "learning_rate") and optimizer.learning_rate is None
