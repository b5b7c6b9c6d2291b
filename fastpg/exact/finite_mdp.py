r"""Finite Markov decision processes: the gradient, and the covariance of its estimators.

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
before those products: O(T S A K P + S A P²) operations, and no matrix for each state.

**Moments of GPOMDP**, Σ_t γ^t g_t (ρ_t - β_t) with the reward-to-go ρ_t = Σ_{u≥t} γ^{u-t} r_u: the estimator
is x_0 in x_t = g_t (ρ_t - β_t) + γ x_{t+1}. Put h_t = V_t(s_t) - β_t, known at s_t; as ρ_t = V_t(s_t) + ε_t,

    E[x_t x_tᵀ] = E[g gᵀ (ε + h)²] + γ E[g (ε + h) x_{t+1}ᵀ] + its transpose + γ² E[x_{t+1} x_{t+1}ᵀ],

where E[x_{t+1} | s,a] = Σ p_k e_0(s'_k) and E[ε_t x_{t+1} | s,a] = Σ p_k (δ_k e_0 + γ e_1)(s'_k) with

    e_0(s) = E[x_t | s] = Σ_a π (g q_1 + γ E[x_{t+1} | s,a]) = ∇V_t(s),
    e_1(s) = E[ε_t x_t | s] = Σ_a π (g (q_2 + h q_1) + γ E[ε_t x_{t+1} | s,a]).

These are the moments of Markov chains with rewards (Sobel 1982, for the variance of the return), with the
score carried along; that of REINFORCE's variance is discussed by Greensmith, Bartlett & Baxter (2004).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastpg.arguments import check_discount, check_environment, check_horizon, check_policy, check_theta

_MAX_BYTES = 2**30
_ROUNDING = 1e-9  # on sums that must be 1, and expectations that must be 0
_BASELINES = "'none', 'mean', 'optimal', a number, or one for each component"
_STEP_BASELINES = "'none', 'time', 'value', 'optimal', a number, one for each step, or (steps, components)"


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
        numbers = _numbers("baseline", baseline, _BASELINES)
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
    model, policy, theta = _model(mdp, policy, theta, discount)
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
        values = _values(model, steps)
        weight = np.zeros_like(model.pi)
        alive = model.start
        for t in range(steps):
            advantage = np.sum(model.probability * _differences(model, values, t), axis=2)
            weight += model.discount**t * alive[:, np.newaxis] * model.pi * advantage
            alive = _forward(model, alive[:, np.newaxis, np.newaxis])
        gradient = _weighted_scores(model, policy, theta, weight)
        return ExactGradient(float(model.start @ values[0]), gradient)
    size = 8 * n_states * p * (4 * n_actions + 8) + 40 * p * p + 32 * steps * n_states
    check_memory(size, "covariance=True")
    scores = np.stack(list(_scores(model, policy, theta)))
    return _with_moments(model, scores, steps)


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
    baseline : "none", "time", "value", "optimal", float, or array of shape (T,) or (T, P)
        β_t: 0; the mean reward-to-go E[ρ_t] of the trajectories that are not over at t; V_t(s_t); for each
        component E[g_t² ρ_t] / E[g_t²], the least variance of each step's own term (not of their sum, in
        which terms of different steps covary); or as given.

    Raises
    ------
    TypeError, ValueError
        As `policy_gradient` does, and if `baseline` is none of these.
    """
    model, policy, theta = _model(mdp, policy, theta, discount)
    steps = check_steps(mdp, horizon, model.discount)
    if steps is None:
        raise ValueError(f"horizon={horizon!r}: must be finite")
    n_states, n_actions = model.pi.shape
    p = policy.n_parameters
    given = _check_step_baseline(baseline, steps, p)
    check_memory(8 * n_states * p * (4 * n_actions + 12) + 40 * p * p + 16 * steps * n_states, "mdp, policy")
    scores = np.stack(list(_scores(model, policy, theta)))
    values = _values(model, steps)
    alive = np.empty((steps, n_states))
    alive[0] = model.start
    for t in range(1, steps):
        alive[t] = _forward(model, alive[t - 1][:, np.newaxis, np.newaxis])

    gamma = model.discount
    variance = np.zeros(n_states)  # v
    e0, e1 = np.zeros((n_states, p)), np.zeros((n_states, p))
    half = np.zeros((p, p))  # half of the second moment, but for what the next two are to add
    same, later = np.zeros((n_states, n_actions)), np.zeros((n_states, n_actions, p))
    for t in range(steps - 1, -1, -1):
        delta = _differences(model, values, t)
        q1, q2 = _action_moments(model, delta, variance)
        if given is not None:
            beta = given[t]
        elif baseline == "value":
            beta = values[t][:, np.newaxis]
        elif baseline == "time":
            reached = alive[t].sum()
            beta = alive[t] @ values[t] / reached if reached > 0 else 0.0
        else:
            beta = _optimal_step_baseline(model, scores, alive[t], values[t], q1)
        h = values[t][:, np.newaxis] - beta  # shape (S, 1) or (S, P)
        next_e0, next_e1 = np.zeros_like(e0), np.zeros_like(e1)
        for a in range(n_actions):
            g = scores[:, a]
            weight, successor = model.weight[:, a], model.successor[:, a]
            ahead = _expected(weight, successor, e0)  # γ E[x_{t+1} | s, a]
            ahead_epsilon = _expected(weight * delta[:, a], successor, e0)
            ahead_epsilon += gamma * _expected(weight, successor, e1)  # γ E[ε_t x_{t+1} | s, a]
            chosen, first, second = (table[:, a, np.newaxis] for table in (model.pi, q1, q2))
            gh = g * h
            w = gamma ** (2 * t) * alive[t][:, np.newaxis] * chosen
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
    return half + half.T - np.outer(gradient, gradient)


class _Model(NamedTuple):
    """The process under the policy."""

    probability: np.ndarray  # (S, A, K)
    successor: np.ndarray  # (S, A, K)
    live: np.ndarray  # (S, A, K): probability, 0 where the outcome ends the episode
    weight: np.ndarray  # (S, A, K): γ · live
    reward: np.ndarray  # (S, A, K)
    start: np.ndarray  # (S,)
    pi: np.ndarray  # (S, A)
    discount: float


def _model(mdp, policy, theta, discount):
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
    return _Model(probability, successor, live, gamma * live, reward, mdp.start, pi, gamma), policy, theta


def state_probabilities(policy: Any, theta: np.ndarray, state: int, n_actions: int) -> np.ndarray:
    """Return π(· | state), shape (A,), or raise if it is none."""
    if not hasattr(policy, "probabilities"):
        raise TypeError(f"policy={policy!r}: {type(policy).__name__} lacks probabilities(theta, observation)")
    pi = np.asarray(policy.probabilities(theta, state), dtype=np.float64)
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


def _scores(model: _Model, policy: Any, theta: np.ndarray) -> Iterator[np.ndarray]:
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


def _numbers(name, value, allowed):
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


def _check_step_baseline(baseline, steps, n_parameters):
    """β_t as an array of shape (steps, 1) or (steps, P), None if it is computed on the way."""
    if isinstance(baseline, str):
        if baseline not in ("none", "time", "value", "optimal"):
            raise ValueError(f"baseline={baseline!r}: must be {_STEP_BASELINES}")
        return np.zeros((steps, 1)) if baseline == "none" else None
    numbers = _numbers("baseline", baseline, _STEP_BASELINES)
    if numbers.shape not in ((), (steps,), (steps, n_parameters)):
        raise ValueError(
            f"baseline: has the shape {numbers.shape}, must have (), ({steps},) or ({steps}, {n_parameters})"
        )
    return numbers if numbers.ndim == 2 else np.broadcast_to(numbers, steps)[:, np.newaxis]


def _values(model, steps):
    """V_t for t = 0, ..., T: shape (T + 1, S)."""
    values = np.zeros((steps + 1, len(model.start)))
    reward = np.sum(model.probability * model.reward, axis=2)
    for t in range(steps - 1, -1, -1):
        ahead = np.sum(model.weight * values[t + 1][model.successor], axis=2)
        values[t] = np.sum(model.pi * (reward + ahead), axis=1)
    return values


def _differences(model, values, t):
    """δ_t of every outcome, shape (S, A, K)."""
    # Where an outcome has probability 0 it is never used; where it ends the episode, weight is 0.
    ahead = np.where(model.live > 0, model.discount * values[t + 1][model.successor], 0.0)
    return model.reward + ahead - values[t][:, np.newaxis, np.newaxis]


def _forward(model, weight):
    """Σ weight p over the outcomes that lead to each state, shape (S,); weight is (S, 1 or A, 1 or K)."""
    flow = model.live * model.pi[:, :, np.newaxis] * weight
    return np.bincount(model.successor.ravel(), flow.ravel(), minlength=len(model.start))


def _expected(weight, successor, values):
    """Σ_k weight[s, k] values[successor[s, k]], shape (S, P)."""
    total = np.zeros_like(values)
    for k in range(weight.shape[1]):
        total += weight[:, k, np.newaxis] * values[successor[:, k]]
    return total


def _action_moments(model, delta, variance):
    """q_1 and q_2, shape (S, A), from δ and the next step's v."""
    q1 = np.sum(model.probability * delta, axis=2)
    ahead = model.discount * model.weight * variance[model.successor]
    return q1, np.sum(model.probability * delta**2 + ahead, axis=2)


def _optimal_step_baseline(model, scores, alive, values, q1):
    """E[g_t² ρ_t] / E[g_t²], shape (P,); 0 where the denominator is."""
    weight = alive[:, np.newaxis] * model.pi
    squares = scores.reshape(-1, scores.shape[2]) ** 2
    denominator = weight.ravel() @ squares
    numerator = (weight * (values[:, np.newaxis] + q1)).ravel() @ squares
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def _weighted_scores(model, policy, theta, weight):
    """Σ_{s,a} weight(s,a) ∇log π(a|s)."""
    gradient = np.zeros(policy.n_parameters)
    for row, scores in zip(weight, _scores(model, policy, theta), strict=True):
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
    advantage = np.sum(model.probability * _differences(model, [values, values], 0), axis=2)
    return float(model.start @ values), visits[:, np.newaxis] * model.pi * advantage


def _with_moments(model, scores, steps):
    """The gradient together with E[s sᵀ (R-J)^j]."""
    n_states, n_actions, p = scores.shape
    gamma = model.discount
    values = _values(model, steps)
    expected_return = float(model.start @ values[0])
    past = np.empty((steps, 3, n_states))  # f_j
    deviation = values[0] - expected_return
    past[0] = model.start * np.stack([np.ones(n_states), deviation, deviation**2])
    return_variance = past[0, 2].sum()
    for t in range(1, steps):
        f0, f1, f2 = past[t - 1][:, :, np.newaxis, np.newaxis]
        step = gamma ** (t - 1) * _differences(model, values, t - 1)
        past[t] = [
            _forward(model, f0),
            _forward(model, f1 + f0 * step),
            _forward(model, f2 + step * (2 * f1 + f0 * step)),
        ]

    same = np.zeros((3, n_states, n_actions))  # between g and gᵀ
    later = np.zeros((2, n_states, n_actions, p))  # between g and 1, for j = 1, 2
    weight = np.zeros((n_states, n_actions))
    variance = np.zeros(n_states)
    b1, b2 = np.zeros((n_states, p)), np.zeros((n_states, p))
    for t in range(steps - 1, -1, -1):
        f0, f1, f2 = (f[:, np.newaxis] * model.pi for f in past[t])
        power = gamma**t
        delta = _differences(model, values, t)
        q1, q2 = _action_moments(model, delta, variance)
        weight += power * f0 * q1
        same += np.stack([f0, f1 + power * f0 * q1, f2 + power * (2 * f1 * q1 + power * f0 * q2)])
        next_b1, next_b2 = np.zeros_like(b1), np.zeros_like(b2)
        for a in range(n_actions):
            g = scores[:, a]
            ahead, successor = model.weight[:, a], model.successor[:, a]
            c1 = _expected(ahead, successor, b1)
            c2 = _expected(2 * ahead * delta[:, a], successor, b1)
            c2 += _expected(gamma * ahead, successor, b2)
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
