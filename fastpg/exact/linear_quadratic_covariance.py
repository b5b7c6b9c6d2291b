r"""The covariance of estimators on the linear-quadratic environment under a linear Gaussian policy.

A trajectory is a linear function of ê = (1, e), where e ~ N(0, I) holds what is drawn: for the start, for
each action ξ_t, for the noise of each step. With x_t = X_t ê and u_t = U_t ê everything else is a quadratic
form êᵀQê: the reward, the rewards-to-go, a baseline that is quadratic in the state, and the score,

    ∂log π/∂w_kj = ξ_tk z_tj / σ_k,    z = (x, 1),        ∂log π/∂log σ_k = ξ_tk² - 1.

So the term of a trajectory is Σ_t S_ti Y_t, products of two forms, and its second moments are moments of
four. Those follow from the joint cumulants of forms, with Σ = diag(0, I) and C = Q_1 Σ Q_2 Σ ... Q_k,

    κ(q_1, ..., q_k) = 2^{k-1} Σ_{orders of 1..k} [tr(ΣC) / k + C_00],
    E[q_1 ... q_k] = Σ_{B ∋ 1} κ(B) E[Π_{i ∉ B} q_i],

(Magnus, "The moments of products of quadratic forms in normal variables", Statistica Neerlandica 32, 1978;
the noncentral case in Mathai & Provost, *Quadratic forms in random variables*, 1992, §3.2-3.3).
"""

from itertools import combinations, permutations
from typing import Any

import numpy as np

from fastpg.arguments import check_horizon
from fastpg.estimators.gpomdp import GPOMDP, RewardToGo
from fastpg.estimators.reinforce import REINFORCE
from fastpg.exact.linear_quadratic import checked_problem
from fastpg.exact.model import check_memory, finite_numbers
from fastpg.policies.gaussian_linear import GaussianLinear

_BASELINES = "'none', 'mean', 'optimal', 'time', a number, one for each step, or what has value(state, time)"


def lqr_covariance(
    env: Any, policy: GaussianLinear, theta: Any, estimator: Any, *, baseline: Any = None, horizon: Any = None
) -> np.ndarray:
    """Return the covariance of an estimator's term of one trajectory, shape (P, P), exact but for rounding.

    With D = n + T (n + m) numbers drawn, O(P² D³) operations and 8 P² D² bytes (of which 1 GiB is allowed)
    where all steps share a return and a constant baseline; T² times the operations otherwise.

    Parameters
    ----------
    env, policy, theta
        As for `lqr_gradient`.
    estimator : REINFORCE, GPOMDP or RewardToGo
        Its discount and, unless `baseline` is given, its baseline; without an entropy bonus.
    baseline : str, float, array of shape (T,), or object
        In place of the estimator's: "none", "mean" (of the returns, or of all rewards-to-go), "optimal" (for
        each component the constant of least variance), "time" (the mean of those of each step); numbers; or
        what has a method ``value(state, time)``, at most quadratic in the state, as `fastpg.GPOMDP` fits.
    horizon : int, optional
        T; the environment's own unless given.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    """
    if not isinstance(estimator, REINFORCE | GPOMDP | RewardToGo):
        raise TypeError(f"estimator={estimator!r}: must be a REINFORCE, a GPOMDP or a RewardToGo")
    if estimator.entropy:
        raise ValueError(f"estimator={estimator!r}: must have entropy=0")
    W, log_std, _ = checked_problem(env, policy, theta)
    steps = check_horizon(env, horizon)
    size = 1 + len(env.A) + steps * sum(env.B.shape)
    check_memory(16 * policy.n_parameters**2 * size**2, "policy, horizon")
    Z, scores, rewards = _trajectory(env, policy, W, np.exp(log_std), steps)
    gamma = estimator.discount
    earned = _returns(estimator, rewards, gamma)
    powers = gamma ** np.arange(steps) if isinstance(estimator, GPOMDP) else np.ones(steps)
    given = estimator.baseline if baseline is None else baseline
    less = _baseline(given, earned, Z)
    terms = _shared(
        [(s, power * (y - b)) for s, power, y, b in zip(scores, powers, earned, less, strict=True)]
    )
    second = _second_moments(terms, terms)
    mean = sum(_moment((s, y)) for s, y in terms)
    if isinstance(given, str) and given == "optimal":
        alone = [(sum(power * s for power, s in zip(powers, scores, strict=True)), _one(rewards[0]))]
        across, squares = _second_moments(terms, alone), _second_moments(alone, alone)
        best = np.diagonal(across) / np.diagonal(squares)
        second = second - across * best - (across * best).T + np.outer(best, best) * squares
    return second - np.outer(mean, mean)


def _trajectory(env, policy, W, std, steps):
    """Z_t with z_t = Z_t ê, the scores' forms (P, D, D) and the reward's, for each step."""
    n, m = env.B.shape
    basis = np.eye(1 + n + steps * (m + n))
    Z, scores, rewards = [], [], []
    X = env.start_root @ basis[1 : 1 + n] + np.outer(env.start_mean, basis[0])
    for t in range(steps):
        first = 1 + n + t * (m + n)
        xi, nu = basis[first : first + m], basis[first + m : first + m + n]
        Z.append(np.concatenate([X, basis[:1]]))
        U = W @ Z[t] + std[:, np.newaxis] * xi
        products = xi[:, np.newaxis, :, np.newaxis] * Z[t][np.newaxis, :, np.newaxis, :]
        products = (products / std[:, np.newaxis, np.newaxis, np.newaxis]).reshape(-1, *basis.shape)
        score = 0.5 * (products + products.transpose(0, 2, 1))
        if policy.n_log_std_parameters:
            squares = xi[:, :, np.newaxis] * xi[:, np.newaxis, :] - np.outer(basis[0], basis[0])
            score = np.concatenate([score, squares])
        scores.append(score)
        rewards.append(-(X.T @ env.Q @ X) - U.T @ env.R @ U)
        X = env.A @ X + env.B @ U + env.noise_root @ nu
    return Z, scores, rewards


def _returns(estimator, rewards, gamma):
    """What a step's score is multiplied with, before the baseline."""
    if isinstance(estimator, REINFORCE):
        return [sum(gamma**t * r for t, r in enumerate(rewards))] * len(rewards)
    to_go = [rewards[-1]]
    for r in reversed(rewards[:-1]):
        to_go.append(r + gamma * to_go[-1])
    return to_go[::-1]


def _baseline(given, earned, Z):
    """The forms β_t."""
    steps = len(earned)
    if isinstance(given, str):
        if given not in ("none", "mean", "optimal", "time"):
            raise ValueError(f"baseline={given!r}: must be {_BASELINES}")
        means = np.array([_moment((y,)) for y in earned])
        levels = {"mean": np.full(steps, means.mean()), "time": means}.get(given, np.zeros(steps))
    elif hasattr(given, "value"):
        return [z.T @ _quadratic(given, len(z) - 1, t) @ z for t, z in enumerate(Z)]
    else:
        levels = finite_numbers("baseline", given, _BASELINES)
        if levels.shape not in ((), (steps,)):
            raise ValueError(f"baseline: has the shape {levels.shape}, must have () or ({steps},)")
        levels = np.broadcast_to(levels, steps)
    return [level * _one(earned[0]) for level in levels]


def _one(like):
    """The form that is 1, of the size of another."""
    one = np.zeros_like(like)
    one[0, 0] = 1.0
    return one


def _quadratic(baseline, n, time):
    """B with value(x, time) = zᵀBz, z = (x, 1), from values at 0, the unit vectors and their sums."""
    unit = np.eye(n)

    def value(x):
        return float(baseline.value(tuple(x.tolist()), time))

    level = value(np.zeros(n))
    plus, minus = (np.array([value(sign * u) for u in unit]) - level for sign in (1.0, -1.0))
    B = np.zeros((n + 1, n + 1))
    B[n, n] = level
    B[:n, n] = B[n, :n] = 0.25 * (plus - minus)
    for i in range(n):
        B[i, i] = 0.5 * (plus[i] + minus[i])
        for j in range(i):
            B[i, j] = B[j, i] = 0.5 * (value(unit[i] + unit[j]) - level - plus[i] - plus[j])
    z = np.append(1.0 + np.sqrt(np.arange(1, n + 1)), 1.0)
    if not abs(value(z[:n]) - z @ B @ z) <= 1e-8 * np.abs(np.outer(z, z) * B).sum():
        raise ValueError(f"baseline={baseline!r}: must be at most quadratic in the state")
    return B


def _shared(terms):
    """The terms with the scores of steps that share a factor added up."""
    shared: list[tuple[np.ndarray, np.ndarray]] = []
    for s, y in terms:
        if shared and np.array_equal(shared[-1][1], y):
            shared[-1] = shared[-1][0] + s, y
        else:
            shared.append((s, y))
    return shared


def _second_moments(terms, others):
    """E[Σ_t S_ti Y_t Σ_u S'_uj Y'_u], shape (P, P)."""
    return sum(_moment((s[:, np.newaxis], y, other, v)) for s, y in terms for other, v in others)


def _moment(forms):
    """E[Π q_i] of forms (..., D, D)."""
    if not forms:
        return 1.0
    first, rest = forms[0], forms[1:]
    total = 0.0
    for k in range(len(rest) + 1):
        for chosen in combinations(range(len(rest)), k):
            others = tuple(q for i, q in enumerate(rest) if i not in chosen)
            total = total + _cumulant((first, *(rest[i] for i in chosen))) * _moment(others)
    return total


def _cumulant(forms):
    """κ(q_1, ..., q_k); an order and its reverse have the same terms."""
    k, total = len(forms), 0.0
    for order in permutations(range(k)):
        if order[0] > order[-1]:
            continue
        product = forms[order[0]]
        for i in order[1:]:
            product = product[..., 1:] @ forms[i][..., 1:, :]
        traces = np.trace(product[..., 1:, 1:], axis1=-2, axis2=-1)
        total = total + (1 if k == 1 else 2) * (traces / k + product[..., 0, 0])
    return 2.0 ** (k - 1) * total
