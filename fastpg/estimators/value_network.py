"""A baseline V(s_t, t) that is a multilayer perceptron, fitted on a pilot batch as the others are.

Its inputs are the observation and τ = t / T; least squares on the rewards-to-go of the pilot batch, by Adam
(Kingma & Ba 2015) on minibatches. The pilot batch has trajectories of its own, so whatever the network has
learnt, the estimate stays unbiased; how much of the variance is left depends on how well it fits.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg.networks.mlp import MLP

HIDDEN = (32, 32)
STEPS, BATCH, RATE = 1500, 256, 0.01


class NetworkValue(NamedTuple):
    """The baseline; in the lanes its value counts as 0: see `fastpg.neural_baselines`."""

    network: MLP
    theta: np.ndarray
    longest: int  # trajectory of the batch: beyond, the network has seen nothing
    horizon: float

    def value(self, observation, time):
        """Return 0: V(s_t, t) comes in later."""
        return 0.0

    def values(self, observations, times):
        """Return V of some steps, shape (N,); ordinary Python only."""
        tau = np.minimum(times, self.longest)[:, np.newaxis] / self.horizon
        x = np.hstack([observations, tau]).astype(self.theta.dtype)
        return self.network.forward(self.theta, x, self.network.workspace(len(x), self.theta))[:, 0]


def fit_network(batch: Any, to_go: np.ndarray, horizon: int, dtype: Any, seed: int) -> NetworkValue:
    """Return the baseline, fitted on a pilot batch with these rewards-to-go, shape (N, T).

    Inputs and targets are standardised for the fit, and what that changes is put into the weights.
    """
    alive = batch.alive
    times = np.nonzero(alive)[1]
    longest = int(batch.lengths.max()) - 1
    x = np.hstack([batch.observations[alive], times[:, np.newaxis] / horizon])
    y = to_go[alive]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("baseline='network': observations and rewards must be finite")
    centre, spread = x.mean(axis=0), _spread(x)
    mean, scale = y.mean(), float(_spread(y[:, np.newaxis])[0])
    network = MLP.of((x.shape[1], *HIDDEN, 1), "tanh", np.float64)
    rng = np.random.default_rng(seed)
    theta = network.initial(rng)
    x, y = (x - centre) / spread, (y - mean) / scale
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    gradient, work = np.empty_like(theta), network.workspace(BATCH, theta)
    for step in range(1, STEPS + 1):
        rows = rng.integers(len(x), size=BATCH)
        error = network.forward(theta, x[rows], work)[:, 0] - y[rows]
        network.backward(theta, x[rows], work, error[:, np.newaxis] / BATCH, gradient)
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        rate = RATE * (1.0 - step / (STEPS + 1)) / (1.0 - 0.9**step)
        theta -= rate * first / (np.sqrt(second / (1.0 - 0.999**step)) + 1e-8)
    views = list(network.parameters(theta).values())
    views[0] /= spread
    views[1] -= views[0] @ centre
    views[-2] *= scale
    views[-1] *= scale
    views[-1] += mean
    narrow = network._replace(bits=8 * np.dtype(dtype).itemsize)
    return NetworkValue(narrow, theta.astype(dtype), longest, float(horizon))


def _spread(x):
    """The standard deviations of columns; 1 for those that are constant."""
    deviation = x.std(axis=0)
    return np.where(deviation > 1e-8 * np.abs(x).max(axis=0), deviation, 1.0)
