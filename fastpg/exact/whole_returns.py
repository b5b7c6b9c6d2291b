r"""The covariance of REINFORCE with a baseline for each step, on finite Markov decision processes.

In the notation of `fastpg.exact.finite_mdp`, the term of a trajectory is

    Σ_t g_t (R - β_t(s_t)) = s (R - J) + K,      K = Σ_t g_t k_t,    k_t = J - β_t(s_t),

with E[K] = 0, and E[s sᵀ (R - J)²] = M_2 is known. Of K Kᵀ only the terms of one step do not vanish,
E[K Kᵀ] = Σ_t E[k_t² g_t g_tᵀ]. What is left is E[s Kᵀ (R - J)] and its transpose: with
R - J = X_t + γ^t ε_t as there, and b(s) = E[ε_t Σ_{u≥t} g_u k_u | s], c(s,a) the same of u > t given the
action, which go backward as

    c = Σ p_k γ b(s'_k),        b = Σ_a π (k q_1 g + c),

its terms g_t g_uᵀ k_u (R - J) with t = u, t < u and t > u are

    k (f_1 + f_0 γ^t q_1) g gᵀ,        f_0 γ^t g cᵀ,        f_0 γ^t k c_1 gᵀ,

times π, with c_1 as there; the last is the transpose of what stands between g and 1.
"""

from typing import Any

import numpy as np

from fastpg.exact.finite_mdp import policy_gradient
from fastpg.exact.model import (
    action_moments,
    check_steps,
    differences,
    expected,
    finite_numbers,
    forward,
    model_of,
    scores_of,
    table_of,
    values_of,
)

_BASELINES = "'time', a number, one for each step, or what has a method value(state, time)"


def reinforce_covariance(
    mdp: Any,
    policy: Any,
    theta: Any,
    *,
    baseline: Any = "time",
    horizon: int | None = None,
    discount: float = 1.0,
) -> np.ndarray:
    """Return the covariance of REINFORCE's term of one trajectory, Σ_t g_t (R - β_t), shape (P, P).

    With a constant baseline it is `ExactGradient.baseline_covariance`. Operations and memory are twice those
    of ``policy_gradient(..., covariance=True)``.

    Parameters
    ----------
    mdp, policy, theta, horizon, discount
        As for `policy_gradient`; the horizon is finite.
    baseline : "time", float, array of shape (T,), or object
        β_t: the mean return of the trajectories that are not over at t; or numbers, or what has a method
        ``value(state, time)``, as the baselines have that estimators fit.

    Raises
    ------
    TypeError, ValueError
        As `policy_gradient` does, and if `baseline` is none of these.
    """
    whole = policy_gradient(mdp, policy, theta, horizon=horizon, discount=discount, covariance=True)
    model, policy, theta = model_of(mdp, policy, theta, discount)
    steps = check_steps(mdp, horizon, model.discount)
    assert steps is not None  # or it would have been refused
    scores = np.stack(list(scores_of(model, policy, theta)))
    n_states, n_actions, p = scores.shape
    values = values_of(model, steps)
    given = _given(baseline, n_states, steps)
    past = np.empty((steps, 2, n_states))  # f_0 and f_1
    past[0] = model.start, model.start * (values[0] - whole.expected_return)
    for t in range(1, steps):
        f0, f1 = past[t - 1][:, :, np.newaxis, np.newaxis]
        step = model.discount ** (t - 1) * differences(model, values, t - 1)
        past[t] = forward(model, f0), forward(model, f1 + f0 * step)
    same, squares = np.zeros((n_states, n_actions)), np.zeros((n_states, n_actions))
    later = np.zeros((n_states, n_actions, p))
    b, b1, variance = np.zeros((n_states, p)), np.zeros((n_states, p)), np.zeros(n_states)
    for t in range(steps - 1, -1, -1):
        if given is None:
            reached = past[t, 0].sum()
            k = np.full((n_states, 1), -past[t, 1].sum() / reached if reached > 0 else 0.0)
        else:
            k = np.broadcast_to(whole.expected_return - given[t], (n_states, 1))
        q1, q2 = action_moments(model, differences(model, values, t), variance)
        f0, f1 = (f[:, np.newaxis] * model.pi for f in past[t])
        power = model.discount**t
        same += k * (f1 + power * f0 * q1)
        squares += k**2 * f0
        next_b, next_b1 = np.zeros_like(b), np.zeros_like(b1)
        for a in range(n_actions):
            g, weight, successor = scores[:, a], model.weight[:, a], model.successor[:, a]
            c, c1 = expected(weight, successor, b), expected(weight, successor, b1)
            later[:, a] += (power * f0[:, a, np.newaxis]) * (c + k * c1)
            chosen, first = model.pi[:, a, np.newaxis], q1[:, a, np.newaxis]
            next_b += chosen * (k * first * g + c)
            next_b1 += chosen * (first * g + c1)
        b, b1 = next_b, next_b1
        variance = np.sum(model.pi * q2, axis=1)
    rows = scores.reshape(-1, p)
    half = rows.T @ ((same + 0.5 * squares).reshape(-1, 1) * rows + later.reshape(-1, p))
    moments = whole.moments
    assert moments is not None
    return moments[2] + half + half.T - np.outer(whole.gradient, whole.gradient)


def _given(baseline, n_states, steps):
    """β_t as an array of shape (T, 1) or (T, S, 1), None if it is computed on the way."""
    if isinstance(baseline, str):
        if baseline != "time":
            raise ValueError(f"baseline={baseline!r}: must be {_BASELINES}")
        return None
    if hasattr(baseline, "value"):
        return table_of(baseline, n_states, steps)
    numbers = finite_numbers("baseline", baseline, _BASELINES)
    if numbers.shape not in ((), (steps,)):
        raise ValueError(f"baseline: has the shape {numbers.shape}, must have () or ({steps},)")
    return np.broadcast_to(numbers, steps)[:, np.newaxis]
