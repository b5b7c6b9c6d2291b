r"""An entropy bonus: J(θ) + β E[Σ_t γ^t H(π_θ(·|s_t))], to keep a policy from growing deterministic too soon.

Williams & Peng (1991). With the entropy H_t of the policy in s_t as a part of what is earned there, its
gradient is that of J for the rewards r_t + β H_t, and the direct derivative,

    E[Σ_t g_t Σ_{k≥t} γ^k r_k  +  β Σ_t g_t Σ_{k>t} γ^k H_k  +  β Σ_t γ^t ∇H_t],

where H_t itself is left out of what follows g_t: E[g_t H_t | s_t] = 0. H and ∇H are the policy's own, exact:
`entropy` and `entropy_score` (`entropy_factor` where trajectories are recorded).
"""

from typing import Any, NamedTuple

from fastpg import vectors
from fastpg.precision import widened
from fastpg.scores import running_entropy_score


class NoBonus(NamedTuple):
    """β = 0, and nothing to compute."""

    def level(self, policy, theta, observation):
        """Return β H_t."""
        return 0.0

    def push(self, gradient, weight, policy, theta, observation):
        """Return a running sum of scores with ``weight · β ∇H_t`` added."""
        return gradient

    def factor(self, policy, theta, observation, factor, weight, coefficient):
        """Return a recorded factor, weighted, with ``coefficient · β ∇H_t`` added."""
        return vectors.scale(factor, weight, 0.0)


class EntropyBonus(NamedTuple):
    """The bonus."""

    beta: float

    def level(self, policy, theta, observation):
        """Return β H_t."""
        return widened(self.beta * policy.entropy(theta, observation))

    def push(self, gradient, weight, policy, theta, observation):
        """Return a running sum of scores with ``weight · β ∇H_t`` added."""
        slope = running_entropy_score(policy, theta, observation)
        return gradient.plus(vectors.scale(slope, weight * self.beta, 0.0))

    def factor(self, policy, theta, observation, factor, weight, coefficient):
        """Return a recorded factor, weighted, with ``coefficient · β ∇H_t`` added."""
        slope = policy.entropy_factor(theta, observation)
        return vectors.add(
            vectors.scale(factor, weight, 0.0), vectors.scale(slope, coefficient * self.beta, 0.0)
        )


def bonus_for(beta: float, policy: Any) -> Any:
    """Return the bonus with that coefficient, or raise TypeError if the policy does not tell its entropy."""
    if beta == 0.0:
        return NoBonus()
    methods = ["entropy", "entropy_factor" if hasattr(policy, "factor") else "entropy_score"]
    if hasattr(policy, "running_score"):
        methods.append("running_entropy_score")
    if missing := [name for name in methods if not hasattr(policy, name)]:
        raise TypeError(f"entropy={beta!r}: {type(policy).__name__} lacks {' and '.join(missing)}")
    return EntropyBonus(float(beta))
