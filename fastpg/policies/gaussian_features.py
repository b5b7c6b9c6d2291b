"""The Gaussian policy that is linear in features of the observation, for continuous actions."""

from typing import Any, NamedTuple

import numpy as np

from fastpg import feature_sums, linear_forms, vectors
from fastpg.dispatch import compiled_form
from fastpg.features import Constant
from fastpg.policies import gaussian


class GaussianFeatures(NamedTuple):
    r"""Gaussian policy over m real numbers, its mean linear in F features φ of the observation.

    With a row w_k of F parameters for each component of the action, and standard deviations σ_k, components
    are independent:

    .. math:: a_k \sim N(w_k \cdot \phi(o), \sigma_k^2)

    Made by ``GaussianLinear.for_env(env, features=...)``, with the same choices for log σ: **fixed**,
    **learned** (m parameters), or **state-dependent** (m more rows v_k, with log σ_k = v_k·φ(o)). θ is the
    float64 vector of the rows w_k, one after the other, followed by what log σ has.

    The methods are compiled into the estimators; called from ordinary Python they take and return NumPy
    arrays, and observations (..., d) and actions (..., m) may have batch axes in front. θ may be of any
    length: trajectories are recorded and scored when they are complete (`factor` and `spread`).

    Source: Sutton & Barto, *Reinforcement Learning* (2nd ed. 2018), §13.7 and exercise 13.4.
    """

    features: Any
    log_std: tuple[float, ...]  # m numbers: log σ_k if fixed, and at the start if not
    log_std_features: Any = None  # what log σ is linear in: nothing if fixed, `Constant`, or `features`

    @property
    def n_observations(self) -> int:
        """How many numbers an observation has."""
        return len(self.features.low)

    def in_lanes(self):
        """Return the policy as kernels have it: with features that are folded."""
        features = linear_forms.as_folded(self.features)
        same = type(self.log_std_features) is type(self.features)
        return self._replace(features=features, log_std_features=features if same else self.log_std_features)

    def lane_parameters(self, theta):
        """Return θ as kernels have it: rows of folded features are folded."""
        n = self.features.n_features
        rows = len(self.log_std) if isinstance(self.log_std_features, Constant) else len(theta) // n
        whole = np.asarray(theta[: rows * n]).reshape(rows, n)
        return np.concatenate([linear_forms.fold(whole, self.features).reshape(-1), theta[rows * n :]])

    check_environment = gaussian.check_environment  # type: ignore[misc]

    @property
    def n_log_std_parameters(self) -> int:
        """How many parameters log σ has, the last ones of θ."""
        return 0 if self.log_std_features is None else len(self.log_std) * self.log_std_features.n_features

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return len(self.log_std) * self.features.n_features + self.n_log_std_parameters

    def initial(self) -> np.ndarray:
        """Return θ with mean 0 and the standard deviations of `log_std`: float64, shape (n_parameters,).

        Raises
        ------
        ValueError
            If log σ is to be linear in features none of which is constant, and is not 0.
        """
        theta = np.zeros(self.n_parameters)
        if self.n_log_std_parameters:
            rows = theta[-self.n_log_std_parameters :].reshape(len(self.log_std), -1)
            if any(self.log_std):
                rows[:] = self.log_std_features.constant() * np.array(self.log_std)[:, np.newaxis]
        return theta

    def mean(self, theta, observation):
        """Return the mean of the action, shape (..., m)."""
        return linear_forms.rows_times_features(theta, self.features, observation, 0, self.log_std)

    def log_std_at(self, theta, observation):
        """Return log σ, shape (..., m)."""
        return _log_std(theta, self.features, observation, self.log_std, self.log_std_features)

    sample, mode = gaussian.sample, gaussian.mode  # type: ignore[misc]
    log_prob, entropy = gaussian.log_prob, gaussian.entropy  # type: ignore[misc]

    def entropy_factor(self, theta, observation):
        """Return, of ∇_θ H, 0 for the means, and 1 for each log σ_k unless it is fixed."""
        zeros = vectors.scale(self.log_std_at(theta, observation), 0.0, 0.0)
        return _factor(zeros, vectors.scale(zeros, 0.0, 2.0**0.5), self.log_std_features)

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters); ordinary Python only.

        From log π(a) = Σ_k (−½ z_k² − log σ_k) + const with z_k = (a_k − w_k·φ) / σ_k: the derivative with
        respect to the row w_k is (z_k / σ_k) φ; with respect to log σ_k it is z_k² − 1, and so with respect
        to the row v_k it is (z_k² − 1) φ.
        """
        factor = self.factor(theta, observation, action)
        m, x = len(self.log_std), self.features(observation)
        parts = [factor[..., :m, np.newaxis] * x[..., np.newaxis, :]]
        if self.log_std_features is not None:
            y = self.log_std_features(observation)
            parts.append(factor[..., m:, np.newaxis] * y[..., np.newaxis, :])
        return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)

    def factor(self, theta, observation, action):
        """Return z_k / σ_k for all k, and z_k² − 1 unless log σ is fixed: shape (..., m) or (..., 2m)."""
        mean, log_std = self.mean(theta, observation), self.log_std_at(theta, observation)
        z, inverse = gaussian.standardised(mean, log_std, action)
        return _factor(vectors.multiply(z, inverse), z, self.log_std_features)

    def spread(self, array, observation, factor, weight):
        """Add `weight` times the score to an array of n_parameters, from its `factor`.

        Returns where the section begins that was added to, and how long it is.
        """
        return feature_sums.add_rows(
            array, self.features, observation, factor, weight, self.log_std, self.log_std_features
        )

    def recorded_score(self, array, starts, observations, factors, first, n_steps, observation, factor):
        """Return the score of recorded steps: see `SoftmaxFeatures.recorded_score`."""
        steps = feature_sums.recorded_steps(observations, factors, first, n_steps, observation, factor)
        return feature_sums.recorded_rows(
            array, starts, self.features, steps, self.log_std, self.log_std_features
        )

    def sections_per_step(self):
        """Return in how many places `recorded_score` adds for a step, if the score is sparse."""
        n = feature_sums.n_sections(self.features)
        return (2 * n + 1) * len(self.log_std) if n > 0 else 0


def _log_std(theta, features, observation, log_std, log_std_features):
    m = len(log_std)
    if log_std_features is None:
        return np.broadcast_to(log_std, (*np.shape(observation)[:-1], m))
    if isinstance(log_std_features, Constant):
        return np.broadcast_to(np.asarray(theta)[-m:], (*np.shape(observation)[:-1], m))
    return linear_forms.rows_times_features(theta, features, observation, m, log_std)


def _factor(mean, z, log_std_features):
    return mean if log_std_features is None else np.concatenate([mean, np.square(z) - 1.0], axis=-1)


@compiled_form(_log_std)
def _(theta, features, observation, log_std, log_std_features):
    kind = getattr(log_std_features, "instance_class", None)
    if kind is None:
        return lambda theta, features, observation, log_std, log_std_features: log_std
    if kind is Constant:
        return lambda theta, features, observation, log_std, log_std_features: vectors.section(
            theta, len(theta) - len(log_std), log_std
        )
    return lambda theta, features, observation, log_std, log_std_features: linear_forms.rows_times_features(
        theta, features, observation, len(log_std), log_std
    )


@compiled_form(_factor)
def _(mean, z, log_std_features):
    if getattr(log_std_features, "instance_class", None) is None:
        return lambda mean, z, log_std_features: mean
    return lambda mean, z, log_std_features: vectors.concatenate(
        mean, vectors.scale(vectors.squares(z), 1.0, -1.0)
    )
