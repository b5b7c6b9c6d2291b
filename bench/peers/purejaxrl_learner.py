"""A PPO as PureJaxRL writes it, all in JAX: ``python -m bench.peers.purejaxrl_learner CartPole-v1``.

After Lu et al., "Discovered policy optimisation" (NeurIPS 2022), with the hyperparameters of its
``ppo.py``: 4 environments, 128 steps, 4 minibatches, 4 epochs, 500,000 steps. One compiled call is two
updates, so that training can end when it is solved; compilations are kept on disk where
``JAX_COMPILATION_CACHE_DIR`` says.
"""

import time
from functools import partial
from typing import NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.peers.solving import Trial, arguments
from bench.serving import versions

STEPS, N_ENVS, N_STEPS, N_MINIBATCHES, N_EPOCHS = 500_000, 4, 128, 4, 4
LEARNING_RATE, DISCOUNT, GAE_LAMBDA, CLIP = 2.5e-4, 0.99, 0.95, 0.2
ENTROPY_WEIGHT, VALUE_WEIGHT, MAX_GRADIENT_NORM = 0.01, 0.5, 0.5
N_UPDATES, UPDATES_A_CALL = STEPS // (N_ENVS * N_STEPS), 2


class Transition(NamedTuple):
    """A step of all environments."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def initial_network(key, sizes, last_gain):
    """Return weights and biases of a network of tanh units, orthogonal."""
    gains = [2**0.5] * (len(sizes) - 2) + [last_gain]
    keys = jax.random.split(key, len(gains))
    return [
        (jax.nn.initializers.orthogonal(gain)(k, (inputs, outputs)), jnp.zeros(outputs))
        for k, gain, inputs, outputs in zip(keys, gains, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(network, x):
    """Return the outputs."""
    for weights, biases in network[:-1]:
        x = jnp.tanh(x @ weights + biases)
    weights, biases = network[-1]
    return x @ weights + biases


def value_of(networks, observations):
    """Return V(s)."""
    return apply(networks["critic"], observations)[..., 0]


def loss(networks, batch, advantages, targets):
    """Return PPO's: the clipped surrogate, the clipped error of the values, and the entropy."""
    log_policy = jax.nn.log_softmax(apply(networks["actor"], batch.observation))
    log_prob = jnp.take_along_axis(log_policy, batch.action[:, None], 1)[:, 0]
    value = value_of(networks, batch.observation)
    ratio = jnp.exp(log_prob - batch.log_prob)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    surrogate = jnp.minimum(ratio * advantages, ratio.clip(1 - CLIP, 1 + CLIP) * advantages).mean()
    clipped = batch.value + (value - batch.value).clip(-CLIP, CLIP)
    value_loss = 0.5 * jnp.maximum((value - targets) ** 2, (clipped - targets) ** 2).mean()
    entropy = -(jnp.exp(log_policy) * log_policy).sum(-1).mean()
    return -surrogate + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * entropy


def advantages_of(batch, last_value):
    """Return the generalised advantage estimates (Schulman et al. 2016)."""

    def back(carry, transition):
        running, next_value = carry
        alive = 1.0 - transition.done
        error = transition.reward + DISCOUNT * next_value * alive - transition.value
        running = error + DISCOUNT * GAE_LAMBDA * alive * running
        return (running, transition.value), running

    start = jnp.zeros_like(last_value), last_value
    return jax.lax.scan(back, start, batch, reverse=True, unroll=16)[1]


def make_learner(id):
    """Return the optimiser, and two functions: the start of everything, and some updates."""
    env, params = gymnax.make(id)
    rate = optax.linear_schedule(LEARNING_RATE, 0.0, N_UPDATES * N_EPOCHS * N_MINIBATCHES)
    optimizer = optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(rate, eps=1e-5))

    def start(key):
        key, key_actor, key_critic, key_reset = jax.random.split(key, 4)
        n_inputs, n_actions = env.observation_space(params).shape[0], env.num_actions
        networks = {
            "actor": initial_network(key_actor, (n_inputs, 64, 64, n_actions), 0.01),
            "critic": initial_network(key_critic, (n_inputs, 64, 64, 1), 1.0),
        }
        observations, states = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, N_ENVS), params)
        return networks, optimizer.init(networks), states, observations, key

    def step(networks, carry, _):
        states, observations, key = carry
        key, key_action, key_step = jax.random.split(key, 3)
        log_policy = jax.nn.log_softmax(apply(networks["actor"], observations))
        action = jax.random.categorical(key_action, log_policy)
        log_prob = jnp.take_along_axis(log_policy, action[:, None], 1)[:, 0]
        following, states, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(key_step, N_ENVS), states, action, params
        )
        done = (terminated | truncated).astype(jnp.float32)
        value = value_of(networks, observations)
        transition = Transition(observations, action, log_prob, value, reward, done)
        return (states, following, key), transition

    def minibatch(carry, some):
        networks, optimizer_state = carry
        gradient = jax.grad(loss)(networks, *some)
        change, optimizer_state = optimizer.update(gradient, optimizer_state)
        return (optax.apply_updates(networks, change), optimizer_state), None

    def update(carry, _):
        networks, optimizer_state, *rest = carry
        rest, batch = jax.lax.scan(partial(step, networks), tuple(rest), None, N_STEPS)
        states, observations, key = rest
        advantages = advantages_of(batch, value_of(networks, observations))
        whole = batch, advantages, advantages + batch.value
        flat = jax.tree.map(lambda x: x.reshape(N_STEPS * N_ENVS, *x.shape[2:]), whole)

        def epoch(carry, key):
            order = jax.random.permutation(key, N_STEPS * N_ENVS).reshape(N_MINIBATCHES, -1)
            return jax.lax.scan(minibatch, carry, jax.tree.map(lambda x: x[order], flat))[0], None

        key, key_epochs = jax.random.split(key)
        keys = jax.random.split(key_epochs, N_EPOCHS)
        (networks, optimizer_state), _ = jax.lax.scan(epoch, (networks, optimizer_state), keys)
        return (networks, optimizer_state, states, observations, key), None

    return start, lambda carry: jax.lax.scan(update, carry, None, UPDATES_A_CALL)[0]


def main():
    """Train until solved."""
    options = arguments(__doc__.splitlines()[0], ids=["CartPole-v1"]).parse_args()
    start, some_updates = make_learner(options.id)
    trial = Trial(options.id, options.seed)
    started = time.perf_counter()
    carry = jax.jit(start)(jax.random.key(options.seed))
    run = jax.jit(some_updates, donate_argnums=0).lower(carry).compile()
    compile_seconds = time.perf_counter() - started

    def greedy(observations):
        network = [(np.asarray(weights), np.asarray(biases)) for weights, biases in carry[0]["actor"]]
        x = observations
        for weights, biases in network[:-1]:
            x = np.tanh(x @ weights + biases)
        return (x @ network[-1][0] + network[-1][1]).argmax(-1)

    for call in range(N_UPDATES // UPDATES_A_CALL):
        carry = jax.block_until_ready(run(carry))
        if trial.check(greedy, (call + 1) * UPDATES_A_CALL * N_STEPS * N_ENVS):
            break
    trial.report(versions=versions("jax", "gymnax", "optax"), compile_seconds=compile_seconds)


if __name__ == "__main__":
    main()
