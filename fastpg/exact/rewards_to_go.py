r"""The covariance of estimators with rewards-to-go, on finite Markov decision processes.

In the notation of `fastpg.exact.finite_mdp`, with the reward-to-go ρ_t = Σ_{u≥t} γ^{u-t} r_u,

    GPOMDP:      Σ_t γ^t g_t (ρ_t - β_t),        κ = γ,
    RewardToGo:  Σ_t g_t (ρ_t - β_t),            κ = 1:

the estimator is x_0 in x_t = g_t (ρ_t - β_t) + κ x_{t+1}. Put h_t = V_t(s_t) - β_t, known at s_t; as
ρ_t = V_t(s_t) + ε_t,

    E[x_t x_tᵀ] = E[g gᵀ (ε + h)²] + κ E[g (ε + h) x_{t+1}ᵀ] + its transpose + κ² E[x_{t+1} x_{t+1}ᵀ],

where E[x_{t+1} | s,a] = Σ p_k e_0(s'_k) and E[ε_t x_{t+1} | s,a] = Σ p_k (δ_k e_0 + γ e_1)(s'_k) with

    e_0(s) = E[x_t | s] = Σ_a π (g q_1 + κ E[x_{t+1} | s,a])         (∇V_t(s), of GPOMDP)
    e_1(s) = E[ε_t x_t | s] = Σ_a π (g (q_2 + h q_1) + κ E[ε_t x_{t+1} | s,a]).

These are the moments of Markov chains with rewards (Sobel 1982, for the variance of the return), with the
score carried along.

**The optimal constant.** With the same β = b in every step, x = A - b B for A = Σ_t κ^t g_t ρ_t and
B = Σ_t κ^t g_t, and E[B] = 0: the second moment of each component is a parabola in b, known from three of its
values, and least for b* = E[AB] / E[B²] (`fastpg.estimators.optimal`).
"""

from typing import Any

import numpy as np

from fastpg.exact.model import (
    action_moments,
    check_memory,
    check_steps,
    differences,
    expected,
    finite_numbers,
    model_of,
    occupancy,
    scores_of,
    table_of,
    values_of,
)

_NAMES = "none", "mean", "optimal", "time", "value", "optimal steps"
_BASELINES = (
    f"{', '.join(map(repr, _NAMES))}, a number, one for each step, (steps, components), or what has a method "
    "value(state, time)"
)


def gpomdp_covariance(
    mdp: Any,
    policy: Any,
    theta: Any,
    *,
    baseline: Any = "none",
    horizon: int | None = None,
    discount: float = 1.0,
) -> np.ndarray:
    r"""Return the covariance of GPOMDP's term of one trajectory, Σ_t γ^t g_t (ρ_t - β_t), shape (P, P).

    Its mean is the gradient that `policy_gradient` gives, whatever the baseline. O(T S A K P + S A P²)
    operations, O(T S A P (K + P)) with a baseline for each component, and 8 S P (4 A + 12) + 40 P² + 16 T S
    bytes, of which 1 GiB is allowed.

    Parameters
    ----------
    mdp, policy, theta, horizon, discount
        As for `policy_gradient`; the horizon is finite.
    baseline : str, float, array of shape (T,) or (T, P), or object
        β_t. "none": 0; "mean": the mean of all rewards-to-go; "optimal": for each component the constant of
        least variance; "time": the mean of those of step t; "value": V_t(s_t); "optimal steps": for each
        component E[g_t² ρ_t] / E[g_t²], the least variance of each step's own term (not of their sum, in
        which terms of different steps covary). Or numbers, or what has a method ``value(state, time)``, as
        the baselines have that estimators fit.

    Raises
    ------
    TypeError, ValueError
        As `policy_gradient` does, and if `baseline` is none of these.
    """
    return _moments(mdp, policy, theta, baseline, horizon, discount, keeps=True)[1]


def reward_to_go_moments(
    mdp: Any,
    policy: Any,
    theta: Any,
    *,
    baseline: Any = "none",
    horizon: int | None = None,
    discount: float = 0.99,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return mean and covariance of RewardToGo's term, Σ_t g_t (ρ_t - β_t): shapes (P,) and (P, P).

    The mean is not the gradient of the discounted objective (Nota & Thomas 2020). Parameters and errors are
    those of `gpomdp_covariance`.
    """
    return _moments(mdp, policy, theta, baseline, horizon, discount, keeps=False)


def _moments(mdp, policy, theta, baseline, horizon, discount, keeps):
    model, policy, theta = model_of(mdp, policy, theta, discount)
    steps = check_steps(mdp, horizon, model.discount)
    if steps is None:
        raise ValueError(f"horizon={horizon!r}: must be finite")
    n_states, n_actions = model.pi.shape
    p = policy.n_parameters
    check_memory(8 * n_states * p * (4 * n_actions + 12) + 40 * p * p + 16 * steps * n_states, "mdp, policy")
    given = _given(baseline, steps, n_states, p)
    scores = np.stack(list(scores_of(model, policy, theta)))
    values, alive = values_of(model, steps), occupancy(model, steps)
    step = model.discount if keeps else 1.0
    if isinstance(baseline, str) and baseline == "optimal":
        given = _optimal_constant(model, scores, values, alive, step)
    return _recursion(model, scores, values, alive, step, baseline, given)


def _given(baseline, steps, n_states, n_parameters):
    """β_t as an array of shape (T, 1), (T, P) or (T, S, 1), None if it is computed on the way."""
    if isinstance(baseline, str):
        if baseline not in _NAMES:
            raise ValueError(f"baseline={baseline!r}: must be {_BASELINES}")
        return np.zeros((steps, 1)) if baseline == "none" else None
    if hasattr(baseline, "value"):
        return table_of(baseline, n_states, steps)
    numbers = finite_numbers("baseline", baseline, _BASELINES)
    if numbers.shape not in ((), (steps,), (steps, n_parameters)):
        raise ValueError(
            f"baseline: has the shape {numbers.shape}, must have (), ({steps},) or ({steps}, {n_parameters})"
        )
    return numbers if numbers.ndim == 2 else np.broadcast_to(numbers, steps)[:, np.newaxis]


def _mean_reward_to_go(values, alive):
    """Of all steps that are taken."""
    return np.sum(alive * values[: len(alive)]) / alive.sum()


def _optimal_constant(model, scores, values, alive, step):
    """b* for every step, shape (T, P); the mean where E[B²] = 0, where any will do."""
    steps, p = len(alive), scores.shape[2]
    middle = _mean_reward_to_go(values, alive)
    width = max(1.0, np.abs(values - middle).max())

    def second(b):
        mean, covariance = _recursion(model, scores, values, alive, step, "", np.full((steps, 1), b))
        return np.diag(covariance) + mean**2

    low, centre, high = (second(middle + side * width) for side in (-1.0, 0.0, 1.0))
    curvature = low + high - 2.0 * centre
    shift = np.divide(low - high, 2.0 * curvature, out=np.zeros(p), where=curvature > 0)
    return np.broadcast_to(middle + shift * width, (steps, p))


def _recursion(model, scores, values, alive, step, baseline, given):
    """Mean and covariance of x_0, with κ the `step`."""
    n_states, n_actions, p = scores.shape
    gamma = model.discount
    mean = _mean_reward_to_go(values, alive)
    variance = np.zeros(n_states)  # v
    e0, e1 = np.zeros((n_states, p)), np.zeros((n_states, p))
    half = np.zeros((p, p))  # half of the second moment, but for what the next two are to add
    same, later = np.zeros((n_states, n_actions)), np.zeros((n_states, n_actions, p))
    for t in range(len(alive) - 1, -1, -1):
        delta = differences(model, values, t)
        q1, q2 = action_moments(model, delta, variance)
        if given is not None:
            beta = given[t]
        elif baseline == "mean":
            beta = mean
        elif baseline == "value":
            beta = values[t][:, np.newaxis]
        elif baseline == "time":
            reached = alive[t].sum()
            beta = alive[t] @ values[t] / reached if reached > 0 else 0.0
        else:
            beta = _optimal_step(model, scores, alive[t], values[t], q1)
        h = values[t][:, np.newaxis] - beta  # shape (S, 1) or (S, P)
        next_e0, next_e1 = np.zeros_like(e0), np.zeros_like(e1)
        for a in range(n_actions):
            g = scores[:, a]
            weight, successor = step * model.live[:, a], model.successor[:, a]
            ahead = expected(weight, successor, e0)  # κ E[x_{t+1} | s, a]
            ahead_epsilon = expected(weight * delta[:, a], successor, e0)
            ahead_epsilon += gamma * expected(weight, successor, e1)  # κ E[ε_t x_{t+1} | s, a]
            chosen, first, second = (table[:, a, np.newaxis] for table in (model.pi, q1, q2))
            gh = g * h
            w = step ** (2 * t) * alive[t][:, np.newaxis] * chosen
            same[:, a] += (0.5 * w * second)[:, 0]
            later[:, a] += w * ahead_epsilon
            if h.shape[1] == 1:
                same[:, a] += (w * h * (first + 0.5 * h))[:, 0]
                later[:, a] += w * h * ahead
            else:
                half += gh.T @ (w * (first * g + 0.5 * gh + ahead))
            next_e0 += chosen * (first * g + ahead)
            next_e1 += chosen * (second * g + first * gh + ahead_epsilon)
        e0, e1 = next_e0, next_e1
        variance = np.sum(model.pi * q2, axis=1)
    rows = scores.reshape(-1, p)
    half += rows.T @ (same.reshape(-1, 1) * rows + later.reshape(-1, p))
    gradient = model.start @ e0
    return gradient, half + half.T - np.outer(gradient, gradient)


def _optimal_step(model, scores, alive, values, q1):
    """E[g_t² ρ_t] / E[g_t²], shape (P,); 0 where the denominator is."""
    weight = alive[:, np.newaxis] * model.pi
    squares = scores.reshape(-1, scores.shape[2]) ** 2
    denominator = weight.ravel() @ squares
    numerator = (weight * (values[:, np.newaxis] + q1)).ravel() @ squares
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
