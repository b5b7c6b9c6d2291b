r"""The multilayer perceptron, and its derivatives.

With h_0 = x, layers k = 1, ..., K and an activation f,

.. math:: z_k = W_k h_{k-1} + b_k, \qquad h_k = f(z_k) \text{ for } k < K, \qquad y = z_K.

**Backpropagation.** Let δ_k be the derivative of a number by z_k. That number depends on the parameters of
layer k through z_k alone, and on h_{k-1} through z_k alone, so by the chain rule

.. math:: \delta_{k-1} = (W_k^T \delta_k) \circ f'(z_{k-1}), \qquad
          \partial / \partial W_k = \delta_k h_{k-1}^T, \qquad \partial / \partial b_k = \delta_k,

beginning with δ_K, which is given. In a batch the x, h and δ are the rows of matrices X, H and Δ, and the
derivatives of the sum over the batch are Δ_kᵀ H_{k-1} and the sum of the rows of Δ_k.

**Tangents.** Along a direction (V_k, c_k) of the parameters, with x fixed, the product rule gives

.. math:: \dot z_k = W_k \dot h_{k-1} + V_k h_{k-1} + c_k, \qquad \dot h_k = f'(z_k) \circ \dot z_k,
          \qquad \dot h_0 = 0.

All of it is products of matrices (Rumelhart, Hinton & Williams 1986; Pearlmutter 1994 for the tangents).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fastpg.arguments import check_dtype, check_integer
from fastpg.dispatch import apart
from fastpg.lane_memory import on_lines
from fastpg.networks.activations import (
    ACTIVATIONS,
    IDENTITY,
    TANH,
    activate,
    add_columns,
    converted,
    through_activation,
)
from fastpg.networks.products import times, times_transposed


def check_hidden(hidden: Any) -> tuple[int, ...]:
    """Return the sizes of hidden layers, or raise TypeError or ValueError."""
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise TypeError(f"hidden={hidden!r}: must be a sequence of sizes, such as (64, 64)")
    return tuple(check_integer("hidden", size, 1) for size in hidden)


class MLP(NamedTuple):
    """A multilayer perceptron with `sizes` numbers in its layers, the inputs first and the outputs last.

    Made by ``MLP.of(sizes, activation, dtype)``. θ is one vector that holds the layers one after the other,
    in each the weights W_k, shape (outputs, inputs), and then the biases: as `torch.nn.Linear` has them, so
    that ``parameters(theta)`` can be copied there and back. For the methods see `fastpg.networks`.
    """

    sizes: tuple[int, ...]
    activation: int = TANH  # a place in `fastpg.networks.activations.ACTIVATIONS`
    bits: int = 32  # of a number

    @classmethod
    def of(cls, sizes, activation="tanh", dtype=np.float32) -> "MLP":
        """Return a network.

        Parameters
        ----------
        sizes : sequence of int
            Of the layers, at least inputs and outputs.
        activation : "tanh", "relu" or "identity"
        dtype : float32 or float64

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed.
        """
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: must be one of {', '.join(map(repr, ACTIVATIONS))}")
        bits = check_dtype(dtype)
        sizes = tuple(check_integer("sizes", size, 1) for size in sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes={sizes!r}: must have at least inputs and outputs")
        return cls(sizes, ACTIVATIONS.index(activation), bits)

    def with_outputs(self, n: int) -> "MLP":
        """Return the same network but for the number of outputs."""
        return self._replace(sizes=(*self.sizes[:-1], n))

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return np.dtype(f"float{self.bits}")

    def in_float64(self) -> "MLP":
        """Return the same network in float64."""
        return self._replace(bits=64)

    @property
    def n_inputs(self) -> int:
        """How many numbers go in."""
        return self.sizes[0]

    @property
    def n_outputs(self) -> int:
        """How many numbers come out."""
        return self.sizes[-1]

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return sum((n + 1) * m for n, m in zip(self.sizes[:-1], self.sizes[1:], strict=True))

    def initial(self, rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
        """Return a θ with random orthogonal weights and biases of 0, shape (n_parameters,), of `dtype`.

        The rows, or the columns if there are fewer, of each weight matrix are orthonormal, times the gain: √2
        for hidden layers, `gain` for the last (Saxe, McClelland & Ganguli 2014). A small gain makes outputs
        near 0; policies use 0.01 (Andrychowicz et al. 2021, "What matters for on-policy deep actor-critic
        methods?", §3.2).
        """
        parts = []
        last = len(self.sizes) - 2
        for k, (n, m) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            basis, triangle = np.linalg.qr(rng.standard_normal((max(n, m), min(n, m))))
            basis *= np.sign(np.diag(triangle))  # otherwise not uniformly distributed
            weight = basis if m >= n else basis.T
            parts += [(gain if k == last else np.sqrt(2.0)) * weight.ravel(), np.zeros(m)]
        return np.concatenate(parts).astype(self.dtype)

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return views into θ: "weight_1", shape (outputs, inputs), "bias_1", and so on for each layer."""
        views, at = {}, 0
        for k, (n, m) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True), 1):
            views[f"weight_{k}"] = theta[at : at + n * m].reshape(m, n)
            views[f"bias_{k}"] = theta[at + n * m : at + n * m + m]
            at += (n + 1) * m
        return views

    def workspace(self, batch, theta) -> Any:
        """Return memory for batches of up to `batch` rows.

        Three arrays: of the outputs of all layers, of derivatives by them, and of two layers more.
        """
        total = widest = 0
        for k in range(1, len(self.sizes)):
            total += self.sizes[k]
            widest = max(widest, self.sizes[k])
        layers, derivatives = on_lines(batch * total, theta), on_lines(batch * total, theta)
        return layers, derivatives, on_lines(2 * batch * widest, theta)

    @apart
    def forward(self, theta, x, work):
        """Return the outputs, shape (B, n_outputs), a view into `work`, which also keeps all other layers."""
        batch = len(x)
        place = at = 0
        below = converted(x, theta)
        for k in range(1, len(self.sizes)):
            n, m = self.sizes[k - 1], self.sizes[k]
            weight = theta[at : at + n * m].reshape((m, n))
            bias = theta[at + n * m : at + n * m + m]
            z = work[0][place : place + batch * m].reshape((batch, m))
            times_transposed(below, weight, z, work[2])
            activate(z, bias, self.activation if k < len(self.sizes) - 1 else IDENTITY)
            below = z
            place += batch * m
            at += (n + 1) * m
        return below

    def backward(self, theta, x, work, d_outputs, gradient):
        """Overwrite `gradient` with the derivative by θ of Σ_b d_outputs[b] · outputs[b], after `forward`."""
        self.propagate(theta, work, d_outputs)
        self.collect(x, work, d_outputs, 0, len(x), gradient)

    @apart
    def propagate(self, theta, work, d_outputs):
        """Leave the derivatives by the hidden layers' z in `work`, after `forward`."""
        layers, derivatives, _ = work
        batch = len(d_outputs)
        at, place = len(theta) - (self.sizes[-2] + 1) * self.sizes[-1], 0
        for k in range(1, len(self.sizes) - 1):
            place += batch * self.sizes[k]
        above = d_outputs
        for k in range(len(self.sizes) - 1, 1, -1):
            n, m = self.sizes[k - 1], self.sizes[k]
            weight = theta[at : at + n * m].reshape((m, n))
            place -= batch * n
            below = derivatives[place : place + batch * n].reshape((batch, n))
            times(above, weight, below)
            h = layers[place : place + batch * n].reshape((batch, n))
            through_activation(below, h, self.activation)
            above = below
            at -= (self.sizes[k - 2] + 1) * n

    @apart
    def collect(self, x, work, d_outputs, first, last, gradient):
        """Overwrite `gradient` with the part of rows first to last - 1, after `propagate`."""
        layers, derivatives, _ = work
        batch = len(x)
        at = place = 0
        below = converted(x, gradient)
        for k in range(1, len(self.sizes)):
            n, m = self.sizes[k - 1], self.sizes[k]
            d = derivatives[place : place + batch * m].reshape((batch, m))
            if k == len(self.sizes) - 1:
                d = d_outputs
            weight = gradient[at : at + n * m].reshape((m, n))
            times(d[first:last].T, below[first:last], weight)
            add_columns(gradient[at + n * m : at + n * m + m], d, first, last)
            below = layers[place : place + batch * m].reshape((batch, m))
            place += batch * m
            at += (n + 1) * m

    @apart
    def tangent(self, theta, x, work, direction):
        """Return the derivative of the outputs along a direction of θ, after `forward`."""
        return self.tangent_from(theta, x, work[2][:0].reshape((0, self.sizes[0])), work, direction)

    def tangent_from(self, theta, x, d_x, work, direction):
        """Return the same where x moves by d_x too; with no rows, it does not."""
        layers, derivatives, more = work
        batch = len(x)
        place = at = 0
        below = converted(x, theta)
        d_below = d_x
        half = len(more) // 2
        for k in range(1, len(self.sizes)):
            n, m = self.sizes[k - 1], self.sizes[k]
            weight = theta[at : at + n * m].reshape((m, n))
            d_weight = direction[at : at + n * m].reshape((m, n))
            start = half * (k % 2)
            d = more[start : start + batch * m].reshape((batch, m))
            np.dot(below, d_weight.T, d)
            activate(d, direction[at + n * m : at + n * m + m], IDENTITY)
            if len(d_below) > 0:
                through = derivatives[: batch * m].reshape((batch, m))
                np.dot(d_below, weight.T, through)
                d += through
            below = layers[place : place + batch * m].reshape((batch, m))
            if k < len(self.sizes) - 1:
                through_activation(d, below, self.activation)
            d_below = d
            place += batch * m
            at += (n + 1) * m
        return d_below
