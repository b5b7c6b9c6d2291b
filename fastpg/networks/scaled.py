r"""A network that sees its inputs shifted and scaled, by numbers that are no parameters.

With a shift μ_i and a factor c_i for each input, y(θ, x) is the network's y(θ, x') at

.. math:: x'_i = c_i (x_i - \mu_i)

so that a first layer whose weights are all drawn alike, and a step size that is the same for all of them, fit
inputs of different magnitude (LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", §4.3). Derivatives by θ
are the network's at x'.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.dispatch import apart, compiled_form, outline
from fastpg.features import UNBOUNDED


class Scaled(NamedTuple):
    """A network behind c (x - μ). For the methods see `fastpg.networks`."""

    of: Any
    shift: tuple[float, ...]
    factor: tuple[float, ...]

    def with_outputs(self, n: int) -> "Scaled":
        """Return the same network but for the number of outputs."""
        return self._replace(of=self.of.with_outputs(n))

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.of.dtype

    def in_float64(self) -> "Scaled":
        """Return the same network in float64."""
        return self._replace(of=self.of.in_float64())

    @property
    def n_inputs(self) -> int:
        """How many numbers go in."""
        return self.of.n_inputs

    @property
    def n_outputs(self) -> int:
        """How many numbers come out."""
        return self.of.n_outputs

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return self.of.n_parameters

    def initial(self, rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
        """Return the network's `initial`."""
        return self.of.initial(rng, gain)

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return named views into θ, the network's."""
        return self.of.parameters(theta)

    def workspace(self, batch, theta) -> Any:
        """Return memory for batches of up to `batch` rows: x', and the network's."""
        return np.empty(batch * len(self.shift), theta.dtype), *self.of.workspace(batch, theta)

    def _seen(self, work, n_rows):
        """x', in `work`."""
        return work[0][: n_rows * len(self.shift)].reshape((n_rows, len(self.shift)))

    @apart
    def forward(self, theta, x, work):
        """Return the outputs, shape (B, n_outputs), a view into `work`."""
        seen = self._seen(work, len(x))
        shift_and_scale(x, self.shift, self.factor, seen)
        return self.of.forward(theta, seen, work[1:])

    def backward(self, theta, x, work, d_outputs, gradient):
        """Overwrite `gradient` with the derivative by θ of Σ_b d_outputs[b] · outputs[b], after `forward`."""
        self.of.backward(theta, self._seen(work, len(x)), work[1:], d_outputs, gradient)

    def propagate(self, theta, work, d_outputs):
        """Leave the derivatives by the hidden layers' z in `work`, after `forward`."""
        self.of.propagate(theta, work[1:], d_outputs)

    def collect(self, x, work, d_outputs, first, last, gradient):
        """Overwrite `gradient` with the part of rows first to last - 1, after `propagate`."""
        self.of.collect(self._seen(work, len(x)), work[1:], d_outputs, first, last, gradient)

    def tangent(self, theta, x, work, direction):
        """Return the derivative of the outputs along a direction of θ, after `forward`."""
        return self.of.tangent(theta, self._seen(work, len(x)), work[1:], direction)


def shift_and_scale(x, shift, factor, out):
    """Write c (x - μ), shape (B, n), into `out`."""
    out[...] = (x - np.array(shift)) * np.array(factor)


@outline
def _shift_and_scale(x, shift, factor, out):
    inputs, outputs = x.reshape(x.size), out.reshape(out.size)
    for start in range(0, len(inputs), len(shift)):
        centred = vectors.subtract(vectors.load(inputs, start, shift), shift)
        vectors.store(outputs, start, vectors.multiply(centred, factor))


@compiled_form(shift_and_scale)
def _(x, shift, factor, out):
    return lambda x, shift, factor, out: _shift_and_scale(x, shift, factor, out)


def scaled(network: Any, env: Any, scaling: Any) -> Any:
    """Return a network behind the scaling that is asked for.

    Parameters
    ----------
    network : NamedTuple
    env : NamedTuple
    scaling : None, "bounds" or array_like, shape (..., n)
        None: the network itself. "bounds": where both bounds of the observation space are finite, from them
        to [-1, 1]; other inputs stay as they are. Observations: to their mean 0 and standard deviation 1, but
        for those that never change.

    Raises
    ------
    TypeError, ValueError
        If `scaling` is none of these.
    """
    if scaling is None:
        return network
    n = network.n_inputs
    if isinstance(scaling, str):
        if scaling != "bounds":
            raise ValueError(f'scaling={scaling!r}: must be None, "bounds" or an array of observations')
        low, high = (
            np.asarray(b, np.float64) for b in (env.observation_space.low, env.observation_space.high)
        )
        bounded = (np.maximum(abs(low), abs(high)) < UNBOUNDED) & (low < high)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        shift, spread = 0.5 * (low + high), 0.5 * (high - low)
    else:
        try:
            seen = np.asarray(scaling, np.float64)
        except (TypeError, ValueError):
            kind = type(scaling).__name__
            raise TypeError(
                f'scaling: is a {kind}; must be None, "bounds" or an array of observations'
            ) from None
        if seen.ndim == 0 or seen.shape[-1] != n or seen.size < 2 * n or not np.isfinite(seen).all():
            raise ValueError(
                f"scaling: must be two or more finite observations, shape (..., {n}), not {seen.shape}"
            )
        seen = seen.reshape(-1, n)
        shift, deviation = seen.mean(axis=0), seen.std(axis=0)
        spread = np.where(deviation > 1e-8 * np.abs(seen).max(axis=0), deviation, 1.0)
    return Scaled(network, tuple(shift.tolist()), tuple((1.0 / spread).tolist()))
