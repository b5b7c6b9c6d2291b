"""Finite Markov decision processes under a policy: what the exact recursions are made of."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastpg.arguments import check_discount, check_environment, check_horizon, check_policy, check_theta

_MAX_BYTES = 2**30
_ROUNDING = 1e-9  # on sums that must be 1, and expectations that must be 0


class Model(NamedTuple):
    """The process under the policy."""

    probability: np.ndarray  # (S, A, K)
    successor: np.ndarray  # (S, A, K)
    live: np.ndarray  # (S, A, K): probability, 0 where the outcome ends the episode
    weight: np.ndarray  # (S, A, K): γ · live
    reward: np.ndarray  # (S, A, K)
    start: np.ndarray  # (S,)
    pi: np.ndarray  # (S, A)
    discount: float


def model_of(mdp, policy, theta, discount):
    """Check what both public functions are given."""
    if not (hasattr(mdp, "outcomes") and hasattr(mdp, "start")):
        raise TypeError(
            f"mdp={mdp!r}: must be a fastpg.envs.FiniteMDP; FiniteMDP.from_gymnasium makes one of a "
            "Gymnasium environment with a table"
        )
    check_environment(mdp)
    check_policy(policy, mdp)
    theta = check_theta(policy, theta)
    gamma = check_discount(discount)
    probability, successor, reward, terminated = mdp.outcomes
    live = np.where(terminated, 0.0, probability)
    n_states, n_actions, _ = probability.shape
    pi = np.array([state_probabilities(policy, theta, s, n_actions) for s in range(n_states)])
    return Model(probability, successor, live, gamma * live, reward, mdp.start, pi, gamma), policy, theta


def state_probabilities(policy: Any, theta: np.ndarray, state: int, n_actions: int) -> np.ndarray:
    """Return π(· | state), shape (A,), or raise if it is none."""
    if hasattr(policy, "probabilities"):
        pi = np.asarray(policy.probabilities(theta, state), dtype=np.float64)
    elif hasattr(policy, "log_prob"):
        pi = np.exp([policy.log_prob(theta, state, a) for a in range(n_actions)])
    else:
        raise TypeError(f"policy={policy!r}: {type(policy).__name__} lacks probabilities, and log_prob")
    if pi.shape != (n_actions,):
        raise ValueError(f"policy: probabilities() has the shape {pi.shape}, must have ({n_actions},)")
    if not (pi >= 0).all() or not abs(pi.sum() - 1) <= _ROUNDING:
        raise ValueError(f"policy: probabilities() in state {state} are {pi.tolist()}")
    return pi


def state_scores(policy: Any, theta: np.ndarray, state: int, pi: np.ndarray) -> np.ndarray:
    """Return ∇log π(a | state) of all actions, shape (A, P), 0 where π is; raise unless E[score] = 0."""
    shape = (policy.n_parameters,)
    scores = np.zeros((len(pi), *shape))
    for a in np.flatnonzero(pi > 0).tolist():
        score = np.asarray(policy.score(theta, state, a), dtype=np.float64)
        if score.shape != shape:
            raise ValueError(f"policy: score() has the shape {score.shape}, must have {shape}")
        scores[a] = score
    size = np.abs(scores).max(initial=0.0)
    if not np.abs(pi @ scores).max(initial=0.0) <= _ROUNDING * max(1.0, size):
        raise ValueError(f"policy: the expectation of score() in state {state} is not 0")
    return scores


def scores_of(model: Model, policy: Any, theta: np.ndarray) -> Iterator[np.ndarray]:
    """The scores of each state in turn: an array of all of them may be large."""
    for state, pi in enumerate(model.pi):
        yield state_scores(policy, theta, state, pi)


def check_steps(env: Any, horizon: Any, discount: float) -> int | None:
    """Return the number of steps, None if it is infinite, or raise."""
    if isinstance(horizon, float) and horizon == math.inf:
        if discount == 1.0:
            raise ValueError("discount=1.0: must be below 1 if the horizon is infinite")
        return None
    return check_horizon(env, horizon)


def check_memory(size: float, what: str) -> None:
    """Raise ValueError above 1 GiB."""
    if size > _MAX_BYTES:
        raise ValueError(f"{what}: would need {size / 2**30:.1f} GiB of memory, at most 1 is allowed")


def table_of(baseline, n_states, steps):
    """Tabulate a baseline with a method ``value(state, time)``: shape (T, S, 1)."""
    return np.array([[[baseline.value(s, t)] for s in range(n_states)] for t in range(steps)])


def finite_numbers(name, value, allowed):
    """A finite float64 array."""
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf":
            raise TypeError
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}: must be {allowed}") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name}={value!r}: must be finite")
    return numbers.astype(np.float64)


def values_of(model, steps):
    """V_t for t = 0, ..., T: shape (T + 1, S)."""
    values = np.zeros((steps + 1, len(model.start)))
    reward = np.sum(model.probability * model.reward, axis=2)
    for t in range(steps - 1, -1, -1):
        ahead = np.sum(model.weight * values[t + 1][model.successor], axis=2)
        values[t] = np.sum(model.pi * (reward + ahead), axis=1)
    return values


def differences(model, values, t):
    """δ_t of every outcome, shape (S, A, K)."""
    # Where an outcome has probability 0 it is never used; where it ends the episode, weight is 0.
    ahead = np.where(model.live > 0, model.discount * values[t + 1][model.successor], 0.0)
    return model.reward + ahead - values[t][:, np.newaxis, np.newaxis]


def forward(model, weight):
    """Σ weight p over the outcomes that lead to each state, shape (S,); weight is (S, 1 or A, 1 or K)."""
    flow = model.live * model.pi[:, :, np.newaxis] * weight
    return np.bincount(model.successor.ravel(), flow.ravel(), minlength=len(model.start))


def occupancy(model, steps):
    """d_t(s), the probability that the episode is not over at t and in s: shape (T, S)."""
    alive = np.empty((steps, len(model.start)))
    alive[0] = model.start
    for t in range(1, steps):
        alive[t] = forward(model, alive[t - 1][:, np.newaxis, np.newaxis])
    return alive


def expected(weight, successor, values):
    """Σ_k weight[s, k] values[successor[s, k]], shape (S, P)."""
    total = np.zeros_like(values)
    for k in range(weight.shape[1]):
        total += weight[:, k, np.newaxis] * values[successor[:, k]]
    return total


def action_moments(model, delta, variance):
    """q_1 and q_2, shape (S, A), from δ and the next step's v."""
    q1 = np.sum(model.probability * delta, axis=2)
    ahead = model.discount * model.weight * variance[model.successor]
    return q1, np.sum(model.probability * delta**2 + ahead, axis=2)
