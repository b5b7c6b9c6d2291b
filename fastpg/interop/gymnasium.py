"""Playing a policy in Gymnasium's own environment, and recording it there, or where pictures are drawn."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastpg.arguments import check_horizon, check_integer, check_policy, check_theta
from fastpg.evaluation import Evaluation
from fastpg.interop.single import Env


def play(
    env: Any,
    policy: Any,
    theta: Any,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = False,
    horizon: int | None = None,
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
        Its ``numpy.random.SeedSequence`` has a child for the actions and one for each start state.
    deterministic : bool
        Take the most probable action in place of a random one.
    horizon : int, optional
        Steps after which an episode ends, if it has not; the environment's unless given, and to be given
        where that has none.
    """
    started = time.perf_counter()
    check_policy(policy, env)
    theta = check_theta(policy, theta)
    check_integer("episodes", episodes, 1)
    horizon = check_horizon(env, horizon)
    generator, seeds = _random(seed, episodes)
    games = [_twin(env) for _ in range(episodes)]
    observations = np.array([game.reset(seed=s)[0] for game, s in zip(games, seeds, strict=True)])
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    alive = np.arange(episodes)
    while alive.size:
        actions = _actions(policy, theta, observations[alive], generator, deterministic)
        running = []
        for i, action in zip(alive, actions, strict=True):
            observations[i], reward, terminated, truncated, _ = games[i].step(action)
            returns[i] += reward
            lengths[i] += 1
            if not (terminated or truncated or lengths[i] == horizon):
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
    horizon: int | None = None,
) -> float:
    """Record one episode to a .gif or .mp4 file, and return its return.

    Gymnasium's renderer draws its own environment; where it has none, one of fastpg's with a method
    ``picture(state)``, which returns a picture as Gymnasium has them, uint8, shape (height, width, 3).

    Parameters
    ----------
    env, policy, theta, seed, deterministic
        As for `play`.
    path : path
    horizon : int, optional
        Steps after which the recording ends; as for `play`.

    Raises
    ------
    ValueError
        If the file is neither, its directory does not exist or cannot be written, or nobody draws the
        environment.
    """
    target = check_recording(path)
    check_policy(policy, env)
    theta = check_theta(policy, theta)
    horizon = check_horizon(env, horizon)
    generator, (reset_seed,) = _random(seed, 1)
    with _no_display(), closing(_drawn(env)) as game:
        fps = game.metadata["render_fps"]
        # A GIF of 50 a second is large, and many viewers balk.
        every = 2 if target.suffix == ".gif" and fps > _GIF_PICTURES_A_SECOND else 1
        observation, _ = game.reset(seed=reset_seed)
        frames, total, steps, over = [game.render()], 0.0, 0, False
        while not over:
            action = _actions(policy, theta, observation[np.newaxis], generator, deterministic)[0]
            observation, reward, terminated, truncated, _ = game.step(action)
            total += float(reward)
            steps += 1
            if steps % every == 0:
                frames.append(game.render())
            over = terminated or truncated or steps == horizon
    _write(frames, fps / every, target)
    return total


def is_drawn(env: Any) -> bool:
    """Return whether an episode of an environment can be recorded."""
    return hasattr(type(env), "gymnasium_twin") or hasattr(type(env), "picture")


def check_recording(path: str | os.PathLike) -> Path:
    """Return the file a recording may be written to, or raise ValueError."""
    target = Path(path)
    if target.suffix not in (".gif", ".mp4"):
        raise ValueError(f"path={str(path)!r}: a recording is a .gif or an .mp4 file")
    if not target.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no directory {target.parent}")
    if target.is_dir():
        raise ValueError(f"path={str(path)!r}: is a directory")
    try:
        tempfile.TemporaryDirectory(dir=target.parent).cleanup()
    except OSError as error:
        raise ValueError(f"path={str(path)!r}: cannot be written ({error.strerror})") from None
    return target


def _random(seed: int, episodes: int) -> tuple[np.random.Generator, list[int]]:
    """A generator for the actions and a seed for each episode, independent of one another."""
    actions, *starts = np.random.SeedSequence(check_integer("seed", seed, 0)).spawn(episodes + 1)
    return np.random.default_rng(actions), [int(s.generate_state(1, np.uint64)[0]) for s in starts]


@contextmanager
def _no_display() -> Iterator[None]:
    """Let pygame draw into memory, unless the user has chosen where."""
    chosen = "SDL_VIDEODRIVER" in os.environ
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        yield
    finally:
        if not chosen:
            del os.environ["SDL_VIDEODRIVER"]


_GIF_PICTURES_A_SECOND = 25


def _drawn(env):
    """Gymnasium's environment, or fastpg's where it has none."""
    if hasattr(type(env), "gymnasium_twin"):
        return env.gymnasium_twin("rgb_array")
    if not is_drawn(env):
        raise ValueError(f"env: {type(env).__name__} has no gymnasium_twin() and no picture(), which draw it")
    return Env(env, render_mode="rgb_array")


def _twin(env):
    if not hasattr(type(env), "gymnasium_twin"):
        raise ValueError(f"env: {type(env).__name__} has no gymnasium_twin(), so Gymnasium cannot play it")
    return env.gymnasium_twin(None)


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
