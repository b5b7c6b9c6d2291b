r"""Finite Markov decision processes: the gradient, and the moments of REINFORCE with a constant baseline.

With γ the discount, T the horizon, g_t = ∇log π_θ(a_t | s_t), s = Σ_t g_t the score of a trajectory and
R = Σ_{t<T} γ^t r_t its return, J(θ) = E[R]. An outcome that is terminated ends the episode: what follows
counts as 0.

**The objective and its gradient.** With V_T = 0, backward for t = T-1, ..., 0,

    Q_t(s,a) = Σ_k p_k (r_k + γ V_{t+1}(s'_k)),    V_t(s) = Σ_a π(a|s) Q_t(s,a),

the term of V dropped where outcome k is terminated; forward, d_t(s) is the probability that the episode is
not over and in s. Then J = Σ_s d_0 V_0 and, with A_t = Q_t - V_t (V_t may be taken off as E[g_t | s_t] = 0),

    ∇J = Σ_t γ^t Σ_{s,a} d_t(s) π(a|s) A_t(s,a) ∇log π(a|s)

(Sutton, McAllester, Singh & Mansour 1999, theorem 1, with T and γ^t in place). With T = ∞ and γ < 1,
V = (1 - γP)⁻¹ r and Σ_t γ^t d_t = (1 - γPᵀ)⁻¹ d_0, for P and r under the policy.

**Moments of the REINFORCE estimator.** Its covariance for any constant baseline follows from the three
matrices M_j = E[s sᵀ (R-J)^j], j = 0, 1, 2. Write the return as a martingale: with

    δ_t = r_t + γ V_{t+1}(s_{t+1}) - V_t(s_t),    R - J = X_t + γ^t ε_t,
    X_t = V_0(s_0) - J + Σ_{u<t} γ^u δ_u,          ε_t = Σ_{u≥t} γ^{u-t} δ_u,

where E[ε_t | s_t] = 0: nothing large cancels later. Given s_t the past X_t and the future ε_t are
independent. The past has f_j(s) = E[X_t^j ; s_t = s], which go forward as

    f_j'(s') = Σ_{s,a,k: s'} π p_k E[(X_t + γ^t δ_k)^j ; s_t = s].

The future has, with σ_t = Σ_{u≥t} g_u, the moments v(s) = E[ε_t² | s], b_j(s) = E[σ_t ε_t^j | s] (b_0 = 0),
and given the action too q_j(s,a) = E[ε_t^j | s,a], c_j(s,a) = E[σ_{t+1} ε_t^j | s,a], which go backward as

    q_1 = Σ p_k δ_k = A_t                     c_1 = Σ p_k γ b_1(s'_k)
    q_2 = Σ p_k (δ_k² + γ² v(s'_k))           c_2 = Σ p_k (2 γ δ_k b_1(s'_k) + γ² b_2(s'_k))
    v   = Σ_a π q_2                           b_j = Σ_a π (q_j g + c_j).

Of E[s sᵀ (R-J)^j] = Σ_{t,u} E[g_t g_uᵀ (X_t + γ^t ε_t)^j] the terms t = u and those t < u are

    j = 0:  f_0                                        0
    j = 1:  f_1 + f_0 γ^t q_1                          f_0 γ^t c_1
    j = 2:  f_2 + 2 f_1 γ^t q_1 + f_0 γ^2t q_2         2 f_1 γ^t c_1 + f_0 γ^2t c_2

times π, between g and gᵀ and between g and 1; those t > u are their transposes. The sums over t are taken
before those products: O(T S A K P + S A P²) operations, and no matrix for each state. REINFORCE's variance
is discussed by Greensmith, Bartlett & Baxter (2004).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpg.exact.model import (
    action_moments,
    check_memory,
    check_steps,
    differences,
    expected,
    finite_numbers,
    forward,
    model_of,
    scores_of,
    values_of,
)

_BASELINES = "'none', 'mean', 'optimal', a number, or one for each component"


@dataclass(frozen=True, eq=False)
class ExactGradient:
    """∇J(θ) and, where it was computed, the spread of REINFORCE's terms s (R - b) around it.

    s is the score of a whole trajectory, R its (discounted) return, b a constant baseline, one for all
    components or one each. The variance of a mean of N trajectories is that of one, divided by N.

    Attributes
    ----------
    expected_return : float
        J(θ).
    gradient : float64 array, shape (P,)
    return_variance : float or None
        Of R.
    moments : float64 array, shape (3, P, P), or None
        E[s sᵀ (R - J)^j] for j = 0, 1, 2.
    """

    expected_return: float
    gradient: np.ndarray
    return_variance: float | None = None
    moments: np.ndarray | None = None

    @property
    def fisher(self) -> np.ndarray | None:
        """E[s sᵀ], the Fisher information of a trajectory; None without moments."""
        return None if self.moments is None else self.moments[0]

    @property
    def fisher_return(self) -> np.ndarray | None:
        """E[s sᵀ R]; None without moments."""
        return None if self.moments is None else self.moments[1] + self.expected_return * self.moments[0]

    @property
    def covariance(self) -> np.ndarray | None:
        """Cov[s R], of the estimator without a baseline; None without moments."""
        return None if self.moments is None else self.baseline_covariance("none")

    @property
    def optimal_baseline(self) -> np.ndarray:
        """b* = E[s² R] / E[s²], per component; J where E[s²] = 0, where any will do."""
        fisher, deviation = (np.diagonal(moment) for moment in self._checked_moments()[:2])
        possible = fisher > 0
        return self.expected_return + np.divide(
            deviation, fisher, out=np.zeros_like(self.gradient), where=possible
        )

    def baseline_covariance(self, baseline: Any = "none") -> np.ndarray:
        """Return Cov[s (R - b)], shape (P, P).

        With R - b_i = (R - J) - c_i its elements are E[s_i s_j (R - b_i)(R - b_j)] - ∇_i J ∇_j J
        = (M_2 - c_i M_1 - c_j M_1 + c_i c_j M_0)_ij - ∇_i J ∇_j J.

        Parameters
        ----------
        baseline : "none", "mean", "optimal", float, or array of shape (P,)
            b = 0, J, `optimal_baseline`, or as given.

        Raises
        ------
        ValueError, TypeError
            If `baseline` is none of these, or there are no moments.
        """
        fisher, first, second = self._checked_moments()
        c = self._baseline(baseline) - self.expected_return
        mixed = c[:, np.newaxis] * first
        covariance = second - mixed - mixed.T + np.outer(c, c) * fisher
        return covariance - np.outer(self.gradient, self.gradient)

    def variance(self, baseline: Any = "none") -> np.ndarray:
        """Return Var[s (R - b)] per component, shape (P,): the diagonal of `baseline_covariance`."""
        fisher, first, second = (np.diagonal(moment) for moment in self._checked_moments())
        c = self._baseline(baseline) - self.expected_return
        return np.maximum(second - 2 * c * first + c**2 * fisher - self.gradient**2, 0.0)

    def _checked_moments(self):
        if self.moments is None:
            raise ValueError("moments: were not computed; policy_gradient(..., covariance=True) does")
        return self.moments

    def _baseline(self, baseline):
        """One number for each component."""
        shape = self.gradient.shape
        if isinstance(baseline, str):
            if baseline == "none":
                return np.zeros(shape)
            if baseline == "mean":
                return np.full(shape, self.expected_return)
            if baseline == "optimal":
                return self.optimal_baseline
            raise ValueError(f"baseline={baseline!r}: must be {_BASELINES}")
        numbers = finite_numbers("baseline", baseline, _BASELINES)
        if numbers.shape not in ((), shape):
            raise ValueError(f"baseline: has the shape {numbers.shape}, must have () or {shape}")
        return np.broadcast_to(numbers, shape)


def policy_gradient(
    mdp: Any,
    policy: Any,
    theta: Any,
    *,
    horizon: float | None = None,
    discount: float = 1.0,
    covariance: bool = False,
) -> ExactGradient:
    """Return J(θ) = E[Σ_t γ^t r_t] of a finite Markov decision process, and its gradient.

    Exact but for rounding, by the recursions at the top of this module.

    Parameters
    ----------
    mdp : fastpg.envs.FiniteMDP
        S states, A actions, at most K outcomes of each pair.
    policy : NamedTuple
        Any with ``probabilities(theta, observation)`` and ``score(theta, observation, action)`` on the
        numbers of states, such as `SoftmaxTabular`.
    theta : array_like, shape (P,)
    horizon : int or math.inf, optional
        T; the process's own time limit unless given. Infinite only with a discount below 1.
    discount : float
        γ, between 0 and 1.
    covariance : bool
        Whether to compute the moments from which the covariance of REINFORCE follows for every constant
        baseline: O(T S A K P + S A P²) operations and 8 S P (4 A + 8) + 40 P² + 32 T S bytes, of which
        1 GiB is allowed (Taxi's 3,000 parameters fit). Without them O(T S A K + S A P) and 16 T S bytes.

    Returns
    -------
    ExactGradient

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, too much memory would be needed, or the policy's probabilities and
        score do not belong together (Σ_a π(a|s) ∇log π(a|s) ≠ 0).
    """
    model, policy, theta = model_of(mdp, policy, theta, discount)
    steps = check_steps(mdp, horizon, model.discount)
    if not isinstance(covariance, bool | np.bool_):
        raise TypeError(f"covariance={covariance!r}: must be True or False")
    if steps is None:
        if covariance:
            raise ValueError("covariance=True: needs a finite horizon")
        expected_return, weight = _stationary(model)
        return ExactGradient(expected_return, _weighted_scores(model, policy, theta, weight))
    n_states, n_actions = model.pi.shape
    p = policy.n_parameters
    if not covariance:
        check_memory(16 * steps * n_states, "horizon")
        values = values_of(model, steps)
        weight = np.zeros_like(model.pi)
        alive = model.start
        for t in range(steps):
            advantage = np.sum(model.probability * differences(model, values, t), axis=2)
            weight += model.discount**t * alive[:, np.newaxis] * model.pi * advantage
            alive = forward(model, alive[:, np.newaxis, np.newaxis])
        gradient = _weighted_scores(model, policy, theta, weight)
        return ExactGradient(float(model.start @ values[0]), gradient)
    size = 8 * n_states * p * (4 * n_actions + 8) + 40 * p * p + 32 * steps * n_states
    check_memory(size, "covariance=True")
    scores = np.stack(list(scores_of(model, policy, theta)))
    return _with_moments(model, scores, steps)


def _weighted_scores(model, policy, theta, weight):
    """Σ_{s,a} weight(s,a) ∇log π(a|s)."""
    gradient = np.zeros(policy.n_parameters)
    for row, scores in zip(weight, scores_of(model, policy, theta), strict=True):
        gradient += row @ scores
    return gradient


def _stationary(model):
    """J and the weights of the scores, with an infinite horizon."""
    n = len(model.start)
    check_memory(24 * n * n, "horizon=inf")
    flow = model.weight * model.pi[:, :, np.newaxis]
    system = np.eye(n)
    sources = np.broadcast_to(np.arange(n)[:, np.newaxis, np.newaxis], flow.shape)
    np.subtract.at(system, (sources, model.successor), flow)
    reward = np.sum(model.probability * model.reward, axis=2)
    values = np.linalg.solve(system, np.sum(model.pi * reward, axis=1))
    visits = np.linalg.solve(system.T, model.start)
    advantage = np.sum(model.probability * differences(model, [values, values], 0), axis=2)
    return float(model.start @ values), visits[:, np.newaxis] * model.pi * advantage


def _with_moments(model, scores, steps):
    """The gradient together with E[s sᵀ (R-J)^j]."""
    n_states, n_actions, p = scores.shape
    gamma = model.discount
    values = values_of(model, steps)
    expected_return = float(model.start @ values[0])
    past = np.empty((steps, 3, n_states))  # f_j
    deviation = values[0] - expected_return
    past[0] = model.start * np.stack([np.ones(n_states), deviation, deviation**2])
    return_variance = past[0, 2].sum()
    for t in range(1, steps):
        f0, f1, f2 = past[t - 1][:, :, np.newaxis, np.newaxis]
        step = gamma ** (t - 1) * differences(model, values, t - 1)
        past[t] = [
            forward(model, f0),
            forward(model, f1 + f0 * step),
            forward(model, f2 + step * (2 * f1 + f0 * step)),
        ]

    same = np.zeros((3, n_states, n_actions))  # between g and gᵀ
    later = np.zeros((2, n_states, n_actions, p))  # between g and 1, for j = 1, 2
    weight = np.zeros((n_states, n_actions))
    variance = np.zeros(n_states)
    b1, b2 = np.zeros((n_states, p)), np.zeros((n_states, p))
    for t in range(steps - 1, -1, -1):
        f0, f1, f2 = (f[:, np.newaxis] * model.pi for f in past[t])
        power = gamma**t
        delta = differences(model, values, t)
        q1, q2 = action_moments(model, delta, variance)
        weight += power * f0 * q1
        same += np.stack([f0, f1 + power * f0 * q1, f2 + power * (2 * f1 * q1 + power * f0 * q2)])
        next_b1, next_b2 = np.zeros_like(b1), np.zeros_like(b2)
        for a in range(n_actions):
            g = scores[:, a]
            ahead, successor = model.weight[:, a], model.successor[:, a]
            c1 = expected(ahead, successor, b1)
            c2 = expected(2 * ahead * delta[:, a], successor, b1)
            c2 += expected(gamma * ahead, successor, b2)
            later[0, :, a] += (power * f0[:, a, np.newaxis]) * c1
            later[1, :, a] += (2 * power * f1[:, a, np.newaxis]) * c1
            later[1, :, a] += (power**2 * f0[:, a, np.newaxis]) * c2
            next_b1 += model.pi[:, a, np.newaxis] * (q1[:, a, np.newaxis] * g + c1)
            next_b2 += model.pi[:, a, np.newaxis] * (q2[:, a, np.newaxis] * g + c2)
        b1, b2 = next_b1, next_b2
        variance = np.sum(model.pi * q2, axis=1)
    return_variance += model.start @ variance

    rows = scores.reshape(-1, p)
    moments = np.empty((3, p, p))
    for j in range(3):
        # Half of the terms t = u, all of t < u; the transpose is the other half.
        half = 0.5 * same[j].reshape(-1, 1) * rows
        if j > 0:
            half += later[j - 1].reshape(-1, p)
        moments[j] = rows.T @ half
        moments[j] += moments[j].T.copy()
    return ExactGradient(expected_return, weight.ravel() @ rows, float(return_variance), moments)
