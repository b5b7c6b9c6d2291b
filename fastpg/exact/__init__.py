"""Exact policy gradients, to hold estimates against: no sampling, plain NumPy."""

from fastpg.exact.bandit import bandit_gradient
from fastpg.exact.finite_mdp import ExactGradient, policy_gradient
from fastpg.exact.linear_quadratic import lqr_gradient
from fastpg.exact.linear_quadratic_covariance import lqr_covariance
from fastpg.exact.rewards_to_go import gpomdp_covariance, reward_to_go_moments
from fastpg.exact.whole_returns import reinforce_covariance

__all__ = [
    "ExactGradient",
    "bandit_gradient",
    "gpomdp_covariance",
    "lqr_covariance",
    "lqr_gradient",
    "policy_gradient",
    "reinforce_covariance",
    "reward_to_go_moments",
]
