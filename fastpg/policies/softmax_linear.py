"""The softmax policy that is linear in the observation."""

from typing import NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.arguments import check_dtype
from fastpg.features import check_features
from fastpg.policies.softmax_features import SoftmaxFeatures
from fastpg.policies.spaces import action_numbers, box_shape, check_discrete_actions, check_observations
from fastpg.random import categorical


class SoftmaxLinear(NamedTuple):
    r"""Softmax (Gibbs) policy over A actions, linear in an observation of F numbers, with a bias.

    With x = (observation, 1) and one row θ_a of F + 1 parameters for each action,

    .. math:: \pi_\theta(a \mid o) = \frac{\exp(\theta_a \cdot x)}{\sum_b \exp(\theta_b \cdot x)}

    θ is the float64 vector of shape (A·(F+1),) that holds the rows one after the other, the bias last
    in each. The methods below are compiled into the estimators; called from ordinary Python they take
    and return NumPy arrays, and observations and actions may have batch axes in front.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §13.1 and exercise 13.3.
    """

    n_observations: int
    n_actions: int
    first_action: int = 0
    bits: int = 64  # of a number in the lanes

    @classmethod
    def for_env(cls, env, features=None, dtype=np.float64):
        """Return the policy whose sizes are those of the environment's spaces.

        Parameters
        ----------
        env : NamedTuple
        features : feature map, optional
            One of `fastpg.features`, such as ``Fourier(3)``: then the policy is linear in its features, and
            is a `SoftmaxFeatures`.
        dtype : float64 or float32
            That trajectories are computed in; see `dtype`. With `features`, float64.

        Raises
        ------
        TypeError
            If `features` is something else.
        ValueError
            Unless observations are a one-dimensional Box and actions are Discrete, if the sizes or bounds of
            `features` do not fit them, or if `dtype` is something else.
        """
        bits = check_dtype(dtype)
        (n,) = box_shape("SoftmaxLinear", "observation", env.observation_space)
        actions = action_numbers("SoftmaxLinear", env.action_space)
        if features is not None:
            check_features(features)
            if bits != 64:
                raise ValueError(f"dtype={dtype!r}: with features the lanes have float64")
            return SoftmaxFeatures(features.for_env(env), actions)
        return cls(n, len(actions), actions[0], bits)

    @property
    def dtype(self) -> np.dtype:
        """float64 or float32: what the numbers of a trajectory are in compiled code.

        With float32 a vector of the processor has twice as many. It is then the dtype of θ, the state, the
        observation, the probabilities, the score of a step and its sum along the trajectory. The return of a
        trajectory is added up in float64, as are all sums over trajectories, and what comes out is float64.
        Random numbers are those of float64, rounded down to 24 bits, so that with the same seed the
        trajectories are the same but for rounding (which chaotic dynamics make another trajectory of).
        """
        return np.dtype(f"float{self.bits}")

    def check_environment(self, env) -> None:
        """Raise ValueError unless observations and actions of `env` are those of this policy."""
        check_discrete_actions(self, env)
        check_observations(self, env)

    @property
    def n_parameters(self) -> int:
        """The length of θ, A·(F+1)."""
        return self.n_actions * (self.n_observations + 1)

    def initial(self) -> np.ndarray:
        """Return θ = 0, the uniform policy: float64, shape (n_parameters,)."""
        return np.zeros(self.n_parameters)

    def probabilities(self, theta, observation):
        """Return π_θ(· | observation), shape (..., A)."""
        return vectors.softmax(vectors.affine(theta, observation))

    def sample(self, theta, observation, rng):
        """Return an action drawn from π_θ(· | observation), with draw 0 of `rng`.

        `rng` is a `fastpg.random.Rng`, or in ordinary Python a `numpy.random.Generator`.
        """
        return self.first_action + categorical(rng, 0, self.probabilities(theta, observation))

    def mode(self, theta, observation):
        """Return the most probable action."""
        return self.first_action + vectors.argmax(vectors.affine(theta, observation))

    def log_prob(self, theta, observation, action):
        """Return log π_θ(action | observation), shape (...)."""
        return vectors.log_softmax_at(vectors.affine(theta, observation), action - self.first_action)

    def entropy(self, theta, observation):
        """Return H = −Σ_a π(a) log π(a), shape (...)."""
        return vectors.softmax_entropy(vectors.affine(theta, observation))

    def entropy_score(self, theta, observation):
        """Return ∇_θ H: −π(c) (log π(c) + H) x for the row θ_c; shape (..., n_parameters)."""
        return vectors.outer_with_bias(vectors.entropy_slope(vectors.affine(theta, observation)), observation)

    def running_entropy_score(self, theta, observation):
        """Return the same without its last row, minus the sum of the others."""
        slope = vectors.entropy_slope(vectors.affine(theta, observation))
        return vectors.outer_with_bias(vectors.but_last(slope), observation)

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters).

        From log π(a) = θ_a·x − log Σ_b exp(θ_b·x), the derivative with respect to the row θ_c is
        (1{a = c} − π(c)) x.
        """
        return vectors.outer_with_bias(self.error(theta, observation, action), observation)

    def error(self, theta, observation, action):
        """Return 1{a = action} − π_θ(a | observation) for all actions a, shape (..., A)."""
        return vectors.indicator_minus(action - self.first_action, self.probabilities(theta, observation))

    def running_score(self, theta, observation, action):
        """Return the score without its last row: what the lanes add up along a trajectory.

        Σ_c (1{a = c} − π(c)) = 0, so the last row is minus the sum of the others: `whole_score`.
        """
        error = self.error(theta, observation, action)
        return vectors.outer_with_bias(vectors.but_last(error), observation)

    def whole_score(self, theta, running):
        """Return the score, or a sum of scores, from its `running_score`."""
        return vectors.with_balancing_row(running, theta)
