"""What policies share whose actions are drawn from a distribution that a network parametrises.

In the lanes the network's outputs are computed for all lanes at once: a policy's methods are then given, in
the place of θ, the row of outputs at the lane's observation (`fastpg.neural_lanes`). What depends on the
distribution alone (`sample`, `log_prob`, `factor`, ...) is written in terms of `outputs`, for both cases.
"""

from typing import Any

import numpy as np
from numba import types

from fastpg.dispatch import compiled_form
from fastpg.neural_lanes import Rows
from fastpg.neural_scores import gather, gathered_score, score_memory


def outputs_at(network, theta, observation):
    """Return a network's outputs, shape (..., n_outputs), float64; of a row of outputs itself."""
    if isinstance(theta, Rows):
        return np.asarray(theta.row)
    if isinstance(theta, tuple):
        return np.asarray(theta)
    rows, batch = as_rows(network, observation)
    theta = np.asarray(theta, network.dtype)
    outputs = network.forward(theta, rows, network.workspace(len(rows), theta))
    return outputs.astype(np.float64).reshape(*batch, network.n_outputs)


@compiled_form(outputs_at)
def _(network, theta, observation):
    if isinstance(theta, types.UniTuple):
        return lambda network, theta, observation: theta
    return lambda network, theta, observation: theta.row


def as_rows(network, observation):
    """Return observations (vectors or images) as rows of a network's inputs, and their batch axes."""
    observation = np.asarray(observation, network.dtype)
    batch = observation.shape[: observation.ndim - len(getattr(network, "input_shape", "1"))]
    return np.ascontiguousarray(observation.reshape(-1, network.n_inputs)), batch


class Neural:
    """The methods of these policies; they have a field `network`."""

    __slots__ = ()
    network: Any

    @property
    def n_observations(self) -> int:
        """How many numbers an observation has."""
        return self.network.n_inputs

    @property
    def n_parameters(self) -> int:
        """The length of θ."""
        return self.network.n_parameters

    def initial(self, seed: int = 0) -> np.ndarray:
        """Return a random θ, shape (n_parameters,), of the network's dtype: all actions nearly alike.

        The network's `initial` with a gain of 0.01 in the last layer.
        """
        return self.network.initial(np.random.default_rng(seed), 0.01)

    def parameters(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return named views into θ: see the network's `parameters`."""
        return self.network.parameters(theta)

    def in_float64(self) -> Any:
        """Return the same policy with a network in float64."""
        return self._replace(network=self.network.in_float64())  # type: ignore[attr-defined]

    def outputs(self, theta, observation):
        """Return what the network puts out, shape (..., n_outputs)."""
        return outputs_at(self.network, theta, observation)

    def workspace(self, batch, theta):
        """Return the network's memory for batches of up to that many rows."""
        return self.network.workspace(batch, theta)

    def forward(self, theta, x, work):
        """Return the network's outputs of a batch, shape (B, n_outputs), in `work`."""
        return self.network.forward(theta, x, work)

    def score_memory(self, theta, accumulator, observation, horizon):
        """Return the memory that `gather` needs."""
        return score_memory(self, theta, accumulator, observation, horizon)

    def gather(self, theta, accumulator, memory, n_lanes, like, record, horizon, observation):
        """Make the scores of trajectories that have finished: see `fastpg.neural_scores`."""
        gather(self, theta, accumulator, memory, n_lanes, like, record, horizon, observation)

    def gathered_score(self, theta, accumulator, trajectory, record, lane, horizon, observation):
        """Return the score of a finished trajectory: see `fastpg.neural_scores`."""
        return gathered_score(self, theta, accumulator, trajectory, record, lane, horizon, observation)

    def score(self, theta, observation, action):
        r"""Return ∇_θ log π_θ(action | observation), shape (..., n_parameters); ordinary Python only.

        With the outputs y(θ, o), the chain rule gives Σ_j (∂ log π / ∂ y_j) ∇_θ y_j: `factor` is the first,
        and backpropagation multiplies by the second.
        """
        factor = self.factor(theta, observation, action)
        return self.pulled_back(theta, observation, factor)

    def pulled_back(self, theta, observation, factor):
        """Return Σ_j factor_j ∇_θ y_j for each observation, shape (..., n_parameters), float64."""
        network = self.network
        rows, batch = as_rows(network, observation)
        theta = np.asarray(theta, network.dtype)
        factors = np.broadcast_to(factor, (*batch, network.n_outputs)).reshape(len(rows), -1)
        factors, result = factors.astype(network.dtype), np.empty((len(rows), len(theta)), network.dtype)
        work = network.workspace(1, theta)
        for i in range(len(rows)):
            network.forward(theta, rows[i : i + 1], work)
            network.backward(theta, rows[i : i + 1], work, factors[i : i + 1], result[i])
        return result.astype(np.float64).reshape(*batch, -1)
