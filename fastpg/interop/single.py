"""One environment of fastpg's, as `gymnasium.make` gives it: `Env`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Tuple
from gymnasium.vector import AutoresetMode

from fastpg.arguments import MAX_HORIZON
from fastpg.environment import make, registry
from fastpg.interop.rendering import Renderer, metadata_of
from fastpg.interop.vector import VectorEnv, single_observations
from fastpg.nests import element


class Env(gymnasium.Env):
    """One environment, as `gymnasium.make` gives it: a `VectorEnv` of one that resets when told.

    Parameters
    ----------
    env : NamedTuple
        An environment, from `fastpg.make` or of your own class.
    render_mode : str, optional
        One that Gymnasium's own environment has ("rgb_array", "human", ...), which draws; "rgb_array" where
        the environment draws itself: ``env.picture(state)``.
    time_limit : bool
        Truncate at the environment's horizon; `gymnasium.make` does it itself.

    ``reset(seed=s)`` gives the start and the random numbers of trajectory 0 of `fastpg.policy_gradient` under
    seed s. ``state`` is the environment's NamedTuple.
    """

    def __init__(self, env: Any, *, render_mode: str | None = None, time_limit: bool = True):
        self.env = env
        self.metadata = metadata_of(env, None)
        self.render_mode = render_mode
        self._renderer = Renderer(env, render_mode, self.metadata.get("render_modes", ()))
        horizon = None if time_limit else MAX_HORIZON
        self._vector = VectorEnv(
            env, 1, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=horizon, threads=1
        )
        self._terminated = False
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    @property
    def state(self) -> Any:
        """The state."""
        return element(self._vector.states, 0)

    def set_state(self, state: Any) -> None:
        """Go on from this state, as if the episode had just begun."""
        self._vector.set_states(state)
        self._terminated = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Begin an episode; options are those of `VectorEnv.reset`."""
        super().reset(seed=seed)
        options = {name: value for name, value in (options or {}).items() if name != "reset_mask"}
        observations, _ = self._vector.reset(seed=seed, options=options)
        self._terminated = False
        if self.render_mode == "human":
            self.render()
        return self._single(observations), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Step: observation, reward, terminated, truncated, info."""
        if isinstance(self.action_space, Discrete) and not self.action_space.contains(action):
            raise AssertionError(f"{action!r} ({type(action)}) invalid")
        if self._terminated:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset before step")
        if isinstance(self.action_space, Discrete):
            action = int(action)  # which may have been a boolean
        else:
            self._check_action(action)
        self._vector._simulator.over[:] = False  # one that is truncated may go on
        observations, rewards, terminated, truncated, _ = self._vector.step(np.asarray(action)[np.newaxis])
        self._terminated = bool(terminated[0])
        if self.render_mode == "human":
            self.render()
        return self._single(observations), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def _check_action(self, action):
        """Raise AssertionError unless an action of a Box is as many finite numbers."""
        shape = self.action_space.shape
        array = np.asarray(action)
        if array.shape != shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise AssertionError(
                f"{action!r} ({type(action)}) invalid: must be finite numbers of shape {shape}"
            )

    def render(self) -> Any:
        """Return the environment's picture of the state, or what Gymnasium's renderer makes of it."""
        if not self._vector._begun:
            raise gymnasium.error.ResetNeeded("call reset before render")
        return self._renderer.draw(self.state) if self._renderer.can_draw() else None

    def close(self) -> None:
        """Close the renderer."""
        self._vector.close()
        self._renderer.close()

    def _single(self, observations):
        if isinstance(self.observation_space, Tuple):
            return tuple(int(column[0]) for column in observations)
        return single_observations(self.observation_space, observations)[0]


def make_single(fastpg_id: str, render_mode: str | None = None, **parameters: Any) -> Env:
    """The entry point that Gymnasium calls: it wraps the time limit itself, if it knows one.

    Where its registry knows none (the horizon of LinearQuadratic-v0 is a parameter), the environment has its
    own, which a `max_episode_steps` of `gymnasium.make` can shorten and `horizon=` alone lengthen.
    """
    time_limit = registry[fastpg_id].horizon is None
    return Env(make(fastpg_id, **parameters), render_mode=render_mode, time_limit=time_limit)


# Where Gymnasium looks before it calls the entry point: it makes "rgb_array_list" of "rgb_array".
make_single.metadata = {"render_modes": ["human", "rgb_array", "ansi"]}  # type: ignore[attr-defined]
