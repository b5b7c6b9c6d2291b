"""Softmax policies over the outputs of a neural network."""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.networks.mlp import MLP, check_hidden
from fastpg.networks.scaled import scaled
from fastpg.policies import softmax
from fastpg.policies.neural import Neural
from fastpg.policies.spaces import action_numbers, box_shape, check_discrete_actions, check_observations


class _Softmax(NamedTuple):
    network: Any
    actions: tuple[int, ...]  # their numbers, one after the other


class SoftmaxNetwork(Neural, _Softmax):
    r"""Softmax (Gibbs) policy over A actions, whose logits y_a are the outputs of a network.

    .. math:: \pi_\theta(a \mid o) = \frac{\exp y_a(\theta, o)}{\sum_b \exp y_b(\theta, o)}, \qquad
              \frac{\partial \log\pi(a)}{\partial y_c} = 1\{a = c\} - \pi(c)

    θ is the network's. The methods are compiled into the estimators; called from ordinary Python they take
    and return NumPy arrays, and observations and actions may have batch axes in front.
    """

    __slots__ = ()

    @property
    def first_action(self) -> int:
        """The number of the first action."""
        return self.actions[0]

    @property
    def n_actions(self) -> int:
        """A."""
        return len(self.actions)

    def check_environment(self, env) -> None:
        """Raise ValueError unless observations and actions of `env` are those of this policy."""
        check_discrete_actions(self, env)
        check_observations(self, env)

    def row(self):
        """Return a row of outputs of any value, for its type."""
        return vectors.floats(self.actions)

    def logits(self, theta, observation):
        """Return the logits, shape (..., A): the outputs."""
        return self.outputs(theta, observation)

    probabilities, sample, mode = softmax.probabilities, softmax.sample, softmax.mode
    log_prob, entropy = softmax.log_prob, softmax.entropy
    factor = softmax.error  # the derivatives of log π(action) by the logits

    def entropy_factor(self, theta, observation):
        """Return the derivatives of H by the logits, −π(a) (log π(a) + H): shape (..., A)."""
        return vectors.entropy_slope(self.logits(theta, observation))

    def information(self, row, direction):
        """Return M d for the Fisher information M of the logits, π(a) (d_a − Σ_b π(b) d_b), shape (A,)."""
        probabilities = vectors.softmax(row)
        mean = vectors.total(vectors.multiply(probabilities, direction))
        return vectors.multiply(probabilities, vectors.scale(direction, 1.0, -mean))

    def divergence(self, row, other):
        """Return the Kullback–Leibler divergence Σ_a π(a) log(π(a) / π'(a)) of rows of logits y and y'.

        log(π(a) / π'(a)) = y_a − y'_a + c, where c is the same for all actions.
        """
        constant = vectors.log_softmax_at(row, 0) - row[0] - (vectors.log_softmax_at(other, 0) - other[0])
        ratios = vectors.scale(vectors.subtract(row, other), 1.0, constant)
        return vectors.total(vectors.multiply(vectors.softmax(row), ratios))


class SoftmaxMLP(SoftmaxNetwork):
    """The softmax policy over the outputs of a multilayer perceptron (`fastpg.networks.mlp.MLP`)."""

    __slots__ = ()

    @classmethod
    def for_env(cls, env, hidden=(64, 64), activation="tanh", dtype=np.float32, scaling=None):
        """Return the policy whose numbers of inputs and outputs are those of the environment's spaces.

        Parameters
        ----------
        env : NamedTuple
        hidden : sequence of int
            Sizes of the hidden layers; with none the policy is linear.
        activation : "tanh", "relu" or "identity"
            Of the hidden layers.
        dtype : float32 or float64
            That the network computes in.
        scaling : None, "bounds" or array_like, shape (..., n)
            Whether the network sees observations scaled: with "bounds" from the bounds of their space, where
            these are finite, to [-1, 1]; with observations (such as `fastpg.rollout` records) to their mean 0
            and standard deviation 1. A critic does as the policy (`fastpg.networks.scaled`).

        Raises
        ------
        TypeError, ValueError
            Unless observations are a one-dimensional Box and actions are Discrete, or if another argument is
            not allowed.
        """
        (n,) = box_shape("SoftmaxMLP", "observation", env.observation_space)
        actions = action_numbers("SoftmaxMLP", env.action_space)
        network = MLP.of((n, *check_hidden(hidden), len(actions)), activation, dtype)
        return cls(scaled(network, env, scaling), actions)
