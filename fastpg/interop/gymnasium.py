"""Playing a policy in Gymnasium's own environment, and recording it."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from fastpg.arguments import check_integer, check_policy, check_theta
from fastpg.evaluation import Evaluation


def play(
    env: Any, policy: Any, theta: Any, *, episodes: int = 100, seed: int = 0, deterministic: bool = False
) -> Evaluation:
    """Play episodes in ``env.gymnasium_twin()``: Gymnasium's dynamics, start states and time limit.

    The episodes run side by side, so that the policy is asked once a step for all of them.

    Parameters
    ----------
    env, policy, theta
        As for `fastpg.evaluate`.
    episodes : int
        At least 1.
    seed : int
        Of the start states (one child of ``numpy.random.SeedSequence(seed)`` an episode) and of the
        actions.
    deterministic : bool
        Take the most probable action in place of a random one.
    """
    started = time.perf_counter()
    check_policy(policy)
    theta = check_theta(policy, theta)
    check_integer("episodes", episodes, 1)
    seeds = np.random.SeedSequence(check_integer("seed", seed, 0)).generate_state(episodes + 1)
    generator = np.random.default_rng(seeds[-1])
    games = [_twin(env) for _ in range(episodes)]
    observations = np.array([game.reset(seed=int(s))[0] for game, s in zip(games, seeds, strict=False)])
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    alive = np.arange(episodes)
    while alive.size:
        actions = _actions(policy, theta, observations[alive], generator, deterministic)
        running = []
        for i, action in zip(alive, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = games[i].step(action)
            returns[i] += reward
            lengths[i] += 1
            if not (terminated or truncated):
                running.append(i)
        alive = np.array(running, dtype=np.int64)
    for game in games:
        game.close()
    return Evaluation(returns, lengths, time.perf_counter() - started)


def record(
    env: Any,
    policy: Any,
    theta: Any,
    path: str | os.PathLike,
    *,
    seed: int = 0,
    deterministic: bool = False,
) -> float:
    """Record one episode with Gymnasium's renderer to a .gif or .mp4 file, and return its return.

    Raises
    ------
    ValueError
        If the file is neither, or its directory does not exist.
    """
    target = check_recording(path)
    policy_theta = check_theta(policy, theta)
    reset_seed, action_seed = np.random.SeedSequence(check_integer("seed", seed, 0)).generate_state(2)
    generator = np.random.default_rng(action_seed)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory; no display is needed
    game = _twin(env, render_mode="rgb_array")
    observation, _ = game.reset(seed=int(reset_seed))
    frames, total, over = [game.render()], 0.0, False
    while not over:
        action = _actions(policy, policy_theta, observation[np.newaxis], generator, deterministic)[0]
        observation, reward, terminated, truncated, _ = game.step(action)
        frames.append(game.render())
        total += float(reward)
        over = terminated or truncated
    fps = game.metadata["render_fps"]
    game.close()
    if target.suffix == ".gif":  # half the pictures: a GIF of 50 a second is large, and many viewers balk
        frames, fps = frames[::2], fps / 2
    _write(frames, fps, target)
    return total


def check_recording(path: str | os.PathLike) -> Path:
    """Return the file a recording may be written to, or raise ValueError."""
    target = Path(path)
    if target.suffix not in (".gif", ".mp4"):
        raise ValueError(f"path={str(path)!r}: a recording is a .gif or an .mp4 file")
    if not target.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no directory {target.parent}")
    return target


def _twin(env, render_mode=None):
    if not hasattr(type(env), "gymnasium_twin"):
        raise ValueError(f"env: {type(env).__name__} has no gymnasium_twin(), so Gymnasium cannot play it")
    return env.gymnasium_twin(render_mode)


def _actions(policy, theta, observations, generator, deterministic):
    if deterministic:
        return policy.mode(theta, observations)
    return policy.sample(theta, observations, generator)


def _write(frames, fps, target):
    """Encode with moviepy, as Gymnasium's own recorders do, and rename when complete."""
    from moviepy.video.io.ImageSequenceClip import ImageSequenceClip

    temporary = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    clip = ImageSequenceClip(frames, fps=fps)
    try:
        if target.suffix == ".gif":
            clip.write_gif(str(temporary), logger=None)
        else:
            clip.write_videofile(str(temporary), logger=None)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
