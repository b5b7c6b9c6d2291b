"""What Gaussian policies do with the mean and log σ of an action, whatever gave them; vectors of m."""

import math

from fastpg import vectors
from fastpg.dispatch import compiled_as

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


def entropy(log_std):
    """Return Σ_k (log σ_k + ½ log 2πe), shape (...)."""
    return vectors.total(vectors.scale(log_std, 1.0, _LOG_SQRT_2PI + 0.5))


for _function in (draw, standardised, log_density, entropy):
    compiled_as(_function)(_function)  # one text for both
