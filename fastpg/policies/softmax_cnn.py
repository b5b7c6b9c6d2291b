"""Softmax policy over the outputs of a convolutional network."""

import numpy as np

from fastpg.environment import observation_shape
from fastpg.networks.cnn import CNN
from fastpg.policies.softmax_mlp import SoftmaxNetwork
from fastpg.policies.spaces import action_numbers, box_shape, check_discrete_actions


class SoftmaxCNN(SoftmaxNetwork):
    """The softmax policy over the outputs of a convolutional network (`fastpg.networks.cnn.CNN`)."""

    __slots__ = ()

    @classmethod
    def for_env(cls, env, filters=16, side=3, hidden=(128,), dtype=np.float32):
        """Return the policy whose inputs and outputs are those of the environment's spaces.

        Parameters
        ----------
        env : NamedTuple
            Observations are images, shape (rows, columns, channels).
        filters, side : int
            Of the convolution, which has stride 1. The defaults, with those of `hidden`, are the network of
            Young & Tian (2019, arXiv 1903.03176).
        hidden : sequence of int
            Sizes of the hidden layers behind it, with relu.
        dtype : float32 or float64
            That the network computes in.

        Raises
        ------
        TypeError, ValueError
            Unless observations are a three-dimensional Box and actions Discrete, or if another argument is
            not allowed.
        """
        shape = box_shape("SoftmaxCNN", "observation", env.observation_space, 3)
        actions = action_numbers("SoftmaxCNN", env.action_space)
        return cls(CNN.of(shape, len(actions), filters, side, hidden, dtype), actions)

    def check_environment(self, env) -> None:
        """Raise ValueError unless observations and actions of `env` are those of this policy."""
        check_discrete_actions(self, env)
        if (shape := observation_shape(env)) != self.network.input_shape:
            raise ValueError(
                f"policy: is for images of shape {self.network.input_shape}, the environment's have {shape}"
            )
