"""JAX with gymnax, jitted, vmapped, differentiated automatically, on as many XLA devices as there are cores.

``XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m bench.references.jax_gymnax THETA --id ID``
answers as `bench.serving` has it, with the time to compile among the facts.

In float32, mapped over the devices. Actions are drawn for all lanes from one key, which is faster than a key
a lane. Tried, the first three (of a network the last two) with the first number of lanes, then the fastest
with each:

* `resetting`: gymnax's `step`, which resets. Unfinished episodes are carried over into the next call, so
  every step counts. The score of a step is the automatic derivative of its log-probability; a lane adds them
  up and multiplies by the return at its end.
* `masked`: `step_env`, which does not, from start to horizon; the steps after an episode's end do not count.
* `recorded`: the same, but the steps are recorded, and their log-probabilities differentiated at once.
* `gathered`: gymnax's `step`, the steps recorded; those of the episodes that have ended are gathered, and
  their log-probabilities differentiated in batches. No step is simulated or differentiated for nothing.
"""

import functools
import time

import gymnax
import jax
import jax.numpy as jnp

from bench.serving import Sums, fastest, gradient_arguments, gradient_facts, serve, steps_of, versions

BATCH = 2048  # of steps that are differentiated at once where they are gathered


class Policy:
    """fastpg's linear policies, or with `hidden` layers of tanh units its networks; softmax or Gaussian.

    θ holds the layers one after the other: in a linear policy a row of weights and the bias for each
    output, in a network the weights of a layer, row by row, and then its biases. Behind them, for a
    continuous action, log σ.
    """

    def __init__(self, env, params, hidden=()):
        self.continuous = not hasattr(env.action_space(params), "n")
        outputs = 1 if self.continuous else env.num_actions
        self.sizes = (env.observation_space(params).shape[0], *hidden, outputs)

    def outputs(self, theta, observation):
        """Return the logits, or the mean."""
        if len(self.sizes) == 2:
            n, rows = self.sizes
            weights = theta[: rows * (n + 1)].reshape(rows, n + 1)
            return weights[:, :-1] @ observation + weights[:, -1]
        x, at = observation, 0
        for n, m in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            weights, biases = theta[at : at + n * m].reshape(m, n), theta[at + n * m : at + (n + 1) * m]
            at += (n + 1) * m
            x = weights @ (jnp.tanh(x) if at > (self.sizes[0] + 1) * self.sizes[1] else x) + biases
        return x

    def sample(self, theta, observations, key):
        """Return an action for each lane."""
        outputs = jax.vmap(self.outputs, (None, 0))(theta, observations)
        if self.continuous:
            return outputs[:, 0] + jnp.exp(theta[-1]) * jax.random.normal(key, (len(outputs),))
        return jax.random.categorical(key, outputs)

    def log_prob(self, theta, observation, action):
        """Return the log-probability of an action, less what does not depend on θ."""
        outputs = self.outputs(theta, observation)
        if self.continuous:
            return -0.5 * ((action - outputs[0]) * jnp.exp(-theta[-1])) ** 2 - theta[-1]
        return jax.nn.log_softmax(outputs)[action]

    def scores(self, theta, observations, actions):
        """Return the derivative of `log_prob` for each lane."""
        return jax.vmap(jax.grad(self.log_prob), (None, 0, 0))(theta, observations, actions)


def start(env, params, n_lanes, theta, key):
    """Return fresh lanes: observation, state, score so far, return so far."""
    observations, states = jax.vmap(env.reset, (0, None))(jax.random.split(key, n_lanes), params)
    return observations, states, jnp.zeros((n_lanes, len(theta))), jnp.zeros(n_lanes)


def resetting(env, params, policy, n_lanes, theta, lanes, key):
    """Step all lanes `horizon` times; return them, and the sums over the episodes that ended."""

    def step(carry, key):
        (observations, states, scores, returns), (gradient, total, ended) = carry
        key_actions, key_steps = jax.random.split(key)
        actions = policy.sample(theta, observations, key_actions)
        scores += policy.scores(theta, observations, actions)
        observations, states, rewards, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(key_steps, n_lanes), states, actions, params
        )
        returns += rewards
        over = terminated | truncated
        finished = jnp.where(over, returns, 0.0)
        sums = gradient + finished @ scores, total + finished.sum(), ended + over.sum()
        scores = jnp.where(over[:, None], 0.0, scores)
        return ((observations, states, scores, jnp.where(over, 0.0, returns)), sums), None

    sums = jnp.zeros_like(theta), 0.0, 0
    horizon = params.max_steps_in_episode
    (lanes, (gradient, total, ended)), _ = jax.lax.scan(step, (lanes, sums), jax.random.split(key, horizon))
    return lanes, (gradient, total, ended, n_lanes * horizon)


def masked(env, params, policy, n_lanes, theta, lanes, key):
    """Run one trajectory in each lane; return the lanes as they came, and the sums."""

    def step(carry, key):
        (observations, states, scores, returns), alive, n_steps = carry
        actions = policy.sample(theta, observations, key)
        scores += alive[:, None] * policy.scores(theta, observations, actions)
        observations, states, rewards, terminated, _ = jax.vmap(env.step_env, (None, 0, 0, None))(
            key,
            states,
            actions,
            params,  # none of these environments' steps is random
        )
        lanes = observations, states, scores, returns + alive * rewards
        return (lanes, alive & ~terminated, n_steps + alive.sum()), None

    key_start, key = jax.random.split(key)
    carry = start(env, params, n_lanes, theta, key_start), jnp.ones(n_lanes, bool), 0
    keys = jax.random.split(key, params.max_steps_in_episode)
    ((_, _, scores, returns), _, n_steps), _ = jax.lax.scan(step, carry, keys)
    return lanes, (returns @ scores, returns.sum(), n_lanes, n_steps)


def recorded(env, params, policy, n_lanes, theta, lanes, key):
    """Run one trajectory in each lane and record it; differentiate all steps at once."""

    def step(carry, key):
        (observations, states), alive = carry
        actions = policy.sample(theta, observations, key)
        following, states, rewards, terminated, _ = jax.vmap(env.step_env, (None, 0, 0, None))(
            key, states, actions, params
        )
        return ((following, states), alive & ~terminated), (observations, actions, alive, alive * rewards)

    key_start, key = jax.random.split(key)
    first = jax.vmap(env.reset, (0, None))(jax.random.split(key_start, n_lanes), params)
    keys = jax.random.split(key, params.max_steps_in_episode)
    _, record = jax.lax.scan(step, (first, jnp.ones(n_lanes, bool)), keys)
    observations, actions, alive, rewards = record
    returns = rewards.sum(axis=0)

    def surrogate(theta):
        log_probs = jax.vmap(jax.vmap(policy.log_prob, (None, 0, 0)), (None, 0, 0))
        return (log_probs(theta, observations, actions) * alive * returns).sum()

    return lanes, (jax.grad(surrogate)(theta), returns.sum(), n_lanes, alive.sum())


def begun(env, params, n_lanes, theta, key):
    """Return fresh lanes with what `gathered` remembers of the steps before: none."""
    observations, states, _, returns = start(env, params, n_lanes, theta, key)
    shape = params.max_steps_in_episode, n_lanes
    actions = jnp.zeros(shape, jnp.float32 if not hasattr(env.action_space(params), "n") else jnp.int32)
    before = jnp.zeros((*shape, observations.shape[1])), actions, jnp.zeros(shape), jnp.ones(shape, bool)
    return observations, states, returns, before


def gathered(env, params, policy, n_lanes, theta, lanes, key):
    """Step all lanes `horizon` times; return them, and the sums over the episodes that ended."""

    def step(carry, key):
        observations, states, returns = carry
        key_actions, key_steps = jax.random.split(key)
        actions = policy.sample(theta, observations, key_actions)
        following, states, rewards, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(key_steps, n_lanes), states, actions, params
        )
        returns, over = returns + rewards, terminated | truncated
        record = observations, actions, returns, over
        return (following, states, jnp.where(over, 0.0, returns)), record

    observations, states, returns, before = lanes
    horizon = params.max_steps_in_episode
    carry, record = jax.lax.scan(step, (observations, states, returns), jax.random.split(key, horizon))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), before, record)

    def back(
        carry, step
    ):  # from the last step to the first: the return of its episode, if that has ended now
        total, counts = carry
        earned, over, new = step
        total, counts = jnp.where(over, earned, total), jnp.where(over, new, counts)
        return (total, counts), (total, counts)

    new = jnp.arange(2 * horizon)[:, None] >= horizon
    nothing = jnp.zeros(n_lanes), jnp.zeros(n_lanes, bool)
    _, (totals, counts) = jax.lax.scan(back, nothing, (both[2], both[3], new), reverse=True)
    n = counts.sum()
    places = jnp.nonzero(counts.ravel(), size=2 * horizon * n_lanes + BATCH, fill_value=0)[0]
    rows = both[0].reshape(-1, both[0].shape[-1]), both[1].ravel(), totals.ravel()

    def surrogate(theta, observations, actions, weights):
        return jax.vmap(policy.log_prob, (None, 0, 0))(theta, observations, actions) @ weights

    def differentiate(carry):
        first, gradient = carry
        here = jax.lax.dynamic_slice(places, (first,), (BATCH,))
        observations, actions, weights = (array[here] for array in rows)
        weights = jnp.where(first + jnp.arange(BATCH) < n, weights, 0.0)
        return first + BATCH, gradient + jax.grad(surrogate)(theta, observations, actions, weights)

    _, gradient = jax.lax.while_loop(lambda c: c[0] < n, differentiate, (0, jnp.zeros_like(theta)))
    total = jnp.where(record[3], record[2], 0.0).sum()
    return (*carry, record), (gradient, total, record[3].sum(), n_lanes * horizon)


class Gradient:
    """Gradients on all devices with a number of lanes; compiled when made."""

    def __init__(self, form, name, theta, n_lanes, hidden):
        env, params = gymnax.make(name)
        self.n_devices = jax.local_device_count()
        self.keys = jax.random.key(0)
        self.theta = jnp.asarray(theta, jnp.float32)
        n = n_lanes // self.n_devices
        run = functools.partial(form, env, params, Policy(env, params, hidden), n)
        begin = functools.partial(begun if form is gathered else start, env, params, n)
        self.lanes = jax.pmap(begin, in_axes=(None, 0))(self.theta, self._split())
        started = time.perf_counter()
        parallel = jax.pmap(run, in_axes=(None, 0, 0), donate_argnums=1)
        self.run = parallel.lower(self.theta, self.lanes, self._split()).compile()
        self.compile_seconds = time.perf_counter() - started
        self()

    def __call__(self):
        """Return the sums of one call on each device: scores times returns, returns, episodes, steps."""
        self.lanes, sums = self.run(self.theta, self.lanes, self._split())
        return Sums(*jax.block_until_ready(sums))

    def _split(self):
        self.keys, key = jax.random.split(self.keys)
        return jax.random.split(key, self.n_devices)


def main():
    """Choose the form and the number of lanes, estimate, and answer."""
    parser = gradient_arguments(__doc__.splitlines()[0], lanes=[1024, 256, 4096, 16384])
    parser.add_argument("--id", default="CartPole-v1")
    parser.add_argument(
        "--hidden", type=int, nargs="*", default=[], help="sizes of the policy's hidden layers"
    )
    arguments = parser.parse_args()
    id, theta, lanes = arguments.id, arguments.theta, arguments.lanes

    hidden = arguments.hidden
    forms = (recorded, gathered) if hidden else (resetting, masked, recorded)
    made = {f.__name__: Gradient(f, id, theta, lanes[0], hidden) for f in forms}
    form = fastest({name: steps_of(gradient) for name, gradient in made.items()})
    facts = gradient_facts(made[form], arguments.calls)
    made = {lanes[0]: made[form]}
    made |= {n: Gradient(globals()[form], id, theta, n, hidden) for n in lanes[1:]}
    best = fastest({n: steps_of(gradient) for n, gradient in made.items()})
    facts |= {
        "versions": versions("gymnax", "jax"),
        "setting": f"{form}, {best:,} trajectories at once, {jax.local_device_count()} XLA devices",
        "compile_seconds": made[best].compile_seconds,
    }
    serve(facts, steps_of(made[best]))


if __name__ == "__main__":
    main()
