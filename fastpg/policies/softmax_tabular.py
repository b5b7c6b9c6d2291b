"""The softmax policy with a parameter for every state and action."""

import math
from typing import NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.dispatch import compiled_form
from fastpg.policies.spaces import action_numbers
from fastpg.random import categorical

_LEAST = 1e-300  # probability whose logarithm is taken


class SoftmaxTabular(NamedTuple):
    r"""Softmax (Gibbs) policy with a preference for every action in each of S states.

    .. math:: \pi_\theta(a \mid s) = \frac{\exp \theta_{s,a}}{\sum_b \exp \theta_{s,b}}

    θ is the float64 vector of shape (S·A,), the A preferences of a state together. The observation is a
    number, or several (a Tuple of Discrete spaces), which are counted through, the last one fastest.

    The methods below are compiled into the estimators; called from ordinary Python they take and return NumPy
    arrays, and observations and actions may have batch axes in front. θ may be of any length: trajectories
    are recorded and scored when they are complete (`factor` and `spread`).

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §13.1.
    """

    sizes: tuple[int, ...]  # how many values each component of the observation has
    initial_preferences: tuple[float, ...]  # A numbers, the same in every state
    first_observation: int = 0
    first_action: int = 0

    @classmethod
    def for_env(cls, env):
        """Return the policy whose sizes are those of the environment's spaces.

        Raises
        ------
        ValueError
            Unless observations are Discrete or a Tuple of Discrete, and actions are Discrete.
        """
        from gymnasium.spaces import Discrete, Tuple

        observations, actions = env.observation_space, action_numbers("SoftmaxTabular", env.action_space)
        zeros = (0.0,) * len(actions)
        if isinstance(observations, Discrete):
            return cls((int(observations.n),), zeros, int(observations.start), actions[0])
        if (
            isinstance(observations, Tuple)
            and len(observations.spaces) > 1
            and all(isinstance(part, Discrete) and part.start == 0 for part in observations.spaces)
        ):
            return cls(tuple(int(part.n) for part in observations.spaces), zeros, 0, actions[0])
        raise ValueError(f"env: SoftmaxTabular needs Discrete observations, not {observations}")

    def check_environment(self, env) -> None:
        """Raise ValueError unless observations and actions of `env` are those of this policy."""
        fitting = type(self).for_env(env)
        ours = self.sizes, len(self.initial_preferences), self.first_observation, self.first_action
        theirs = fitting.sizes, len(fitting.initial_preferences), *fitting[2:]
        if ours != theirs:
            raise ValueError(f"policy={self!r}: is for other spaces than the environment's, {fitting!r}")

    def in_lanes(self):
        """Return the policy as kernels have it: with a table of probabilities for θ."""
        return TabulatedSoftmax(*self)

    @property
    def n_states(self) -> int:
        """S."""
        return math.prod(self.sizes)

    @property
    def n_parameters(self) -> int:
        """The length of θ, S·A."""
        return self.n_states * len(self.initial_preferences)

    def initial(self) -> np.ndarray:
        """Return θ with `initial_preferences` in each state: float64, shape (n_parameters,)."""
        return np.tile(np.array(self.initial_preferences), self.n_states)

    def state_number(self, observation):
        """Return the number of a state, from 0."""
        return _state_number(observation, self.sizes, self.first_observation)

    def preferences(self, theta, observation):
        """Return θ_s, shape (..., A)."""
        n = len(self.initial_preferences)
        return vectors.section(theta, self.state_number(observation) * n, self.initial_preferences)

    def probabilities(self, theta, observation):
        """Return π_θ(· | observation), shape (..., A)."""
        return vectors.softmax(self.preferences(theta, observation))

    def sample(self, theta, observation, rng):
        """Return an action drawn from π_θ(· | observation), with draw 0 of `rng`.

        `rng` is a `fastpg.random.Rng`, or in ordinary Python a `numpy.random.Generator`.
        """
        return self.first_action + categorical(rng, 0, self.probabilities(theta, observation))

    def mode(self, theta, observation):
        """Return the most probable action."""
        return self.first_action + vectors.argmax(self.preferences(theta, observation))

    def log_prob(self, theta, observation, action):
        """Return log π_θ(action | observation), shape (...)."""
        return vectors.log_softmax_at(self.preferences(theta, observation), action - self.first_action)

    def entropy(self, theta, observation):
        """Return H = −Σ_a π(a) log π(a), shape (...)."""
        return vectors.softmax_entropy(self.preferences(theta, observation))

    def entropy_factor(self, theta, observation):
        """Return what is not zero of ∇_θ H, −π(c) (log π(c) + H) for each action c, shape (..., A)."""
        return vectors.entropy_slope(self.preferences(theta, observation))

    def factor(self, theta, observation, action):
        """Return what is not zero of the score, 1{a = action} − π_θ(a | observation), shape (..., A)."""
        return vectors.indicator_minus(action - self.first_action, self.probabilities(theta, observation))

    def spread(self, array, observation, factor, weight):
        """Add `weight` times the score to an array of n_parameters, from its `factor`.

        Returns where the section begins that was added to, and how long it is.
        """
        start = self.state_number(observation) * len(self.initial_preferences)
        vectors.accumulate(array, start, factor, weight)
        return start, len(self.initial_preferences)

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters); ordinary Python only.

        From log π(a | s) = θ_{s,a} − log Σ_b exp(θ_{s,b}), the derivative with respect to θ_{s,c} is
        1{a = c} − π(c | s), and zero for other states.
        """
        factor = self.factor(theta, observation, action)
        state = np.asarray(self.state_number(observation))
        score = np.zeros((*factor.shape[:-1], self.n_states, factor.shape[-1]))
        np.put_along_axis(score, state[..., np.newaxis, np.newaxis], factor[..., np.newaxis, :], axis=-2)
        return score.reshape(*factor.shape[:-1], -1)


class TabulatedSoftmax(SoftmaxTabular):
    """The same policy as kernels have it: θ holds the probabilities, computed once for each state."""

    __slots__ = ()

    def in_lanes(self):
        """Return the policy itself."""
        return self

    def lane_parameters(self, theta):
        """Return the probabilities of all actions in all states, shape (n_parameters,)."""
        preferences = np.reshape(theta, (self.n_states, -1))
        return vectors.softmax(preferences).reshape(-1)

    def preferences(self, theta, observation):
        """Return log π(· | s), of which nothing is less than -690; shape (..., A)."""
        return vectors.logs(self.probabilities(theta, observation), _LEAST)

    def probabilities(self, theta, observation):
        """Return π(· | observation), shape (..., A)."""
        start = self.state_number(observation) * len(self.initial_preferences)
        return vectors.section(theta, start, self.initial_preferences)

    def mode(self, theta, observation):
        """Return the most probable action."""
        return self.first_action + vectors.argmax(self.probabilities(theta, observation))

    def visit(self, observation, action):
        """Return the number of a state and an action together, which is recorded (`fastpg.visits`)."""
        return self.state_number(observation) * len(self.initial_preferences) + action - self.first_action

    def of_states(self):
        """Return the policy where observations are numbers of states, and actions count from 0."""
        return TabulatedSoftmax((0,), self.initial_preferences, 0, 0)

    def balance(self, theta, array, start):
        """Make of the weights of each action in a state, from `start` on, what they add to the score."""
        weights = vectors.load(array, start, self.initial_preferences)
        probabilities = vectors.section(theta, start, self.initial_preferences)
        balance = vectors.scale(probabilities, -vectors.total(weights), 0.0)
        vectors.store(array, start, vectors.add(weights, balance))


def _state_number(observation, sizes, first):
    """Observations with several components have them on the last axis."""
    if len(sizes) == 1:
        return np.asarray(observation) - first if np.ndim(observation) else int(observation) - first
    parts = np.moveaxis(np.asarray(observation, dtype=np.int64), -1, 0)
    return np.ravel_multi_index(tuple(parts), sizes)


@compiled_form(_state_number)
def _(observation, sizes, first):
    if len(sizes) == 1:
        return lambda observation, sizes, first: np.int64(observation) - first

    def count_through(observation, sizes, first):
        number = 0
        for k in range(len(sizes)):
            number = number * sizes[k] + np.int64(observation[k])
        return number

    return count_through
