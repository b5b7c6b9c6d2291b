"""Stepping alone, random actions: ``python -m bench.peers.stepping PEER ID NUM_ENVS``.

The actions are drawn beforehand, except for gymnax, whose users draw them in the compiled loop. Answers as
`bench.serving` has it. Settings follow the peers' own documentation:

* Gymnasium: ``make_vec`` with ``vectorization_mode="sync"``, or ``"vector_entry_point"``, NumPy over arrays.
* EnvPool: ``envpool.make(id, "gymnasium", num_envs=, batch_size=, num_threads=)``, asynchronous (`send` and
  `recv`) when the batch is smaller than the number of environments, which its documentation recommends for
  throughput.
* rlox: ``rlox.VecEnv(n).step_all(actions)``, Rust threads; CartPole only.
* gymnax: ``step`` under ``vmap``, ``lax.scan`` and ``pmap``, one XLA device a core.
"""

import argparse
import os
import time

import numpy as np

from bench.serving import serve, versions


def drawn(space, num_envs):
    """Return 16 batches of actions of a Gymnasium space."""
    rng = np.random.default_rng(0)
    if hasattr(space, "n"):
        return [rng.integers(space.n, size=num_envs, dtype=np.int32) for _ in range(16)]
    shape = (num_envs, *space.shape)
    return [rng.uniform(space.low, space.high, shape).astype(space.dtype) for _ in range(16)]


def over(actions, step, num_envs):
    """Return a call that steps with the next batch of actions."""
    calls = 0

    def call():
        nonlocal calls
        step(actions[calls % len(actions)])
        calls += 1
        return num_envs

    return call


def gymnasium_sync(id, num_envs, options):
    """Environments one after the other, in Python."""
    import gymnasium

    envs = gymnasium.make_vec(id, num_envs, vectorization_mode="sync")
    envs.reset(seed=0)
    return over(drawn(envs.single_action_space, num_envs), envs.step, num_envs), {
        "versions": versions("gymnasium")
    }


def gymnasium_numpy(id, num_envs, options):
    """Gymnasium's own NumPy environment over arrays."""
    import gymnasium

    envs = gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point")
    envs.reset(seed=0)
    return over(drawn(envs.single_action_space, num_envs), envs.step, num_envs), {
        "versions": versions("gymnasium", "numpy")
    }


def envpool(id, num_envs, options):
    """EnvPool, C++ threads."""
    import envpool

    batch = options.batch or num_envs
    envs = envpool.make(
        id, "gymnasium", num_envs=num_envs, batch_size=batch, num_threads=options.threads, seed=0
    )
    actions = drawn(envs.action_space, batch)
    facts = {"versions": versions("envpool")}
    if batch == num_envs:
        envs.reset()
        return over(actions, envs.step, batch), facts
    envs.async_reset()

    def exchange(action):
        info = envs.recv()[-1]
        envs.send(action, info["env_id"])

    return over(actions, exchange, batch), facts


def rlox(id, num_envs, options):
    """Rlox's vector environment, Rust threads."""
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    import rlox

    envs = rlox.VecEnv(num_envs, seed=0)
    envs.reset_all()
    rng = np.random.default_rng(0)
    actions = [rng.integers(2, size=num_envs).tolist() for _ in range(16)]
    return over(actions, envs.step_all, num_envs), {"versions": versions("rlox")}


def minatar(id, num_envs, options):
    """The `minatar` package: one game, in Python, a thousand steps a call."""
    from minatar import Environment

    game, rng = Environment(id), np.random.default_rng(0)
    game.reset()
    actions = rng.choice(game.minimal_action_set(), 1000).tolist()

    def call():
        for action in actions:
            _, terminated = game.act(action)
            if terminated:
                game.reset()
            game.state()
        return len(actions)

    return call, {"versions": versions("MinAtar")}


def gymnax(id, num_envs, options):
    """Gymnax, compiled: a hundred steps a call, actions drawn within."""
    import gymnax
    import jax

    n_steps, devices = 100, jax.local_device_count()
    env, params = gymnax.make(id)
    space = env.action_space(params)
    n = num_envs // devices

    def advance(states, key):
        def step(states, key):
            key_actions, key_steps = jax.random.split(key)
            actions = jax.vmap(space.sample)(jax.random.split(key_actions, n))
            stepped = jax.vmap(env.step, (0, 0, 0, None))(
                jax.random.split(key_steps, n), states, actions, params
            )
            observations, states, rewards, terminated, truncated, _ = stepped
            return states, (observations.sum(), rewards.sum(), terminated.sum(), truncated.sum())

        return jax.lax.scan(step, states, jax.random.split(key, n_steps))

    keys = jax.random.key(0)

    def split(*shape):
        nonlocal keys
        keys, key = jax.random.split(keys)
        return jax.random.split(key, shape)

    _, states = jax.pmap(jax.vmap(env.reset, (0, None)), in_axes=(0, None))(split(devices, n), params)
    started = time.perf_counter()
    run = jax.pmap(advance, donate_argnums=0).lower(states, split(devices)).compile()
    compile_seconds = time.perf_counter() - started

    def call():
        nonlocal states
        states, sums = run(states, split(devices))
        jax.block_until_ready(sums)
        return n * devices * n_steps

    return call, {
        "versions": versions("gymnax", "jax"),
        "setting": f"{devices} XLA devices, actions drawn within the compiled loop",
        "compile_seconds": compile_seconds,
    }


PEERS = {
    function.__name__: function
    for function in (gymnasium_sync, gymnasium_numpy, envpool, rlox, gymnax, minatar)
}


def main():
    """Make the environments, and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("id")
    parser.add_argument("num_envs", type=int)
    parser.add_argument("--batch", type=int, help="EnvPool's; all of them unless given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    call, facts = PEERS[options.peer](options.id, options.num_envs, options)
    call()
    serve(facts, call)


if __name__ == "__main__":
    main()
