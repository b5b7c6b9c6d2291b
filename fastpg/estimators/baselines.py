"""Baselines fitted on a pilot batch, whose trajectories are independent of those of the estimate.

A baseline V(s_t, t) that does not depend on a_t, nor on the trajectory it is used on but through s_t and t,
leaves the estimate unbiased: E[∇log π(a_t|s_t) V(s_t, t) | s_t] = 0. Each is a least-squares fit of the
rewards-to-go ρ_t = Σ_{k≥t} γ^{k-t} r_k of the pilot batch:

- **mean**: one number;
- **time**: one for each time step, the mean over the trajectories that are not over;
- **value**: a linear state-value function, of (o, o², τ, τ², τ³, 1) with the observation o and τ = t / T
  (Duan, Chen, Houthooft, Schulman & Abbeel 2016, "Benchmarking deep reinforcement learning for continuous
  control", §6), or where the observation is an integer, a value for each;
- **network**: a multilayer perceptron of (o, τ), for neural policies (`fastpg.estimators.value_network`).
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.environment import observation_length, observation_shape
from fastpg.estimators.value_network import fit_network
from fastpg.scores import is_neural
from fastpg.tables import lookup

BASELINES = ("none", "mean", "time", "value")  # and "network", for neural policies alone


class Constant(NamedTuple):
    """The same number for all; 0 for none."""

    level: float

    def value(self, observation, time):
        """Return V(s_t, t)."""
        return self.level


class TimeTable(NamedTuple):
    """A number for each time step, as far as the batch has them; the last one for those behind."""

    values: np.ndarray

    def value(self, observation, time):
        """Return V(s_t, t)."""
        return lookup(self.values, min(time, len(self.values) - 1))


class StateTable(NamedTuple):
    """A number for each observation, where it is an integer."""

    values: np.ndarray
    first: int

    def value(self, observation, time):
        """Return V(s_t, t)."""
        return lookup(self.values, observation - self.first)


class LinearValue(NamedTuple):
    """Linear in (o, o², 1) and (τ, τ², τ³)."""

    weights: tuple
    of_time: tuple
    longest: int  # trajectory of the batch: beyond, the polynomial may do anything
    horizon: float

    def value(self, observation, time):
        """Return V(s_t, t)."""
        tau = min(time, self.longest) / self.horizon
        a, b, c = self.of_time
        features = vectors.concatenate(observation, vectors.squares(observation))
        return vectors.affine(self.weights, features)[0] + tau * (a + tau * (b + tau * c))


def is_zero(baseline: Any) -> bool:
    """Return whether a baseline for each step is 0 for every state and time."""
    if isinstance(baseline, LinearValue):
        return not any(baseline.weights + baseline.of_time)
    return isinstance(baseline, (TimeTable, StateTable)) and not baseline.values.any()


def fit(kind: str, problem: Any, discount: float, whole: bool = False) -> Any:
    """Return the baseline of that kind, fitted on a pilot batch of the problem.

    To the rewards-to-go, or if `whole` to the return of the whole trajectory.
    """
    shape = observation_shape(problem.env)
    if kind == "value" and len(shape) > 1:
        raise ValueError(f"baseline='value': is linear in vectors; observations have the shape {shape}")
    if kind == "network" and not is_neural(problem.policy):
        name = type(problem.policy).__name__
        raise ValueError(f"baseline='network': for neural policies, not a {name}; 'value' is linear")
    batch = problem.pilot(observed=kind in ("value", "network"))
    alive, to_go = batch.alive, batch.rewards_to_go(discount)
    if whole:
        to_go[:] = to_go[:, :1]
    if kind == "network":
        return fit_network(batch, to_go, problem.horizon, problem.policy.network.dtype, problem.seed)
    if kind == "mean":  # of a whole return each trajectory counts once, however long it is
        return Constant(float((to_go[:, 0] if whole else to_go[alive]).mean()))
    if kind == "time":
        return TimeTable(to_go.sum(axis=0, where=alive) / alive.sum(axis=0))
    if observation_length(problem.env) == 0:
        space = problem.env.observation_space
        first = int(space.start)
        states = batch.observations[..., 0][alive].astype(np.int64) - first
        counts = np.bincount(states, minlength=int(space.n))
        sums = np.bincount(states, to_go[alive], minlength=int(space.n))
        return StateTable(np.where(counts > 0, sums / np.maximum(counts, 1), to_go[alive].mean()), first)
    observations = batch.observations[alive]
    tau = np.nonzero(alive)[1][:, np.newaxis] / problem.horizon
    with np.errstate(over="ignore"):
        features = np.hstack([observations, observations**2, np.ones_like(tau), tau, tau**2, tau**3])
    if not (np.isfinite(features).all() and np.isfinite(to_go).all()):
        raise ValueError("baseline='value': the squares of observations, and all rewards, must be finite")
    scale = np.abs(features).max(axis=0)
    seen = scale > 0  # what was 0 throughout has weight 0
    weights = np.zeros(len(scale))
    weights[seen] = (
        np.linalg.lstsq(features[:, seen] / scale[seen], to_go[alive], rcond=None)[0] / scale[seen]
    )
    longest = int(batch.lengths.max()) - 1
    return LinearValue(
        tuple(weights[:-3].tolist()), tuple(weights[-3:].tolist()), longest, float(problem.horizon)
    )
