r"""An epoch of minibatch gradient ascent on a recorded batch: policy and critic together, in compiled code.

For each minibatch of M rows (s, a, log π_old(a|s), advantage A, target G of the value), a step of Adam up

.. math:: \frac1M \sum \Big[ L\big(\log\pi_\theta(a|s) - \log\pi_{\mathrm{old}}(a|s), A\big)
          + c_H H(\pi_\theta(\cdot|s)) - \tfrac12 c_V (V(s) - G)^2 \Big]

L is the algorithm's: what makes A2C and PPO differ (`a2c.py`, `ppo.py`). Outputs o(s) of a network are all
that the loss sees of its parameters, so its gradient is `backward` of its derivatives by the outputs,

.. math:: \frac{1}{M} \Big[ L' \, \frac{\partial \log\pi}{\partial o}
          + c_H \frac{\partial H}{\partial o} \Big], \qquad \frac{c_V}{M} (G - V),

which the policy has in closed form (`factor`, `entropy_factor`). A minibatch is cut into shards, by its size
alone; threads work on shards, each with a gradient of its own, and these are added up in order: the result is
bitwise the same for any number of threads.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types

from fastpg import vectors
from fastpg.dispatch import compiled_form, inline, inner, kernel, outline
from fastpg.lane_loop import for_each_lane, widest_vectors
from fastpg.lane_memory import allocate, lane_count, put, take
from fastpg.neural_lanes import row_at
from fastpg.parallel import in_parallel, pack, unpack
from fastpg.random import seed_key, trajectory_rng, uniform
from fastpg.segments import workspace_at, workspaces
from fastpg.simd import exp
from fastpg.stepping import action_at

_SHARDS = 4  # for as many threads, if each has rows enough
_SMALL, _LARGE = 64, 192  # rows of a shard: products are fast (see `fastpg.neural_scores.ROWS`)


class Batch(NamedTuple):
    """What is learnt from: R rows."""

    observations: np.ndarray  # (R, n), of the networks' type or, if they are images, of their own
    actions: np.ndarray  # (R,) or (R · m,)
    log_probs: np.ndarray  # of the policy that acted
    advantages: np.ndarray
    values: np.ndarray  # of the critic then
    targets: np.ndarray


class Weights(NamedTuple):
    """What the objective and its gradient are weighed with."""

    entropy: float  # c_H
    value: float  # c_V
    value_clip: float  # how far V may move from what it was; infinite if it is not clipped
    max_norm: float  # of the gradient; infinite if it is not clipped


class Ascent(NamedTuple):
    """The parameters of policy and critic, one after the other, and Adam's state; updated in place."""

    parameters: np.ndarray
    first_moment: np.ndarray
    second_moment: np.ndarray
    n_steps: np.ndarray  # (1,): steps taken


class Memory(NamedTuple):
    """Where the shards of a minibatch work, a row each."""

    inputs: np.ndarray
    slopes: np.ndarray  # of the objective with respect to the policy's outputs
    value_slopes: np.ndarray
    policy_work: Any
    critic_work: Any
    gradients: np.ndarray
    sums: np.ndarray  # see `Statistics`


class Statistics(NamedTuple):
    """Means over an epoch's rows, each row under the parameters that its minibatch began with."""

    kl: float  # of the policy that acted to the present one: mean of (ρ - 1) - log ρ (Schulman 2020)
    entropy: float
    clipped: float  # fraction of rows that have no gradient
    value_error: float  # mean of (V - G)²
    gradient_norm: float  # mean over minibatches, before clipping


N_SUMS = 5


def shard_size(minibatch: int) -> int:
    """Return how many rows of a minibatch make a shard, a function of its size alone."""
    n_shards = max(1, min(minibatch // _SMALL, max(_SHARDS, -(-minibatch // _LARGE))))
    return -(-minibatch // n_shards)


def memory_for(policy: Any, critic: Any, observations: np.ndarray, minibatch: int, dtype: Any) -> Memory:
    """Return memory for minibatches of at most so many of the rows, shape (R, n), that are learnt from."""
    size = shard_size(minibatch)
    n = -(-minibatch // size)
    return Memory(
        np.zeros((n, size * observations.shape[1]), observations.dtype),
        np.zeros((n, size * len(policy.row())), dtype),
        np.zeros((n, size), dtype),
        workspaces(policy, n, size, np.empty(0, dtype)),
        workspaces(critic, n, size, np.empty(0, dtype)),
        np.zeros((n, policy.n_parameters + critic.n_parameters), dtype),
        np.zeros((n, N_SUMS)),
    )


@inline
def _gather(observations, order, start, n, inputs):
    """Copy rows of the batch into a matrix."""
    width = observations.shape[1]
    for b in range(n):
        row = order[start + b]
        for f in range(width):
            inputs[b, f] = observations[row, f]


class Row(NamedTuple):
    """What a lane holds: a row of a minibatch, and what becomes of it."""

    outputs: Any  # of the policy
    action: Any
    log_prob: float  # under the policy that acted
    advantage: float
    slopes: Any  # the derivatives of the objective by the outputs
    kl: float
    entropy: float
    clipped: float


@inner
def _slopes_in_lane(lane, policy, surrogate, entropy_weight, scale, memory, like):
    row = take(memory, lane, like)
    outputs, action = row.outputs, row.action
    unseen = vectors.nothing()  # the observation, which the outputs stand for
    log_ratio = policy.log_prob(outputs, unseen, action) - row.log_prob
    slope, clipped = surrogate.slope(log_ratio, row.advantage)
    factor = vectors.scale(policy.factor(outputs, unseen, action), slope * scale, 0.0)
    entropy_factor = vectors.scale(policy.entropy_factor(outputs, unseen), entropy_weight * scale, 0.0)
    slopes = vectors.add(factor, entropy_factor)
    kl, entropy = exp(log_ratio) - 1.0 - log_ratio, policy.entropy(outputs, unseen)
    after = Row(outputs, action, row.log_prob, row.advantage, slopes, kl, entropy, 1.0 if clipped else 0.0)
    put(memory, lane, after, like)


@outline
def slopes_in_lanes(policy, surrogate, entropy_weight, scale, memory, n_lanes, like):
    """Differentiate the objective in the first `n_lanes` lanes."""
    widest_vectors()
    for_each_lane(_slopes_in_lane, n_lanes, (policy, surrogate, entropy_weight, scale, memory, like))


@inline
def _policy_slopes(
    policy, like_action, surrogate, weights, batch, order, start, n, scale, outputs, slopes, sums
):
    """Write the derivatives of the objective by the policy's outputs, as many rows at a time as lanes."""
    _, actions, log_probs, advantages, _, _ = batch
    like_outputs = policy.row()
    width = len(like_outputs)
    like = Row(like_outputs, like_action, 0.0, 0.0, like_outputs, 0.0, 0.0, 0.0)
    memory = allocate(like)
    lanes = lane_count(like)
    for first in range(0, n, lanes):
        n_lanes = min(lanes, n - first)
        for lane in range(n_lanes):
            k = order[start + first + lane]
            given = row_at(outputs, first + lane, like_outputs)
            action, log_prob, advantage = action_at(actions, k, like_action), log_probs[k], advantages[k]
            row = Row(given, action, log_prob * 1.0, advantage * 1.0, like_outputs, 0.0, 0.0, 0.0)
            put(memory, lane, row, like)
        slopes_in_lanes(policy, surrogate, weights.entropy, scale, memory, n_lanes, like)
        for lane in range(n_lanes):
            row = take(memory, lane, like)
            vectors.store(slopes, (first + lane) * width, row.slopes)
            sums[0] += row.kl
            sums[1] += row.entropy
            sums[2] += row.clipped


@inline
def _value_slopes(weights, batch, order, start, n, scale, outputs, slopes, sums):
    """Write the derivatives of -½ c_V (V - G)², or of the larger of it and that of the clipped value."""
    _, _, _, _, values, targets = batch
    for b in range(n):
        row = order[start + b]
        value, before, target = outputs[b, 0], values[row], targets[row]
        change = min(max(value - before, -weights.value_clip), weights.value_clip)
        error = target - value
        beyond = (change != value - before) & (abs(target - before - change) > abs(error))
        slopes[b, 0] = 0.0 if beyond else weights.value * scale * error
        sums[3] += error * error


def _differentiate_policy(call, batch, order, start, n, scale, inputs, parameters, memory, shard):
    """Write the policy's part of a shard's gradient; nothing if there is no surrogate."""


@compiled_form(_differentiate_policy)
def _(call, batch, order, start, n, scale, inputs, parameters, memory, shard):
    if isinstance(call[4], types.NoneType):

        def leave_policy(call, batch, order, start, n, scale, inputs, parameters, memory, shard):
            memory.gradients[shard][: call[1]] = 0.0

        return leave_policy

    def differentiate_policy(call, batch, order, start, n, scale, inputs, parameters, memory, shard):
        policy, n_policy, like_action, _, surrogate, weights = call
        theta, work = parameters[:n_policy], workspace_at(memory.policy_work, shard)
        outputs = policy.network.forward(theta, inputs, work)
        width = len(policy.row())
        slopes, sums = memory.slopes[shard][: n * width].reshape(n, width), memory.sums[shard]
        _policy_slopes(
            policy, like_action, surrogate, weights, batch, order, start, n, scale, outputs, slopes, sums
        )
        policy.network.backward(theta, inputs, work, slopes, memory.gradients[shard][:n_policy])

    return differentiate_policy


@outline
def _differentiate_shard(parcel, shard):
    """Write a shard's part of the gradient, and its sums."""
    call, batch, order, (first, stop, size), parameters, memory = unpack(parcel)
    _, n_policy, _, critic, _, weights = call
    start = first + shard * size
    n = min(size, stop - start)
    scale = 1.0 / (stop - first)
    sums, gradient = memory.sums[shard], memory.gradients[shard]
    sums[:] = 0.0
    width = batch.observations.shape[1]
    inputs = memory.inputs[shard][: n * width].reshape(n, width)
    _gather(batch.observations, order, start, n, inputs)

    _differentiate_policy(call, batch, order, start, n, scale, inputs, parameters, memory, shard)
    theta, work = parameters[n_policy:], workspace_at(memory.critic_work, shard)
    outputs = critic.forward(theta, inputs, work)
    slopes = memory.value_slopes[shard][:n].reshape(n, 1)
    _value_slopes(weights, batch, order, start, n, scale, outputs, slopes, sums)
    critic.backward(theta, inputs, work, slopes, gradient[n_policy:])


@inline
def _add_up(gradients, n):
    """Add the first n rows to the first, in order; return the Euclidean norm of the sum."""
    total = gradients[0]
    for k in range(1, n):
        row = gradients[k]
        for p in range(len(total)):
            total[p] += row[p]
    return math.sqrt(np.dot(total, total))


@outline
def _adam(ascent, gradient, factor, learning_rate, beta1, beta2, epsilon):
    """Make a step of Adam (Kingma & Ba 2015, algorithm 1) along ``factor · gradient``, upwards."""
    parameters, first, second, n_steps = ascent
    n_steps[0] += 1
    correction = math.sqrt(1.0 - beta2 ** n_steps[0]) / (1.0 - beta1 ** n_steps[0])
    kind = parameters.dtype.type
    b1, b2, c1, c2 = kind(beta1), kind(beta2), kind(1.0 - beta1), kind(1.0 - beta2)
    rate, small = kind(learning_rate * correction), kind(epsilon * math.sqrt(1.0 - beta2 ** n_steps[0]))
    scale = kind(factor)
    for p in range(len(parameters)):
        g = scale * gradient[p]
        m = b1 * first[p] + c1 * g
        v = b2 * second[p] + c2 * g * g
        first[p], second[p] = m, v
        parameters[p] += rate * m / (np.sqrt(v) + small)


@outline
def _shuffle(order, key, number):
    """Put the numbers 0, 1, ... in the order that belongs to a number (Fisher & Yates)."""
    rng = trajectory_rng(key, number)
    for k in range(len(order)):
        order[k] = k
    for k in range(len(order) - 1, 0, -1):
        other = np.int64(uniform(rng, k) * (k + 1))
        order[k], order[other] = order[other], order[k]


@kernel
def ascend(
    policy,
    n_policy,
    like_action,
    critic,
    surrogate,
    weights,
    batch,
    order,
    n_minibatches,
    size,
    seed,
    epoch,
    ascent,
    memory,
    learning_rate,
    adam,
    statistics,
):
    """Make a step of Adam for each minibatch of the rows in a random order; update `ascent` in place.

    `epoch` numbers the order, `size` is that of a shard, and `adam` is (β₁, β₂, ε). Adds up `Statistics`.
    """
    n_rows = len(order)
    if n_minibatches > 1:
        _shuffle(order, seed_key(seed), epoch)
    sums = np.zeros(N_SUMS)
    for k in range(n_minibatches):
        first, stop = k * n_rows // n_minibatches, (k + 1) * n_rows // n_minibatches
        call = policy, n_policy, like_action, critic, surrogate, weights
        parcel = pack((call, batch, order, (first, stop, size), ascent.parameters, memory))
        n_shards = -(-(stop - first) // size)
        in_parallel(_differentiate_shard, parcel, n_shards)
        norm = _add_up(memory.gradients, n_shards)
        factor = min(1.0, weights.max_norm / norm) if norm > 0.0 else 1.0
        _adam(ascent, memory.gradients[0], factor, learning_rate, adam[0], adam[1], adam[2])
        for shard in range(n_shards):
            for j in range(N_SUMS - 1):
                sums[j] += memory.sums[shard, j]
        sums[N_SUMS - 1] += norm
    for j in range(N_SUMS - 1):
        statistics[j] = sums[j] / n_rows
    statistics[N_SUMS - 1] = sums[N_SUMS - 1] / n_minibatches
