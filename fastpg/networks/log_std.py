r"""A network for Gaussian policies: means, and the logarithms of standard deviations beside them.

The outputs are m means μ_k and m numbers log σ_k. The means are a network's outputs. The log σ_k are

- its outputs too, which are then 2m (**state-dependent**);
- or m more parameters behind the network's, the same for all inputs (**learned**): the derivative by log σ_k
  of Σ_b d_b · y_b is Σ_b d_{b,m+k}, and along a direction they change as the parameters do;
- or m numbers that are no parameters (**fixed**).
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg.dispatch import apart
from fastpg.networks.activations import add_columns
from fastpg.networks.mlp import MLP

FIXED, LEARNED, STATE_DEPENDENT = range(3)


class WithLogStd(NamedTuple):
    """A network with m or 2m outputs, and log σ. For the methods see `fastpg.networks`."""

    means: MLP
    log_std: tuple[float, ...]  # m numbers: log σ_k if fixed, and at the start if not
    kind: int  # FIXED, LEARNED or STATE_DEPENDENT

    def with_outputs(self, n: int) -> MLP:
        """Return the network of the means, with another number of outputs."""
        return self.means.with_outputs(n)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.means.dtype

    def in_float64(self) -> "WithLogStd":
        """Return the same network in float64."""
        return self._replace(means=self.means.in_float64())

    @property
    def n_inputs(self) -> int:
        """How many numbers go in."""
        return self.means.n_inputs

    @property
    def n_outputs(self) -> int:
        """2m."""
        return 2 * len(self.log_std)

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return self.means.n_parameters + (len(self.log_std) if self.kind == LEARNED else 0)

    def initial(self, rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
        """Return a θ with the network's `initial` and the standard deviations of `log_std`."""
        theta = self.means.initial(rng, gain)
        if self.kind == LEARNED:
            return np.concatenate([theta, np.array(self.log_std, self.dtype)])
        if self.kind == STATE_DEPENDENT:
            theta[-len(self.log_std) :] = self.log_std  # the last biases
        return theta

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return views into θ: the network's, and "log_std" where it is learned."""
        n = self.means.n_parameters
        views = self.means.parameters(theta[:n])
        return views | {"log_std": theta[n:]} if self.kind == LEARNED else views

    def workspace(self, batch, theta) -> Any:
        """Return memory for batches of up to `batch` rows: the network's, outputs, derivatives by its own."""
        size = 2 * len(self.log_std) * batch
        return (*self.means.workspace(batch, theta), np.empty(size, theta.dtype), np.empty(size, theta.dtype))

    def _split(self, theta):
        """How many of θ's numbers are the network's."""
        return len(theta) - len(self.log_std) if self.kind == LEARNED else len(theta)

    @apart
    def forward(self, theta, x, work):
        """Return μ and log σ, shape (B, 2m), a view into `work`."""
        m, n = len(self.log_std), self._split(theta)
        found = self.means.forward(theta[:n], x, work[:3])
        outputs = work[3][: len(x) * 2 * m].reshape((len(x), 2 * m))
        for i in range(len(x)):
            for k in range(found.shape[1]):
                outputs[i, k] = found[i, k]
            for k in range(m):
                if self.kind == FIXED:
                    outputs[i, m + k] = self.log_std[k]
                elif self.kind == LEARNED:
                    outputs[i, m + k] = theta[n + k]
        return outputs

    def backward(self, theta, x, work, d_outputs, gradient):
        """Overwrite `gradient` with the derivative by θ of Σ_b d_outputs[b] · outputs[b], after `forward`."""
        self.propagate(theta, work, d_outputs)
        self.collect(x, work, d_outputs, 0, len(x), gradient)

    def _own(self, work, d_outputs):
        """Return the derivatives by the network's outputs, in `work`."""
        width = 2 * len(self.log_std) if self.kind == STATE_DEPENDENT else len(self.log_std)
        own = work[4][: len(d_outputs) * width].reshape((len(d_outputs), width))
        for i in range(len(d_outputs)):
            for k in range(width):
                own[i, k] = d_outputs[i, k]
        return own

    @apart
    def propagate(self, theta, work, d_outputs):
        """Leave the derivatives by the hidden layers' z in `work`, after `forward`."""
        self.means.propagate(theta[: self._split(theta)], work[:3], self._own(work, d_outputs))

    @apart
    def collect(self, x, work, d_outputs, first, last, gradient):
        """Overwrite `gradient` with the part of rows first to last - 1, after `propagate`."""
        m, n = len(self.log_std), self._split(gradient)
        width = 2 * m if self.kind == STATE_DEPENDENT else m
        own = work[4][: len(d_outputs) * width].reshape((len(d_outputs), width))
        self.means.collect(x, work[:3], own, first, last, gradient[:n])
        if self.kind == LEARNED:
            add_columns(gradient[n:], d_outputs[:, m:], first, last)

    @apart
    def tangent(self, theta, x, work, direction):
        """Return the derivative of the outputs along a direction of θ, after `forward`: (B, 2m)."""
        m, n = len(self.log_std), self._split(theta)
        found = self.means.tangent(theta[:n], x, work[:3], direction[:n])
        outputs = work[4][: len(x) * 2 * m].reshape((len(x), 2 * m))
        for i in range(len(x)):
            for k in range(found.shape[1]):
                outputs[i, k] = found[i, k]
            for k in range(m):
                if self.kind == FIXED:
                    outputs[i, m + k] = 0.0
                elif self.kind == LEARNED:
                    outputs[i, m + k] = direction[n + k]
        return outputs
