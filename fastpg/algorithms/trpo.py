r"""Trust-region policy optimisation (Schulman, Levine, Moritz, Jordan & Abbeel 2015).

The step that is best to first order within a Kullback–Leibler divergence δ, to second order, is along the
natural gradient,

.. math:: \theta' = \theta + \sqrt{\frac{2\delta}{g^T x}} \, x, \qquad (F + \lambda I) x = g, \qquad
          g = \frac1R \sum A \, \nabla\log\pi_\theta(a|s)

(without the damping λ, gᵀx is xᵀFx; with it the step is a little shorter than δ allows), and is halved until
L(θ') = mean of ρA has grown and the divergence is within δ. F is the Fisher information of the policy's
distributions in the states that were visited. With the outputs y(θ, s), of which the distribution alone has
the information M(y) (`information`), and the Jacobian J = ∂y/∂θ,

.. math:: F = \frac1R \sum J^T M J, \qquad F v = \frac1R \sum J^T \big( M (J v) \big)

so the product with a vector is, for each state, a `tangent`, a product with a small matrix known in closed
form, and a `backward`; F itself is never formed, and no score is sampled for it.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastpg import vectors
from fastpg.algorithms.checks import check_common, check_count, check_optional
from fastpg.algorithms.minibatches import Statistics, Weights
from fastpg.arguments import check_number, check_positive
from fastpg.blas import single_threaded_blas
from fastpg.dispatch import distinct, kernel, outline
from fastpg.estimators.natural import natural_gradient
from fastpg.neural_lanes import row_at
from fastpg.optimizers import Schedule
from fastpg.parallel import in_parallel, kernel_threads, pack, unpack
from fastpg.segments import workspace_at, workspaces
from fastpg.stepping import action_at

_SHARD = 256  # rows
_HALVINGS = 10
_GRADIENT, _PRODUCT, _EVALUATION = range(3)


class Sweep(NamedTuple):
    """Memory for sweeps over all rows of a batch, a row for each shard."""

    work: Any
    slopes: np.ndarray
    gradients: np.ndarray
    sums: np.ndarray  # (n_shards, 3): of ρA, of the divergence, of the entropy
    outputs: np.ndarray  # (R, k): of the policy that acted


@outline
def _sweep_shard(parcel, shard):
    """Do what is asked for with a shard's rows."""
    (policy, like_action, what), batch, theta, vector, memory = unpack(parcel)
    observations, actions, log_probs, advantages, _, _ = batch
    first = shard * _SHARD
    n = min(_SHARD, len(observations) - first)
    x, work = observations[first : first + n], workspace_at(memory.work, shard)
    like, unseen, width = policy.row(), vectors.nothing(), len(policy.row())
    sums = memory.sums[shard]
    sums[:] = 0.0
    outputs = policy.network.forward(theta, x, work)
    slopes = memory.slopes[shard][: n * width].reshape(n, width)
    scale = 1.0 / len(observations)
    if what == _PRODUCT:
        tangent = policy.network.tangent(theta, x, work, vector)
        for b in range(n):
            along = policy.information(row_at(outputs, b, like), row_at(tangent, b, like))
            vectors.store(slopes, b * width, vectors.scale(along, scale, 0.0))
    else:
        for b in range(n):
            row = row_at(outputs, b, like)
            action = action_at(actions, first + b, like_action)
            advantage = advantages[first + b]
            if what == _GRADIENT:
                factor = policy.factor(row, unseen, action)
                vectors.store(slopes, b * width, vectors.scale(factor, scale * advantage, 0.0))
                vectors.store(memory.outputs, (first + b) * width, row)
            log_ratio = policy.log_prob(row, unseen, action) - log_probs[first + b]
            sums[0] += math.exp(log_ratio) * advantage
            sums[1] += policy.divergence(row_at(memory.outputs, first + b, like), row)
            sums[2] += policy.entropy(row, unseen)
    if what != _EVALUATION:
        policy.network.backward(theta, x, work, slopes, memory.gradients[shard])


@kernel
def sweep(policy, like_action, what, batch, theta, vector, memory):
    """Go over all rows, in parallel: a gradient or product for each shard, or sums."""
    parcel = pack(((policy, like_action, what), batch, theta, vector, memory))
    in_parallel(_sweep_shard, parcel, len(memory.sums))


class TrustRegion:
    """The sweeps of an update: gradient, Fisher-vector products, and the outcome of a step."""

    def __init__(self, policy, like_action, batch, theta, threads=None):
        self.policy, self.like_action, self.batch = policy, like_action, batch
        self.theta, self.threads = theta, threads
        n_rows, n_outputs, dtype = len(batch.observations), policy.network.n_outputs, theta.dtype
        n = -(-n_rows // _SHARD)
        self.memory = Sweep(
            workspaces(policy.network, n, _SHARD, theta),
            np.zeros((n, _SHARD * n_outputs), dtype),
            np.zeros((n, len(theta)), dtype),
            np.zeros((n, 3)),
            np.zeros((n_rows, n_outputs), dtype),
        )

    def _sweep(self, what, theta, vector):
        with kernel_threads(self.threads), single_threaded_blas():
            sweep(
                *(distinct(self.policy), self.like_action, what, self.batch, theta),
                *(np.ascontiguousarray(vector, self.theta.dtype), self.memory),
            )

    def gradient(self) -> np.ndarray:
        """Return g, the derivative of L at θ, float64."""
        self._sweep(_GRADIENT, self.theta, self.theta)
        return self.memory.gradients.sum(axis=0, dtype=np.float64)

    def product(self, vector: np.ndarray) -> np.ndarray:
        """Return F v, float64."""
        self._sweep(_PRODUCT, self.theta, vector)
        return self.memory.gradients.sum(axis=0, dtype=np.float64)

    def outcome(self, theta: np.ndarray) -> tuple[float, float, float]:
        """Return L of another θ, the divergence of its policy from this one's, and its mean entropy."""
        self._sweep(_EVALUATION, theta, theta)
        surrogate, divergence, entropy = self.memory.sums.sum(axis=0) / len(self.batch.observations)
        return float(surrogate), float(divergence), float(entropy)


class TRPO(NamedTuple):
    r"""Trust-region policy optimisation.

    Each update records a segment, takes one step of the natural gradient as long as the mean
    Kullback–Leibler divergence `max_kl` allows, halved until L has grown and the divergence is within it
    (no step if ten halvings do not suffice), and fits the critic by minibatches.

    Source: Schulman et al. 2015 (arXiv:1502.05477), §6 and appendix C, with generalised advantage estimation.

    Attributes
    ----------
    n_envs, n_steps, discount, trace_decay, normalize_advantages, reward_scale
        As for `fastpg.PPO`.
    max_kl : float
        δ.
    damping : float
        λ in (F + λ I) x = g.
    iterations : int
        Of conjugate gradients, at most.
    learning_rate, epochs, minibatch, max_norm
        Of the critic's fit, as for `fastpg.PPO`.
    """

    n_envs: int = 64
    n_steps: int = 128
    max_kl: float = 0.01
    damping: float = 0.1
    iterations: int = 15
    learning_rate: Schedule = 1e-3
    epochs: int = 10
    minibatch: int = 512
    discount: float = 0.99
    trace_decay: float = 0.95
    max_norm: float | None = None
    normalize_advantages: bool = True
    reward_scale: float = 1.0

    def check(self) -> None:
        """Raise TypeError or ValueError if a setting is not allowed."""
        check_common(self)
        for name in ("epochs", "minibatch", "iterations"):
            check_count(self, name)
        check_positive("max_kl", self.max_kl)
        if check_number("damping", self.damping) < 0.0:
            raise ValueError(f"damping={self.damping!r}: must be at least 0")
        check_optional(self, "max_norm")

    def improve(self, learner: Any, update: int, rate: float) -> Statistics:
        """Improve policy and critic on the segment that was recorded, and return the statistics."""
        theta = learner.theta.copy()
        region = TrustRegion(learner.policy, learner.like_action, learner.batch, theta, learner.threads)
        gradient = region.gradient()
        before = region.outcome(theta)
        kl, entropy = 0.0, before[2]
        x = natural_gradient(gradient, region.product, self.damping, self.iterations)
        slope = gradient @ x
        if slope > 0.0:
            step = math.sqrt(2.0 * self.max_kl / slope) * x
            for halving in range(_HALVINGS):
                there = (theta + 0.5**halving * step).astype(theta.dtype)
                surrogate, kl, entropy = region.outcome(there)
                if surrogate > before[0] and kl <= self.max_kl:
                    learner.theta[:] = there
                    break
            else:
                kl, entropy = 0.0, before[2]
        norm = math.inf if self.max_norm is None else float(self.max_norm)
        weights = Weights(0.0, 1.0, math.inf, norm)
        for epoch in range(self.epochs):
            statistics = learner.ascend(None, weights, self.minibatch, rate, update * self.epochs + epoch)
        return statistics._replace(
            kl=kl, entropy=entropy, clipped=0.0, gradient_norm=float(np.linalg.norm(gradient))
        )
