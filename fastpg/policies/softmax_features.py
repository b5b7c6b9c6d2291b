"""The softmax policy that is linear in features of the observation."""

from typing import Any, NamedTuple

import numpy as np

from fastpg import feature_sums, linear_forms, short_features, vectors
from fastpg.policies import softmax
from fastpg.policies.softmax_few_features import SoftmaxFewFeatures
from fastpg.policies.spaces import check_discrete_actions, check_observations


class SoftmaxFeatures(NamedTuple):
    r"""Softmax (Gibbs) policy over A actions, linear in F features φ of the observation (`fastpg.features`).

    .. math:: \pi_\theta(a \mid o) = \frac{\exp(\theta_a \cdot \phi(o))}{\sum_b \exp(\theta_b \cdot \phi(o))}

    Made by ``SoftmaxLinear.for_env(env, features=...)``. θ is the float64 vector of shape (A·F,) that holds
    the rows θ_a one after the other, without a bias: `Polynomial` and `Fourier` have a constant feature, and
    those of `TileCoding` and normalised `RadialBasis` have a constant sum.

    The methods are compiled into the estimators; called from ordinary Python they take and return NumPy
    arrays, and observations and actions may have batch axes in front. θ may be of any length: trajectories
    are recorded and scored when they are complete (`factor` and `spread`). Where there are few features,
    their number is compiled in instead (`in_lanes`), and another one compiles anew.

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §13.1 and exercise 13.3.
    """

    features: Any
    actions: tuple[int, ...]  # their numbers, one after the other

    @property
    def n_observations(self) -> int:
        """How many numbers an observation has."""
        return len(self.features.low)

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

    @property
    def n_parameters(self) -> int:
        """The length of θ, A·F."""
        return self.n_actions * self.features.n_features

    def initial(self) -> np.ndarray:
        """Return θ = 0, the uniform policy: float64, shape (n_parameters,)."""
        return np.zeros(self.n_parameters)

    def in_lanes(self):
        """Return the policy as kernels have it: another θ, and `SoftmaxFewFeatures` where that is faster."""
        features = linear_forms.as_folded(self.features)
        shape = short_features.shape_of(self.features)
        carried = (self.n_actions - 1) * self.features.n_features
        if shape is None or carried > short_features.MAX_CARRIED:
            return SoftmaxManyFeatures(features, self.actions)
        return SoftmaxFewFeatures(features, self.actions, shape)

    def logits(self, theta, observation):
        """Return θ_a·φ(observation) for all actions, up to what is the same for all: shape (..., A)."""
        return linear_forms.logits(theta, self.features, observation, self.actions)

    probabilities, sample, mode = softmax.probabilities, softmax.sample, softmax.mode  # type: ignore[misc]
    log_prob, entropy, error = softmax.log_prob, softmax.entropy, softmax.error  # type: ignore[misc]

    def entropy_factor(self, theta, observation):
        """Return −π(a) (log π(a) + H) for all actions a but the last, shape (..., A-1): of ∇_θ H."""
        return vectors.but_last(vectors.entropy_slope(self.logits(theta, observation)))

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters); ordinary Python only.

        From log π(a) = θ_a·φ − log Σ_b exp(θ_b·φ), the derivative with respect to the row θ_c is
        (1{a = c} − π(c)) φ.
        """
        error = self.error(theta, observation, np.asarray(action))
        products = error[..., :, np.newaxis] * self.features(observation)[..., np.newaxis, :]
        return products.reshape(*products.shape[:-2], -1)

    def factor(self, theta, observation, action):
        """Return 1{a = action} − π_θ(a | observation) for all actions a but the last, shape (..., A-1).

        With that of the last they add up to zero.
        """
        return vectors.but_last(self.error(theta, observation, action))

    def spread(self, array, observation, factor, weight):
        """Add `weight` times the score to an array of n_parameters, from its `factor`.

        Returns where the section begins that was added to, and how long it is.
        """
        return feature_sums.add_balanced(array, self.features, observation, factor, weight)

    def recorded_score(self, array, starts, observations, factors, first, n_steps, observation, factor):
        """Return the score of recorded steps, put together in an array of zeros; compiled code only.

        The observations and factors of steps `first` to ``first + n_steps - 1`` are as `fastpg.records`
        has them; `observation` and `factor` are given for their types. `starts` is room for
        `sections_per_step` integers a step.
        """
        steps = feature_sums.recorded_steps(observations, factors, first, n_steps, observation, factor)
        return feature_sums.recorded_balanced(array, starts, self.features, steps)

    def sections_per_step(self):
        """Return in how many places `recorded_score` adds for a step, if the score is sparse."""
        return feature_sums.n_sections(self.features) * len(self.actions)


class SoftmaxManyFeatures(SoftmaxFeatures):
    """The same policy as kernels have it: the rows of θ are differences from the last one, and folded."""

    __slots__ = ()

    def lane_parameters(self, theta):
        """Return that θ, from the policy's own."""
        return linear_forms.folded_differences(theta, self.features, self.n_actions)

    def logits(self, theta, observation):
        """Return θ_a·φ(observation) for all actions, up to what is the same for all: shape (..., A)."""
        return linear_forms.differences(theta, self.features, observation, self.actions)
