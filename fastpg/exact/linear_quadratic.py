r"""The linear-quadratic environment under a linear Gaussian policy: J and its gradient in closed form.

With z = (x, 1) the policy is u = Wz + σ∘ξ, the rows of W (m, n+1) those of θ, ξ standard normal. Put
Ā = diag(A, 1), B̄ = (B; 0), Q̄ = diag(Q, 0), Σ = diag(σ²), and

    F = Ā + B̄W,    N = diag(noise, 0) + B̄ΣB̄ᵀ,    M = Q̄ + WᵀRW,

so that z' = Fz + (noise of covariance N). With Z_0 = E[z_0 z_0ᵀ] and C = -J the expected discounted cost,

    Z_{t+1} = F Z_t Fᵀ + N                    second moments, forward
    P_t = M + γ Fᵀ P_{t+1} F,  P_T = 0        cost to go of z is zᵀP_t z + constant, backward
    C = tr(P_0 Z_0) + Σ_t γ^t (tr(RΣ) + γ tr(P_{t+1} N)).

Differentiating the recursion of P_t, the terms with dP_{t+1} telescope against Z_{t+1}, which leaves

    ∇_W C = 2 Σ_t γ^t [RW + γ B̄ᵀP_{t+1}F] Z_t = 2 Σ_t γ^t [(R + γB̄ᵀP_{t+1}B̄) W + γB̄ᵀP_{t+1}Ā] Z_t
    ∂C/∂log σ_k = 2 σ_k² Σ_t γ^t [R + γ BᵀP_{t+1}B]_kk.

With an infinite horizon P is constant, P = M + γFᵀPF, and S = Σ_t γ^t Z_t = Z_0 + γ/(1-γ) N + γFSFᵀ; the
first formula becomes 2 [(R + γBᵀPB)W + γBᵀPA] S, which is lemma 1 of Fazel, Ge, Kakade & Mesbahi (ICML
2018), 2 [(R + BᵀPB)K - BᵀPA] Σ_K, for K = -W and a random start only: there γ = 1, and no noise, bias or
exploration. Both series are summed by doubling, S_{2k} = S_k + F^k S_k (F^k)ᵀ (Smith 1968).
"""

from typing import Any

import numpy as np

from fastpg.arguments import check_discount, check_environment, check_policy, check_theta
from fastpg.exact.finite_mdp import ExactGradient
from fastpg.exact.model import check_memory, check_steps
from fastpg.policies.gaussian_linear import GaussianLinear

_MAX_DOUBLINGS = 64


def lqr_gradient(
    env: Any, policy: GaussianLinear, theta: Any, *, horizon: float | None = None, discount: float = 1.0
) -> ExactGradient:
    """Return J(θ) = E[Σ_t γ^t r_t] of a `LinearQuadratic` environment, and its gradient.

    Exact but for rounding, by the formulas at the top of this module. Without moments: `moments` is None.

    Parameters
    ----------
    env : fastpg.envs.LinearQuadratic
    policy : GaussianLinear
        With fixed or learned log σ.
    theta : array_like, shape (policy.n_parameters,)
    horizon : int or math.inf, optional
        T; the environment's own unless given. Infinite only with a discount γ < 1, and if the closed loop
        A + BW has a spectral radius below 1/√γ.
    discount : float
        γ, between 0 and 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the expected return is not finite.
    """
    W, log_std, learned = checked_problem(env, policy, theta)
    gamma = check_discount(discount)
    steps = check_steps(env, horizon, gamma)
    n = len(env.A)
    with np.errstate(all="ignore"):
        if steps is None:
            cost, slope, by_variance = _discounted(env, W, np.exp(2 * log_std), gamma)
        else:
            check_memory(8 * steps * (n + 1) ** 2, "horizon")
            cost, slope, by_variance = _finite(env, W, np.exp(2 * log_std), gamma, steps)
        by_log_std = 2 * np.exp(2 * log_std) * by_variance if learned else np.zeros(0)
    gradient = -np.concatenate([slope.ravel(), by_log_std])
    if not (np.isfinite(cost) and np.isfinite(gradient).all()):
        raise ValueError("theta: the expected return or its gradient is too large for floating point")
    return ExactGradient(-float(cost), gradient)


def checked_problem(env: Any, policy: Any, theta: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return W, log σ and whether it is learned, or raise."""
    fields = ("A", "B", "Q", "R", "noise", "start_mean", "start_covariance")
    if not all(hasattr(env, field) for field in fields):
        raise TypeError(f"env={env!r}: must be a fastpg.envs.LinearQuadratic")
    if not isinstance(policy, GaussianLinear):
        raise TypeError(f"policy={policy!r}: must be a GaussianLinear")
    check_environment(env)
    check_policy(policy, env)
    m, n = len(policy.log_std), policy.n_observations
    if policy.n_log_std_parameters not in (0, m):
        raise ValueError(f"policy={policy!r}: must have fixed or learned log_std, not state-dependent")
    theta = check_theta(policy, theta)
    W, learned = theta[: m * (n + 1)].reshape(m, n + 1), policy.n_log_std_parameters > 0
    return W, theta[m * (n + 1) :] if learned else np.array(policy.log_std), learned


def _augmented(env, W, variances):
    """F, B̄, M, N and Z_0."""
    n = len(env.A)
    A, Q, noise, start = (np.zeros((n + 1, n + 1)) for _ in range(4))
    A[:n, :n], A[n, n] = env.A, 1.0
    B = np.concatenate([env.B, np.zeros((1, env.B.shape[1]))])
    Q[:n, :n], noise[:n, :n], start[:n, :n] = env.Q, env.noise, env.start_covariance
    mean = np.append(env.start_mean, 1.0)
    return A + B @ W, B, Q + W.T @ env.R @ W, noise + (B * variances) @ B.T, start + np.outer(mean, mean)


def _finite(env, W, variances, gamma, steps):
    """C, ∇_W C and ∂C/∂σ²."""
    F, B, M, N, Z = _augmented(env, W, variances)
    R = env.R
    P = np.zeros((steps + 1, *F.shape))
    for t in range(steps - 1, -1, -1):
        P[t] = M + gamma * F.T @ P[t + 1] @ F
    cost, slope, by_variance = np.sum(P[0] * Z), np.zeros_like(W), np.zeros(len(W))
    for t in range(steps):
        ahead = gamma * P[t + 1]
        power = gamma**t
        cost += power * (np.diagonal(R) @ variances + np.sum(ahead * N))
        slope += 2 * power * (R @ W + B.T @ ahead @ F) @ Z
        by_variance += power * np.diagonal(R + B.T @ ahead @ B)
        Z = F @ Z @ F.T + N
    return cost, slope, by_variance


def _discounted(env, W, variances, gamma):
    """The same with an infinite horizon."""
    F, B, M, N, Z = _augmented(env, W, variances)
    R = env.R
    loop = F[:-1, :-1]
    radius = np.abs(np.linalg.eigvals(loop)).max() if np.isfinite(loop).all() else np.inf
    if not gamma * radius**2 < 1:
        raise ValueError(
            f"theta: the closed loop A + BW has spectral radius {radius:.6g}; with an infinite horizon the "
            f"expected cost is finite only if discount ({gamma:.6g}) times its square is below 1"
        )
    root = np.sqrt(gamma) * F
    P = _series(root.T, M)
    ahead, rest = gamma * P, 1 / (1 - gamma)
    cost = np.sum(P * Z) + rest * (np.diagonal(R) @ variances + np.sum(ahead * N))
    slope = 2 * (R @ W + B.T @ ahead @ F) @ _series(root, Z + gamma * rest * N)
    return cost, slope, rest * np.diagonal(R + B.T @ ahead @ B)


def _series(F, X):
    """Σ_{t≥0} F^t X (F^t)ᵀ of a positive semidefinite X."""
    for _ in range(_MAX_DOUBLINGS):
        more = F @ X @ F.T
        X = X + more
        if not np.abs(more).max() > 1e-18 * np.abs(X).max():
            break
        F = F @ F
    return X
