"""Training: sample, differentiate, step θ, repeat (Williams 1992)."""

import time
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from fastpg.algorithms.checks import check_algorithm, is_algorithm
from fastpg.algorithms.learner import Learner
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
from fastpg.defaults import ALGORITHMS, Settings, settings_for
from fastpg.estimators.estimate import Estimate
from fastpg.estimators.gradient import policy_gradient
from fastpg.estimators.reinforce import REINFORCE
from fastpg.optimizers import Adam, learning_rate_at
from fastpg.runs import HISTORY, Run, encode, row_of
from fastpg.scores import is_neural

_NO_HISTORY = np.empty(0, HISTORY)
_UPDATES_ON_TARGET = 3  # in a row, so that one lucky batch does not stop a training


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training; ``run`` holds the updates that were finished."""

    def __init__(self, run: Run):
        super().__init__(f"interrupted after {len(run.history)} updates; they are in this exception's .run")
        self.run = run

    def __reduce__(self):
        return type(self), (self.run,)  # from the process of a pool, for example


class TrainingDiverged(FloatingPointError):
    """An update was not finite; ``run`` holds the updates before it."""

    def __init__(self, run: Run):
        cause = "a learning rate too large" if len(run.history) else "a reward or an observation that is not"
        super().__init__(
            f"update {len(run.history)} is not finite ({cause}?); "
            "the updates before it are in this exception's .run"
        )
        self.run = run

    def __reduce__(self):
        return type(self), (self.run,)


def train(
    env: Any,
    policy: Any = None,
    estimator: Any = None,
    *,
    n_updates: int | None = None,
    n_trajectories: int | None = None,
    optimizer: Any = None,
    algorithm: Any = None,
    target_return: float | None = None,
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
    env : NamedTuple
    policy : NamedTuple, optional
        Without one, it and everything else that is not given are from
        `fastpg.defaults.settings_for(env)`: for a registered environment, what is known to work there.
    estimator : REINFORCE, GPOMDP or RewardToGo, optional
        REINFORCE with the leave-one-out mean baseline unless given, or with none if N = 1.
    n_updates : int
        Updates to add, at least 1; 100 unless given. A learning rate of the known settings that falls over
        the known number of updates falls over this many, if they are more.
    n_trajectories : int
        N, trajectories an update, at least 1; 1000 unless given.
    optimizer : SGD, Momentum, Adam or NaturalGradient, optional
        ``Adam()`` unless given, ``Adam(0.01)`` for a neural policy; or anything with their two methods.
    algorithm : PPO, A2C or TRPO, optional
        An actor-critic algorithm in place of the gradient of whole trajectories: an update is a segment of
        steps and what the algorithm makes of it, and `policy` is a neural one. It has settings in place of
        `estimator`, `n_trajectories` and `optimizer`, which must not be given. Or its name, "ppo", "a2c" or
        "trpo": with settings that are known to work in the environment.
    target_return : float, optional
        Stop as soon as three updates in a row have had at least this mean return. The updates that are made
        are those that would have been made without it; the history shows how many.
    theta : array_like, optional
        Where to start; ``policy.initial()`` unless given, of a neural policy ``policy.initial(seed)``.
    seed, horizon, threads
        As for `fastpg.policy_gradient`.
    resume : Run, optional
        Go on with this run. Its settings must be as they were: what is not given is taken from it, but for
        `seed`; of an algorithm its name will do. `optimizer` may be another of the same class (its state goes
        on), and `theta` must not be given.
    progress : callable, optional
        Called after each update with its number and its `Estimate`, or for an algorithm its `Improvement`;
        both have `n_steps`, `seconds`, `mean_return` and `return_standard_error`.

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
    n_updates = None if n_updates is None else check_integer("n_updates", n_updates, 1)
    given = {"estimator": estimator, "n_trajectories": n_trajectories, "optimizer": optimizer}
    if resume is not None:
        policy = resume.policy if policy is None else policy
        horizon = resume.horizon if horizon is None else horizon
        if is_algorithm(resume.estimator):
            algorithm = resume.estimator if algorithm is None else algorithm
            if isinstance(algorithm, str):  # of a run that is resumed, the settings are its own
                algorithm = _of_that_name(algorithm, resume.estimator)
        elif algorithm is not None:
            raise ValueError(f"algorithm={algorithm!r}: the run to resume has {resume.estimator!r}")
        elif n_trajectories is None:
            n_trajectories = resume.n_trajectories
    elif policy is None or isinstance(algorithm, str):
        if algorithm is None or isinstance(algorithm, str):
            known = settings_for(env, algorithm, n_updates)
        else:  # of one that is given, only the policy's kind
            known = Settings(settings_for(env, "ppo").policy)
        policy = known.policy if policy is None else policy
        algorithm = known.algorithm if known.algorithm is not None else algorithm
        estimator = known.estimator if estimator is None else estimator
        n_updates = known.n_updates if known.n_updates is not None else n_updates
        n_trajectories = known.n_trajectories if n_trajectories is None else n_trajectories
        optimizer = known.optimizer if optimizer is None else optimizer
        horizon = known.horizon if horizon is None else horizon
        target_return = known.target_return if target_return is None else target_return
    check_policy(policy, env)
    n_updates = 100 if n_updates is None else n_updates
    target_return = _checked_target(target_return)
    threads = check_threads(threads)
    settings = {
        "env": env,
        "policy": policy,
        "seed": check_seed(seed),
        "horizon": check_horizon(env, horizon),
    }
    stepper: Any
    if algorithm is not None:
        _refuse_with(algorithm, given)
        check_algorithm(algorithm)
        settings |= {"estimator": algorithm, "n_trajectories": algorithm.n_envs}
        learner = Learner(env, policy, algorithm, settings["horizon"], settings["seed"], threads)
        if resume is None:
            theta = check_theta(policy, policy.initial(settings["seed"]) if theta is None else theta)
            state = learner.initial_state
            run = Run(**settings, optimizer=None, theta=theta, history=_NO_HISTORY, optimizer_state=state)
        else:
            run = _resumed(resume, None, theta, **settings)
        stepper = learner
    else:
        n_trajectories = check_integer(
            "n_trajectories", 1000 if n_trajectories is None else n_trajectories, 1, MAX_TRAJECTORIES
        )
        settings["n_trajectories"] = n_trajectories
        if resume is None:
            if estimator is None:
                estimator = REINFORCE(baseline="mean" if n_trajectories > 1 else "none")
            optimizer = default_optimizer(policy) if optimizer is None else optimizer
            check_optimizer(optimizer)
            if theta is None and not hasattr(policy, "initial"):
                raise TypeError(f"theta=None: must be given, for {type(policy).__name__} has no initial()")
            if theta is None:
                theta = policy.initial(settings["seed"]) if is_neural(policy) else policy.initial()
            theta = check_theta(policy, theta)
            settings |= {"estimator": estimator, "optimizer": optimizer}
            state = optimizer.initial(theta)
            run = Run(**settings, theta=theta, history=_NO_HISTORY, optimizer_state=state)
        else:
            settings["estimator"] = resume.estimator if estimator is None else estimator
            run = _resumed(resume, optimizer, theta, **settings)
        stepper = _GradientSteps(run, threads)

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
            theta, state, report, columns = stepper.step(theta, state, update)
            if not np.isfinite(theta).all():
                raise TrainingDiverged(so_far())
            n_steps += report.n_steps
            seconds = time.perf_counter() - started
            history[update] = row_of(update=update, n_steps=n_steps, seconds=seconds, **columns)
            finished = update + 1, theta, state
            if progress is not None:
                progress(update, report)
            if target_return is not None and _on_target(history[: update + 1], target_return):
                break
    except KeyboardInterrupt:
        raise TrainingInterrupted(so_far()) from None
    except Exception as error:
        error.run = so_far()  # type: ignore[attr-defined]
        raise
    return so_far()


def default_optimizer(policy: Any) -> Adam:
    """Return the optimizer that a policy is trained with unless another is given."""
    return Adam(0.01) if is_neural(policy) else Adam()


class _GradientSteps:
    """Updates along the estimated policy gradient of whole trajectories."""

    def __init__(self, run: Run, threads: int | None):
        check_estimator(run.estimator)
        run.estimator.check(run.n_trajectories)
        _learning_rate(run.optimizer, len(run.history))
        if hasattr(run.optimizer, "check"):
            run.optimizer.check(len(run.history))
        self.run, self.threads = run, threads
        self.uses_fisher = getattr(run.optimizer, "uses_fisher", False)

    def step(self, theta, state, update):
        """Return θ and the state after an update, its estimate, and the columns of its row."""
        run, n = self.run, self.run.n_trajectories
        estimate = policy_gradient(
            run.env,
            run.policy,
            theta,
            run.estimator,
            n_trajectories=n,
            seed=run.seed,
            horizon=run.horizon,
            threads=self.threads,
            first_trajectory=update * n,
            fisher=self.uses_fisher,
        )
        information = (estimate.fisher,) if self.uses_fisher else ()
        with np.errstate(all="ignore"):  # what is not finite, `train` tells
            theta, state = run.optimizer.step(theta, estimate.gradient, state, update, *information)
        columns = {
            "mean_return": estimate.mean_return,
            "return_standard_error": estimate.return_standard_error,
            "mean_length": estimate.mean_length,
            "gradient_norm": np.linalg.norm(estimate.gradient),
            "gradient_error": np.linalg.norm(estimate.standard_error),
            "signal_to_noise": estimate.signal_to_noise,
            "learning_rate": _learning_rate(run.optimizer, update),
        }
        return theta, state, estimate, columns


def _of_that_name(name, algorithm):
    """Return the algorithm of the run to resume, if that is its name."""
    if not isinstance(algorithm, ALGORITHMS.get(name, ())):
        raise ValueError(f"algorithm={name!r}: the run to resume has {algorithm!r}")
    return algorithm


def _refuse_with(algorithm, given):
    """Raise ValueError if what an algorithm has within itself is given beside it."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={value!r}: must not be given with algorithm={algorithm!r}")


def _checked_target(target):
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, Real):
        raise TypeError(f"target_return={target!r}: must be a number")
    if np.isnan(target):
        raise ValueError(f"target_return={target!r}: must be a number")
    return float(target)


def _on_target(history, target):
    last = history["mean_return"][-_UPDATES_ON_TARGET:]
    return len(last) == _UPDATES_ON_TARGET and bool((last >= target).all())


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
    if is_algorithm(run.estimator):
        return run
    if run.optimizer is None or _learning_rate_lost(run.optimizer):
        raise ValueError("optimizer: the saved run's could not be kept (a function?); give it again")
    return run


def _learning_rate_lost(optimizer):
    return any(getattr(optimizer, name, 0.0) is None for name in ("learning_rate", "kl"))
