"""Playing and recording in Gymnasium's own environment."""

import errno
import os
import tempfile

import numpy as np
import pytest

import fastpg
from fastpg.interop import gymnasium as interop
from fastpg.interop.gymnasium import play, record
from fastpg.random import seed_key, trajectory_rng


def test_returns_agree_with_the_engine(env, policy, theta):
    """The same policy in Gymnasium and in the engine: mean returns within 4 standard errors."""
    played = play(env, policy, theta, episodes=300, seed=0)
    simulated = fastpg.evaluate(env, policy, theta, n_trajectories=100_000, seed=0)
    error = np.hypot(played.return_standard_error, simulated.return_standard_error)
    assert abs(played.mean_return - simulated.mean_return) <= 4 * error
    np.testing.assert_array_equal(played.returns, played.lengths)  # CartPole pays 1 a step


def test_changed_parameters_reach_gymnasium(policy):
    """Under ten times the gravity and a weak force, episodes are shorter in both."""
    heavy = fastpg.make("CartPole-v1", gravity=98.0, force_mag=2.0)
    played = play(heavy, policy, policy.initial(), episodes=200)
    simulated = fastpg.evaluate(heavy, policy, policy.initial(), n_trajectories=10_000)
    assert simulated.mean_return < 15
    error = np.hypot(played.return_standard_error, simulated.return_standard_error)
    assert abs(played.mean_return - simulated.mean_return) <= 4 * error


def test_a_seed_fixes_what_is_played(env, policy, theta):
    first, again, other = (play(env, policy, theta, episodes=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.returns, again.returns)
    assert (first.returns != other.returns).any()


def test_deterministic_play_takes_the_mode(env, policy):
    """With θ = 0 the mode is action 0: the cart is pushed to the left until the pole falls."""
    result = play(env, policy, policy.initial(), episodes=20, deterministic=True)
    assert result.lengths.max() <= 11


def test_recording(env, policy, tmp_path):
    total = record(env, policy, policy.initial(), tmp_path / "episode.gif", deterministic=True)
    assert total == 9 or 8 <= total <= 11
    assert (tmp_path / "episode.gif").read_bytes().startswith(b"GIF8")
    assert [path.name for path in tmp_path.iterdir()] == ["episode.gif"]


def test_an_environment_that_draws_itself_is_recorded_as_it_draws(tmp_path, monkeypatch):
    """One picture a step, until the horizon, as there are 15 a second."""
    kept = {}
    monkeypatch.setattr(interop, "_write", lambda frames, fps, path: kept.update(frames=frames, fps=fps))
    env = fastpg.make("MinAtar/Asterix")
    policy = fastpg.policy_for(env)
    total = record(env, policy, policy.initial(), tmp_path / "episode.gif", seed=3, horizon=12)
    assert total == int(total) >= 0 and kept["fps"] == 15 and 2 <= len(kept["frames"]) <= 13
    start = env.reset(trajectory_rng(seed_key(0), 0))
    np.testing.assert_array_equal(kept["frames"][0], env.picture(start))
    assert interop.is_drawn(env) and not interop.is_drawn(fastpg.make("Chain-v0"))
    with pytest.raises(ValueError, match=r"Chain has no gymnasium_twin\(\) and no picture\(\)"):
        chain = fastpg.make("Chain-v0")
        record(chain, fastpg.policy_for(chain), fastpg.policy_for(chain).initial(), tmp_path / "a.gif")


@pytest.mark.parametrize("horizon", [0, -1, 2.5, True])
def test_a_bad_horizon_is_refused(env, policy, tmp_path, horizon):
    with pytest.raises((TypeError, ValueError), match="horizon=.*must be"):
        record(env, policy, policy.initial(), tmp_path / "episode.gif", horizon=horizon)
    with pytest.raises((TypeError, ValueError), match="horizon=.*must be"):
        play(env, policy, policy.initial(), episodes=1, horizon=horizon)


def test_an_episode_without_end_needs_a_horizon(tmp_path):
    """The mode of θ = 0 walks into the wall above for ever."""
    cliff = fastpg.make("CliffWalking-v1")
    policy = fastpg.policy_for(cliff)
    with pytest.raises(ValueError, match="no time limit of its own; give one"):
        play(cliff, policy, policy.initial(), deterministic=True)
    with pytest.raises(ValueError, match="no time limit of its own; give one"):
        record(cliff, policy, policy.initial(), tmp_path / "episode.gif", deterministic=True)
    result = play(cliff, policy, policy.initial(), episodes=3, deterministic=True, horizon=20)
    np.testing.assert_array_equal(result.lengths, 20)
    np.testing.assert_array_equal(result.returns, -20.0)


def test_bad_recordings_are_refused(env, policy, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a .gif or an .mp4"):
        record(env, policy, policy.initial(), tmp_path / "episode.webm")
    with pytest.raises(ValueError, match="there is no directory"):
        record(env, policy, policy.initial(), tmp_path / "nowhere" / "episode.gif")
    (tmp_path / "directory.gif").mkdir()
    with pytest.raises(ValueError, match="is a directory"):
        record(env, policy, policy.initial(), tmp_path / "directory.gif")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ValueError, match="cannot be written .Permission denied"):
        record(env, policy, policy.initial(), tmp_path / "episode.gif")


def test_random_numbers_are_independent_and_a_prefix(env):
    """Each episode has a seed of 64 bits of its own, which more episodes do not change."""
    generator, seeds = interop._random(0, 1000)
    assert len(set(seeds)) == 1000 and max(seeds) > 2**63
    assert interop._random(0, 10)[1] == seeds[:10]
    again = [np.random.default_rng(seed).random() for seed in seeds]
    assert generator.random() not in again


@pytest.mark.parametrize("chosen", [None, "dummy"])
def test_recording_leaves_the_process_as_it_was(env, policy, tmp_path, monkeypatch, chosen):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    if chosen:
        monkeypatch.setenv("SDL_VIDEODRIVER", chosen)
    kept = {}
    monkeypatch.setattr(interop, "_write", lambda frames, fps, path: kept.update(frames=frames, fps=fps))
    total = record(env, policy, policy.initial(), tmp_path / "episode.gif", deterministic=True)
    assert os.environ.get("SDL_VIDEODRIVER") == chosen
    assert len(kept["frames"]) == 1 + total // 2 and kept["fps"] == 25  # every second picture


def test_a_policy_for_another_environment_is_refused(env, policy, tmp_path):
    other = policy._replace(n_actions=3)
    theta = other.initial()
    with pytest.raises(ValueError, match="policy="):
        play(env, other, theta, episodes=1)
    with pytest.raises(ValueError, match="policy="):
        record(env, other, theta, tmp_path / "episode.gif")
