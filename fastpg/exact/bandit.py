r"""Bandits: gradient and covariance in closed form.

One action a with probability π_a and score g_a = ∇log π_a, one reward r normal with mean μ_a and standard
deviation σ_a. With J = Σ_a π_a μ_a, as E[g] = 0,

    ∇J = Σ_a π_a g_a (μ_a - J),
    E[g gᵀ (r-J)^j] = Σ_a π_a g_a g_aᵀ m_j,    m_0 = 1, m_1 = μ_a - J, m_2 = (μ_a - J)² + σ_a².

For the softmax, g_a = e_a - π and so ∂J/∂θ_a = π_a (μ_a - J) (Sutton & Barto 2018, §2.8).
"""

from typing import Any

import numpy as np

from fastpg.arguments import check_environment, check_policy, check_theta
from fastpg.exact.finite_mdp import ExactGradient
from fastpg.exact.model import state_probabilities, state_scores


def bandit_gradient(env: Any, policy: Any, theta: Any) -> ExactGradient:
    """Return J(θ), its gradient and the moments of REINFORCE for a `fastpg.envs.Bandit`.

    Parameters
    ----------
    env : fastpg.envs.Bandit
    policy : NamedTuple
        Any with ``probabilities(theta, 0)`` and ``score(theta, 0, arm)``, such as `SoftmaxTabular`.
    theta : array_like, shape (P,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.
    """
    if not (hasattr(env, "means") and hasattr(env, "standard_deviations")):
        raise TypeError(f"env={env!r}: must be a fastpg.envs.Bandit")
    check_environment(env)
    check_policy(policy, env)
    theta = check_theta(policy, theta)
    pi = state_probabilities(policy, theta, 0, len(env.means))
    scores = state_scores(policy, theta, 0, pi)
    expected_return = float(pi @ env.means)
    deviation = env.means - expected_return
    variance = env.standard_deviations**2
    powers = np.stack([np.ones_like(pi), deviation, deviation**2 + variance])
    moments = np.einsum("ja,ap,aq->jpq", pi * powers, scores, scores)
    return ExactGradient(expected_return, (pi * deviation) @ scores, float(pi @ powers[2]), moments)
