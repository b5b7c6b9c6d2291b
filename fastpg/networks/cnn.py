r"""A convolution in front of a multilayer perceptron, for images, and its derivatives.

An image x has shape (H, W, C). With a kernel W of side s, shape (s, s, C, F), and stride 1,

.. math:: z_{ijf} = b_f + \sum_{u,v,c} W_{uvcf}\, x_{i+u,\,j+v,\,c}, \qquad
          i < H' = H - s + 1, \quad j < W' = W - s + 1, \qquad h = \max(z, 0),

and h is what the perceptron of `fastpg.networks.mlp` is given. As a product of matrices: if the patch of
pixel (i, j), the numbers x_{i+u, j+v, c}, is a row of P, then Z = P W + 1bᵀ.

**Backpropagation.** Let δ_1 be the derivative by the perceptron's first z. By the chain rule the derivative
by h is W_1ᵀ δ_1, that by z is that where h > 0, and with these as the rows of Δ

.. math:: \partial / \partial W = P^T \Delta, \qquad \partial / \partial b_f = \sum_{ij} \Delta_{ijf}.

**Tangents.** Along a direction (V, c), :math:`\dot Z = P V + 1 c^T`, and :math:`\dot h` is that where h > 0.

How both products are computed: `fastpg.networks.convolution`.
"""

from typing import Any, NamedTuple

import numpy as np

from fastpg.arguments import check_integer
from fastpg.networks.activations import IDENTITY, RELU, activate, add_columns, through_activation
from fastpg.networks.convolution import add_products, correlate
from fastpg.networks.mlp import MLP, check_hidden


class CNN(NamedTuple):
    """A convolution and relu, and a perceptron (`MLP`) of what they make of an image.

    Made by ``CNN.of(input_shape, n_outputs, filters, side, hidden, dtype)``. θ is one vector: the kernel,
    shape (side, side, C, filters), the biases, and the perceptron's parameters, whose inputs are the numbers
    h in the order of (row, column, filter). ``parameters(theta)`` has views with torch's axes. For the
    methods see `fastpg.networks`; `forward` takes images one after the other, shape (B, H·W·C).
    """

    input_shape: tuple[int, int, int]  # (H, W, C)
    filters: int
    side: int
    dense: MLP

    @classmethod
    def of(cls, input_shape, n_outputs, filters=16, side=3, hidden=(128,), dtype=np.float32) -> "CNN":
        """Return a network.

        Parameters
        ----------
        input_shape : (int, int, int)
            Rows, columns and channels of an image.
        n_outputs : int
        filters, side : int
            Of the convolution. The defaults, with those of `hidden`, are the network of Young & Tian (2019).
        hidden : sequence of int
            Sizes of the hidden layers behind the convolution, with relu.
        dtype : float32 or float64

        Raises
        ------
        TypeError, ValueError
            If an argument is not allowed.
        """
        if len(input_shape) != 3:
            raise ValueError(f"input_shape={input_shape!r}: must be (rows, columns, channels)")
        rows, columns, channels = (check_integer("input_shape", n, 1) for n in input_shape)
        filters = check_integer("filters", filters, 1)
        side = check_integer("side", side, 1, min(rows, columns))
        n = (rows - side + 1) * (columns - side + 1) * filters
        return cls(
            (rows, columns, channels),
            filters,
            side,
            MLP.of((n, *check_hidden(hidden), n_outputs), "relu", dtype),
        )

    def with_outputs(self, n: int) -> "CNN":
        """Return the same network but for the number of outputs."""
        return self._replace(dense=self.dense.with_outputs(n))

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64."""
        return self.dense.dtype

    def in_float64(self) -> "CNN":
        """Return the same network in float64."""
        return self._replace(dense=self.dense.in_float64())

    @property
    def n_inputs(self) -> int:
        """How many numbers an image has."""
        return int(np.prod(self.input_shape))

    @property
    def n_outputs(self) -> int:
        """How many numbers come out."""
        return self.dense.n_outputs

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return self.split() + self.dense.n_parameters

    def patch(self):
        """Return how many numbers a pixel is made from, side² · C."""
        return self.side * self.side * self.input_shape[2]

    def split(self):
        """Return how many of θ's numbers are the convolution's."""
        return (self.patch() + 1) * self.filters

    def initial(self, rng: np.random.Generator, gain: float = 1.0) -> np.ndarray:
        """Return a θ with random orthogonal weights and biases of 0, shape (n_parameters,), of `dtype`.

        See `MLP.initial`, which is that of a layer from patches to filters too.
        """
        kernel = MLP.of((self.patch(), self.filters), "relu", np.float64).initial(rng, np.sqrt(2.0))
        weight = kernel[: self.patch() * self.filters].reshape(self.filters, -1).T
        convolution = np.concatenate([weight.ravel(), np.zeros(self.filters)])
        return np.concatenate([convolution.astype(self.dtype), self.dense.initial(rng, gain)])

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return views into θ that have torch's axes.

        "kernel", shape (filters, C, side, side), as `torch.nn.Conv2d` has it, and "kernel_bias"; then the
        perceptron's, of which "weight_1" has shape (outputs, filters, H', W'): reshaped to (outputs, -1) it
        is that of a `torch.nn.Linear` behind `torch.nn.Flatten`.
        """
        rows, columns, channels = self.input_shape
        n = self.patch() * self.filters
        kernel = theta[:n].reshape(self.side, self.side, channels, self.filters)
        views = self.dense.parameters(theta[self.split() :])
        maps = rows - self.side + 1, columns - self.side + 1, self.filters
        first = views.pop("weight_1")
        return {
            "kernel": kernel.transpose(3, 2, 0, 1),
            "kernel_bias": theta[n : self.split()],
            "weight_1": first.reshape(len(first), *maps).transpose(0, 3, 1, 2),
            **views,
        }

    def workspace(self, batch, theta) -> Any:
        """Return memory for batches of up to `batch` images, whose arrays are as long as the batch is.

        Six: h, the derivatives by z, a kernel, and the perceptron's three.
        """
        n = self.dense.sizes[0]
        maps, d_maps = np.empty(batch * n, theta.dtype), np.empty(batch * n, theta.dtype)
        kernel = np.empty(batch * self.patch() * self.filters, theta.dtype)
        layers, derivatives, more = self.dense.workspace(batch, theta)
        return maps, d_maps, kernel, layers, derivatives, more

    def forward(self, theta, x, work):
        """Return the outputs, shape (B, n_outputs), a view into `work`, which also keeps all other layers."""
        maps = work[0][: len(x) * self.dense.sizes[0]].reshape((len(x), self.dense.sizes[0]))
        self.convolve(theta, x, work[2], maps, RELU)
        return self.dense.forward(theta[self.split() :], maps, work[3:])

    def backward(self, theta, x, work, d_outputs, gradient):
        """Overwrite `gradient` with the derivative by θ of Σ_b d_outputs[b] · outputs[b], after `forward`."""
        self.propagate(theta, work, d_outputs)
        self.collect(x, work, d_outputs, 0, len(x), gradient)

    def propagate(self, theta, work, d_outputs):
        """Leave the derivatives by the z of hidden layers and convolution in `work`, after `forward`."""
        batch, n, m = len(d_outputs), self.dense.sizes[0], self.dense.sizes[1]
        self.dense.propagate(theta[self.split() :], work[3:], d_outputs)
        first = d_outputs
        if len(self.dense.sizes) > 2:
            first = work[4][: batch * m].reshape((batch, m))
        weight = theta[self.split() : self.split() + n * m].reshape((m, n))
        d_maps = work[1][: batch * n].reshape((batch, n))
        np.dot(first, weight, d_maps)
        through_activation(d_maps, work[0][: batch * n].reshape((batch, n)), RELU)

    def collect(self, x, work, d_outputs, first, last, gradient):
        """Overwrite `gradient` with the part of images first to last - 1, after `propagate`."""
        n = self.dense.sizes[0]
        maps = work[0][: len(x) * n].reshape((len(x), n))
        self.collect_kernel(x, work[2], work[1][: len(x) * n].reshape((len(x), n)), first, last, gradient)
        self.dense.collect(maps, work[3:], d_outputs, first, last, gradient[self.split() :])

    def convolve(self, theta, x, kernel, z, activation):
        """Write ``f(P W + b)``, shape (B, H'·W'·filters), into z; W and b are the first numbers of θ."""
        n = self.patch() * self.filters
        pixels = z.reshape((z.size // self.filters, self.filters))
        add_products(x, theta[:n], self.side, self.input_shape, kernel, z)
        activate(pixels, theta[n : self.split()], activation)

    def collect_kernel(self, x, kernel, d, first, last, gradient):
        """Write Pᵀ Δ and the sum of the rows of Δ, of some images, into the first numbers of a gradient."""
        n, n_pixels = self.patch() * self.filters, d.shape[1] // self.filters
        correlate(x[first:last], d[first:last], self.side, self.input_shape, kernel, gradient[:n])
        pixels = d.reshape((len(d) * n_pixels, self.filters))
        add_columns(gradient[n : self.split()], pixels, first * n_pixels, last * n_pixels)

    def tangent(self, theta, x, work, direction):
        """Return the derivative of the outputs along a direction of θ, after `forward`."""
        n = self.dense.sizes[0]
        maps = work[0][: len(x) * n].reshape((len(x), n))
        d_maps = work[1][: len(x) * n].reshape((len(x), n))
        self.convolve(direction, x, work[2], d_maps, IDENTITY)
        through_activation(d_maps, maps, RELU)
        split = self.split()
        return self.dense.tangent_from(theta[split:], maps, d_maps, work[3:], direction[split:])
