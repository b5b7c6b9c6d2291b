"""Images are recorded as the environment shows them; their memory does not grow with the trajectories."""

from pathlib import Path

import numba
import numpy as np
import pytest
from test_array_state import Rooms

import fastpg
from fastpg import vectors
from fastpg.dispatch import kernel
from fastpg.random import next_step, policy_rng, seed_key, trajectory_rng

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(scope="module")
def rooms():
    env = Rooms()
    policy = fastpg.SoftmaxCNN.for_env(env, filters=3, side=2, hidden=(5,))
    return env, policy, policy.network.initial(np.random.default_rng(0), 1.0)


def test_segments_hold_images_of_their_own_type(rooms):
    """Every step as in ordinary Python: images exactly, what networks make of them to float32's precision."""
    env, policy, theta = rooms
    critic = policy.network.with_outputs(1)
    value_parameters = critic.initial(np.random.default_rng(1))
    rolled = fastpg.rollout(
        env, policy, theta, n_steps=60, n_envs=9, seed=4, critic=critic, value_parameters=value_parameters
    )
    assert rolled.observations.dtype == rolled.next_observations.dtype == np.bool_
    assert rolled.observations.shape == (60, 9, 3, 4, 2)
    for i in (0, 8):
        episode = time = 0
        for t in range(60):
            if time == 0:
                rng = trajectory_rng(seed_key(4), episode * 2**32 + i)
                state = env.reset(rng)
            rng, time = next_step(rng), time + 1
            np.testing.assert_array_equal(rolled.observations[t, i], env.observe(state))
            action = policy.sample(theta, env.observe(state), policy_rng(rng))
            state, reward, terminated = env.step(state, action, rng)
            assert (rolled.actions[t, i], rolled.terminated[t, i]) == (action, terminated)
            assert rolled.rewards[t, i] == np.float32(reward)
            np.testing.assert_array_equal(rolled.next_observations[t, i], env.observe(state))
            if terminated or time == env.horizon:
                episode, time = episode + 1, 0
        assert episode > 1
    log_probs = policy.log_prob(theta, rolled.observations, rolled.actions)
    np.testing.assert_allclose(rolled.log_probs, log_probs, rtol=0, atol=1e-5)
    rows = rolled.observations.reshape(540, -1)
    values = critic.forward(value_parameters, rows, critic.workspace(540, value_parameters))
    np.testing.assert_allclose(rolled.values.ravel(), values[:, 0], rtol=0, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits(rooms):
    """The gradient of whole trajectories, and parameters after two updates of PPO."""
    env, policy, theta = rooms
    ppo = fastpg.PPO(n_envs=48, n_steps=10, epochs=2, minibatch=200)
    gradients, runs = [], []
    for threads in (1, 2):
        estimate = fastpg.policy_gradient(env, policy, theta, n_trajectories=600, seed=1, threads=threads)
        gradients.append(estimate.gradient)
        runs.append(fastpg.train(env, policy, algorithm=ppo, n_updates=2, seed=1, threads=threads).theta)
    np.testing.assert_array_equal(*gradients)
    np.testing.assert_array_equal(*runs)
    assert (runs[0] != policy.initial(1)).any()


@kernel
def rows_for(image, numbers):
    return vectors.new_rows(3, image, np.float64), vectors.new_rows(3, numbers, np.float64)


def test_memory_is_of_the_type_of_an_image_and_of_numbers_as_asked():
    for kind in (np.bool_, np.uint8, np.float32):
        for images, numbers in (
            rows_for(np.zeros((3, 4, 2), kind), (1.0, 2.0)),
            rows_for.py_func(np.zeros((3, 4, 2), kind), np.array([1.0, 2.0])),
        ):
            assert (images.dtype, images.shape) == (kind, (3, 24))
            assert (numbers.dtype, numbers.shape) == (np.float64, (3, 2))


def peak():
    """The largest that this process has been since `RESET`, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def test_whole_trajectories_take_memory_for_the_lanes_alone(rooms):
    """Episodes of 2,000 steps: 128 lanes of images take 6 MB (49 MB as float64), however many episodes."""
    if not STATUS.exists():
        pytest.skip("the system has no /proc")
    env, policy, theta = rooms
    settings = {"horizon": 2000, "threads": 1, "seed": 2}
    forever = env._replace(cost=0.0)
    fastpg.policy_gradient(env, policy, theta, n_trajectories=300, horizon=25, threads=1)  # compiles
    grown = []
    for n in (256, 1024):
        try:
            RESET.write_text("5")
        except OSError:
            pytest.skip("the peak cannot be set back")
        before = peak()
        estimate = fastpg.policy_gradient(forever, policy, theta, n_trajectories=n, **settings)
        assert estimate.n_steps == 2000 * n
        grown.append((peak() - before) / 2**20)
    assert max(grown) < 20.0 and grown[1] - grown[0] < 4.0, grown
