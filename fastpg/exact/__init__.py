"""Exact policy gradients, to hold estimates against: no sampling, plain NumPy."""

from fastpg.exact.bandit import bandit_gradient
from fastpg.exact.finite_mdp import ExactGradient, gpomdp_covariance, policy_gradient
from fastpg.exact.linear_quadratic import lqr_gradient

__all__ = ["ExactGradient", "bandit_gradient", "gpomdp_covariance", "lqr_gradient", "policy_gradient"]
