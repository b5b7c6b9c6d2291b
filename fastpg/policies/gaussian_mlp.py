"""Gaussian policies over the outputs of a neural network, for continuous actions."""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.arguments import check_number
from fastpg.networks.log_std import FIXED, LEARNED, STATE_DEPENDENT, WithLogStd
from fastpg.networks.mlp import MLP, check_hidden
from fastpg.networks.scaled import scaled
from fastpg.policies import gaussian
from fastpg.policies.gaussian_linear import fixed_log_std
from fastpg.policies.neural import Neural
from fastpg.policies.spaces import box_shape


class _Gaussian(NamedTuple):
    network: Any  # WithLogStd, or that Scaled
    log_std: tuple[float, ...]  # m numbers, for how many they are


class GaussianMLP(Neural, _Gaussian):
    r"""Gaussian policy over m real numbers, with means from a multilayer perceptron.

    The network's outputs are m means μ_k and m numbers log σ_k; components of the action are independent:

    .. math:: a_k \sim N(\mu_k(\theta, o), \sigma_k^2)

    From log π(a) = Σ_k (−½ z_k² − log σ_k) + const with z_k = (a_k − μ_k) / σ_k, the derivative by μ_k is
    z_k / σ_k, and by log σ_k it is z_k² − 1. log σ is **fixed**, **learned** (m parameters behind the
    network's), or **state-dependent** (m more outputs): see `fastpg.networks.log_std`. An environment clips
    the actions it is given to its bounds; the score is that of the action before.

    The methods are compiled into the estimators; called from ordinary Python they take and return NumPy
    arrays, and observations (..., n) and actions (..., m) may have batch axes in front.
    """

    __slots__ = ()

    @classmethod
    def for_env(
        cls,
        env,
        hidden=(64, 64),
        activation="tanh",
        log_std="learned",
        initial_log_std=0.0,
        dtype=np.float32,
        scaling=None,
    ):
        """Return the policy whose numbers of inputs and outputs are those of the environment's spaces.

        Parameters
        ----------
        env : NamedTuple
        hidden, activation, dtype, scaling
            As for `SoftmaxMLP.for_env`.
        log_std : "learned", "state-dependent", or float
            A number is the log σ of all components, fixed.
        initial_log_std : float
            log σ under `initial` if it is not fixed.

        Raises
        ------
        TypeError, ValueError
            Unless observations and actions are one-dimensional Boxes, or if another argument is not allowed.
        """
        (n,) = box_shape("GaussianMLP", "observation", env.observation_space)
        (m,) = box_shape("GaussianMLP", "action", env.action_space)
        kinds = {"learned": LEARNED, "state-dependent": STATE_DEPENDENT}
        kind = kinds.get(log_std, FIXED) if isinstance(log_std, str) else FIXED
        start = fixed_log_std(log_std) if kind == FIXED else check_number("initial_log_std", initial_log_std)
        outputs = 2 * m if kind == STATE_DEPENDENT else m
        means = MLP.of((n, *check_hidden(hidden), outputs), activation, dtype)
        network = WithLogStd(means, (start,) * m, kind)
        return cls(scaled(network, env, scaling), (start,) * m)

    check_environment = gaussian.check_environment

    def row(self):
        """Return a row of outputs of any value, for its type."""
        return vectors.concatenate(self.log_std, self.log_std)

    def mean(self, theta, observation):
        """Return the mean of the action, shape (..., m)."""
        return vectors.leading(self.outputs(theta, observation), self.log_std)

    def log_std_at(self, theta, observation):
        """Return log σ, shape (..., m)."""
        return vectors.trailing(self.outputs(theta, observation), self.log_std)

    sample, mode, log_prob, entropy = gaussian.sample, gaussian.mode, gaussian.log_prob, gaussian.entropy

    def factor(self, theta, observation, action):
        """Return the derivatives of log π(action) by the outputs, z_k / σ_k and z_k² − 1: shape (..., 2m)."""
        mean, log_std = self.mean(theta, observation), self.log_std_at(theta, observation)
        z, inverse = gaussian.standardised(mean, log_std, action)
        return vectors.concatenate(vectors.multiply(z, inverse), vectors.scale(vectors.squares(z), 1.0, -1.0))

    def entropy_factor(self, theta, observation):
        """Return the derivatives of H by the outputs, 0 for the means and 1 for each log σ_k."""
        zeros = vectors.scale(self.log_std_at(theta, observation), 0.0, 0.0)
        return vectors.concatenate(zeros, vectors.scale(zeros, 0.0, 1.0))

    def information(self, row, direction):
        """Return M d for the Fisher information M of the outputs, diagonal, 1 / σ_k² and 2: shape (2m,)."""
        precision = vectors.exp(vectors.scale(vectors.trailing(row, self.log_std), -2.0, 0.0))
        means = vectors.multiply(vectors.leading(direction, self.log_std), precision)
        return vectors.concatenate(means, vectors.scale(vectors.trailing(direction, self.log_std), 2.0, 0.0))

    def divergence(self, row, other):
        """Return the Kullback–Leibler divergence of rows of outputs.

        Σ_k log(σ'_k / σ_k) + (σ_k² + (μ_k − μ'_k)²) / (2 σ'_k²) − ½.
        """
        mean, log_std = vectors.leading(row, self.log_std), vectors.trailing(row, self.log_std)
        other_mean, other_std = vectors.leading(other, self.log_std), vectors.trailing(other, self.log_std)
        spread = vectors.exp(vectors.scale(log_std, 2.0, 0.0))
        squares = vectors.add(spread, vectors.squares(vectors.subtract(mean, other_mean)))
        precision = vectors.exp(vectors.scale(other_std, -2.0, 0.0))
        quadratic = vectors.scale(vectors.multiply(squares, precision), 0.5, -0.5)
        return vectors.total(vectors.add(vectors.subtract(other_std, log_std), quadratic))
