"""The adapter for Stable-Baselines3: equal to its own `DummyVecEnv`, and its algorithms learn on it."""

import subprocess
import sys

import gymnasium
import numba
import numpy as np
import pytest

pytest.importorskip(
    "stable_baselines3", reason="Stable-Baselines3 is not installed: pip install stable-baselines3"
)
pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="about compiled code")

from fastpg.envs.cartpole import CartPole, State  # noqa: E402
from gymnasium.wrappers import TimeLimit  # noqa: E402
from stable_baselines3 import A2C, DQN, PPO  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize  # noqa: E402

import fastpg  # noqa: E402
from fastpg.interop.stable_baselines3 import StableBaselinesVecEnv  # noqa: E402

N, LIMIT = 5, 13


def actions_of(env, steps, seed=0):
    space = gymnasium.vector.utils.batch_space(env.action_space, N)
    space.seed(seed)
    return [space.sample() for _ in range(steps)]


def assert_same(actual, expected):
    """Observations, rewards and dones with their types, and every entry of the infos."""
    for ours, theirs in zip(actual[:3], expected[:3], strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)
    assert [info.keys() for info in actual[3]] == [info.keys() for info in expected[3]]
    for ours, theirs in zip(actual[3], expected[3], strict=True):
        assert ours["TimeLimit.truncated"] is theirs["TimeLimit.truncated"]
        if "terminal_observation" in theirs:
            np.testing.assert_array_equal(ours["terminal_observation"], theirs["terminal_observation"])


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_equal_to_dummy_vec_env(name):
    """Over the single environments, under the same seeds: all that is returned in 200 steps, bit for bit."""
    env = fastpg.make(name)
    ours = StableBaselinesVecEnv(env, N, max_episode_steps=LIMIT)
    theirs = DummyVecEnv([lambda: TimeLimit(fastpg.Env(env, time_limit=False), LIMIT)] * N)
    assert isinstance(ours, VecEnv)
    assert (ours.num_envs, ours.observation_space, ours.action_space) == (
        theirs.num_envs,
        theirs.observation_space,
        theirs.action_space,
    )
    assert ours.seed(theirs.seed(7)) == theirs._seeds
    first, expected = ours.reset(), theirs.reset()
    assert first.dtype == expected.dtype
    np.testing.assert_array_equal(first, expected)
    ended, cut = 0, 0
    for action in actions_of(env, 200):
        result = ours.step(action)
        assert_same(result, theirs.step(action))
        ended += result[2].sum()
        cut += sum(info["TimeLimit.truncated"] for info in result[3])
    assert ended > 5 * N and cut > 0 and (name != "CartPole-v1" or cut < ended)


def test_a_vector_env_of_ones_own():
    """Its environments, its seeds and its time limit: the final observations are the terminal ones."""
    vector, again = (
        fastpg.make_vec("CartPole-v1", N, autoreset_mode="SameStep", max_episode_steps=LIMIT)
        for _ in range(2)
    )
    adapter = StableBaselinesVecEnv(vector)
    assert adapter.seed(3) == [3] * N
    np.testing.assert_array_equal(adapter.reset(), again.reset(seed=3)[0])
    ends = 0
    for action in actions_of(CartPole(), 60):
        observations, rewards, dones, infos = adapter.step(action)
        expected = again.step(action)
        np.testing.assert_array_equal(observations, expected[0])
        np.testing.assert_array_equal(dones, expected[2] | expected[3])
        for i in np.flatnonzero(dones):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], expected[4]["final_obs"][i])
            assert infos[i]["TimeLimit.truncated"] == (expected[3][i] and not expected[2][i])
            ends += 1
    assert ends > N


def test_a_seed_is_used_once_and_fixes_the_episodes():
    def starts(adapter, seed):
        adapter.seed(seed)
        return [adapter.reset().copy() for _ in range(2)]

    adapter = StableBaselinesVecEnv(CartPole(), N)
    first, again, other = (starts(adapter, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique([first, other])) == 2 * 2 * N * 4
    np.random.seed(0)
    drawn = adapter.seed()
    np.random.seed(0)
    assert drawn == adapter.seed() and len(drawn) == N


def test_the_infos_of_a_step_are_ones_own():
    adapter = StableBaselinesVecEnv(CartPole(), N)
    adapter.reset()
    infos = adapter.step(np.zeros(N, int))[3]
    infos[0]["mine"] = True
    assert "mine" not in infos[1] and "mine" not in adapter.step(np.zeros(N, int))[3][0]


def test_stable_baselines_wrappers_work():
    """VecMonitor counts the episodes; VecNormalize and VecFrameStack see the terminal observations."""
    wrapped = VecMonitor(StableBaselinesVecEnv(CartPole(), N, max_episode_steps=LIMIT))
    stacked = VecFrameStack(VecNormalize(wrapped), 2)
    assert stacked.reset().shape == (N, 8)
    lengths = np.zeros(N)
    ends = 0
    for action in actions_of(CartPole(), 100):
        _, _, dones, infos = stacked.step(action)
        lengths += 1
        for i in np.flatnonzero(dones):
            assert infos[i]["episode"]["l"] == infos[i]["episode"]["r"] == lengths[i]
            assert infos[i]["terminal_observation"].shape == (8,)
            ends += 1
        lengths[dones] = 0
    assert ends > 5 * N


def test_attributes_and_methods():
    adapter = StableBaselinesVecEnv(CartPole(gravity=3.7), N)
    assert adapter.get_attr("gravity") == [3.7] * N and adapter.get_attr("tau", [0, 2]) == [0.02] * 2
    assert adapter.get_attr("render_mode", 1) == [None]
    assert adapter.has_attr("masspole") and not adapter.has_attr("mastpole")
    assert adapter.env_is_wrapped(Monitor) == [False] * N
    state = State(1.0, 2.0, 3.0, 4.0)
    assert adapter.env_method("observe", state, indices=[1, 3]) == [tuple(state)] * 2
    assert adapter.unwrapped is adapter
    adapter.close()


def test_parameters_are_set_for_all():
    """And change the next step as they change a new environment's."""
    adapter, changed = (StableBaselinesVecEnv(CartPole(gravity=g), N) for g in (9.8, 98.0))
    adapter.set_attr("gravity", 98)
    assert adapter.get_attr("gravity") == [98.0] * N and adapter.vector_env.env == CartPole(gravity=98.0)
    for vec in (adapter, changed):
        vec.seed(1)
        vec.reset()
    for action in actions_of(CartPole(), 20):
        np.testing.assert_array_equal(adapter.step(action)[0], changed.step(action)[0])
    with pytest.raises(ValueError, match="indices"):
        adapter.set_attr("gravity", 1.0, indices=[0])
    with pytest.raises(TypeError, match="no such parameter"):
        adapter.set_attr("gravitas", 1.0)
    with pytest.raises(TypeError, match="must be a number"):
        adapter.set_attr("gravity", "heavy")


def test_pictures_are_tiled(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    adapter = StableBaselinesVecEnv(CartPole(), 4, render_mode="rgb_array")
    adapter.seed(0)
    adapter.reset()
    assert adapter.render_mode == "rgb_array" and adapter.metadata["render_fps"] == 50
    tiled, single = adapter.render(), adapter.vector_env.render()
    assert tiled.shape == (800, 1200, 3)
    np.testing.assert_array_equal(tiled[400:, 600:], single[3])
    adapter.close()


def test_bad_input_is_named():
    next_step = fastpg.make_vec("CartPole-v1", 2)
    with pytest.raises(ValueError, match="autoreset_mode='NextStep'.*SameStep"):
        StableBaselinesVecEnv(next_step)
    with pytest.raises(TypeError, match="autoreset_mode"):
        StableBaselinesVecEnv(CartPole(), 2, autoreset_mode="NextStep")
    same_step = fastpg.make_vec("CartPole-v1", 2, autoreset_mode="SameStep")
    with pytest.raises(TypeError, match="num_envs, threads"):
        StableBaselinesVecEnv(same_step, 2, threads=1)
    with pytest.raises(TypeError, match="env='CartPole-v1'"):
        StableBaselinesVecEnv("CartPole-v1")
    adapter = StableBaselinesVecEnv(same_step)
    adapter.reset()
    with pytest.raises(AssertionError, match="invalid"):
        adapter.step(np.array([0, 2]))


def test_fastpg_does_not_import_it():
    code = "import sys, fastpg; print('stable_baselines3' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.stdout == "False False\n", done.stderr


@pytest.mark.parametrize("algorithm", [PPO, A2C], ids=lambda algorithm: algorithm.__name__)
def test_algorithms_learn(algorithm):
    """Above 60 in 20 episodes of Gymnasium's own CartPole after 25,000 steps, where chance has 22."""
    import torch

    torch.set_num_threads(1)
    settings = {PPO: dict(n_steps=128, batch_size=256, learning_rate=1e-3, n_epochs=8, gamma=0.98), A2C: {}}
    model = algorithm(
        "MlpPolicy", StableBaselinesVecEnv(CartPole(), 8), seed=0, device="cpu", **settings[algorithm]
    )
    model.learn(25_000)
    mean, _ = evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), n_eval_episodes=20)
    assert mean > 60, mean


def test_off_policy_algorithms_store_the_terminal_observation():
    """What DQN's replay buffer has after an episode's last step is no start state."""
    adapter = StableBaselinesVecEnv(CartPole(), 2, max_episode_steps=LIMIT)
    model = DQN("MlpPolicy", adapter, learning_starts=10_000, buffer_size=1_000, seed=0, device="cpu")
    model.learn(200)
    buffer = model.replay_buffer
    ended = buffer.dones[: buffer.pos] > 0
    assert ended.sum() > 10
    assert np.abs(buffer.next_observations[: buffer.pos][ended]).max(axis=1).min() > 0.05
    assert buffer.timeouts[: buffer.pos].any() and (buffer.timeouts[: buffer.pos] <= ended).all()
