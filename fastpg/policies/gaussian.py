"""What Gaussian policies do with the mean and log σ of an action, whatever gave them; vectors of m.

`sample`, `mode`, `log_prob`, `entropy` and `check_environment` are the methods that they have in common:
those of a class with `mean` and `log_std_at`, and `log_std` for its length.
"""

import math

from fastpg import vectors
from fastpg.dispatch import compiled_as
from fastpg.policies.spaces import check_observations, check_real_actions

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def draw(mean, log_std, rng):
    """Return a draw, with normal draws 0, 1, ... of `rng`."""
    return vectors.add(mean, vectors.multiply(vectors.exp(log_std), vectors.normals(rng, mean)))


def standardised(mean, log_std, action):
    """Return z_k = (a_k − mean_k) / σ_k, and 1 / σ_k."""
    inverse = vectors.exp(vectors.scale(log_std, -1.0, 0.0))
    return vectors.multiply(vectors.subtract(action, mean), inverse), inverse


def log_density(mean, log_std, action):
    """Return Σ_k (−½ z_k² − log σ_k − ½ log 2π), shape (...)."""
    z, _ = standardised(mean, log_std, action)
    return -vectors.total(vectors.add(vectors.scale(vectors.squares(z), 0.5, _LOG_SQRT_2PI), log_std))


def differential_entropy(log_std):
    """Return Σ_k (log σ_k + ½ log 2πe), shape (...)."""
    return vectors.total(vectors.scale(log_std, 1.0, _LOG_SQRT_2PI + 0.5))


for _function in (draw, standardised, log_density, differential_entropy):
    compiled_as(_function)(_function)  # one text for both


def sample(self, theta, observation, rng):
    """Return an action: its mean plus σ times normal draws 0, 1, ... of `rng`.

    `rng` is a `fastpg.random.Rng`, or in ordinary Python a `numpy.random.Generator`.
    """
    return draw(self.mean(theta, observation), self.log_std_at(theta, observation), rng)


def mode(self, theta, observation):
    """Return the most probable action, the mean."""
    return self.mean(theta, observation)


def log_prob(self, theta, observation, action):
    """Return the logarithm of the density at `action`, shape (...)."""
    return log_density(self.mean(theta, observation), self.log_std_at(theta, observation), action)


def entropy(self, theta, observation):
    """Return H = Σ_k (log σ_k + ½ log 2πe), shape (...)."""
    return differential_entropy(self.log_std_at(theta, observation))


def check_environment(self, env) -> None:
    """Raise ValueError unless observations and actions of `env` are those of this policy."""
    check_real_actions(self, env, len(self.log_std))
    check_observations(self, env)
