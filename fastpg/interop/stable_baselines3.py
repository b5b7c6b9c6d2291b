"""fastpg's environments under Stable-Baselines3: its `VecEnv`, stepped by the lanes.

SB3 is no dependency of fastpg, and nothing in fastpg imports this module::

    from stable_baselines3 import PPO
    from fastpg.interop.stable_baselines3 import StableBaselinesVecEnv

    PPO("MlpPolicy", StableBaselinesVecEnv(fastpg.make("CartPole-v1"), 8)).learn(100_000)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from fastpg.environment import checked_parameter
from fastpg.interop.vector import VectorEnv


class StableBaselinesVecEnv(VecEnv):
    """Copies of one environment, as Stable-Baselines3 has them (its `DummyVecEnv` sets the conventions).

    An episode's last step returns the first observation of the next; ``infos[i]["terminal_observation"]``
    is what was seen last, and ``infos[i]["TimeLimit.truncated"]`` whether the time limit alone ended it.
    Rewards are float32.

    Parameters
    ----------
    env : NamedTuple or VectorEnv
        An environment, from `fastpg.make` or of your own class; or a `VectorEnv` with
        ``autoreset_mode="SameStep"``, and no other argument.
    num_envs : int
        How many copies.
    **settings
        Further arguments of `VectorEnv`: `max_episode_steps`, `threads`, `render_mode`.
    """

    def __init__(self, env: Any, num_envs: int | None = None, **settings: Any):
        if isinstance(env, VectorEnv):
            if num_envs is not None or settings:
                given = ", ".join(["num_envs"] * (num_envs is not None) + list(settings))
                raise TypeError(f"{given}: a VectorEnv is given, which has its own")
            if env.autoreset_mode is not AutoresetMode.SAME_STEP:
                raise ValueError(f"autoreset_mode={env.autoreset_mode.value!r}: must be 'SameStep'")
            self.vector_env = env
        else:
            if "autoreset_mode" in settings:
                raise TypeError("autoreset_mode: is 'SameStep', as Stable-Baselines3 has it")
            num_envs = 1 if num_envs is None else num_envs
            self.vector_env = VectorEnv(env, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
        self._seed: Any = None
        self._actions: Any = None
        vector = self.vector_env
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)
        self.metadata = vector.metadata

    def seed(self, seed: int | Sequence[int | None] | None = None) -> list[int | None]:
        """Set the seed of the next reset, and return that of each environment.

        Under one seed, each environment has random numbers of its own; neighbouring seeds share none. A
        list is a seed for each. None draws one from NumPy's global generator, as SB3 does.
        """
        if seed is None:
            seed = int(np.random.randint(0, 2**32 - 1, dtype=np.uint32))
        self._seed = seed
        return [seed] * self.num_envs if isinstance(seed, int | np.integer) else list(seed)

    def reset(self) -> Any:
        """Begin new episodes everywhere, and return the observations."""
        observations, _ = self.vector_env.reset(seed=self._seed)
        self._seed = None  # a seed is used once
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step all environments: observations, rewards, dones, infos."""
        observations, rewards, terminated, truncated, final = self.vector_env.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones):
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
            infos[i]["terminal_observation"] = final["final_obs"][i]
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the renderer."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return Gymnasium's picture of each environment."""
        return self.vector_env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, such as a parameter, for each index."""
        owner = self.vector_env if attr_name in ("render_mode", "spec") else self.vector_env.env
        return [getattr(owner, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set a parameter that is a number, in all environments at once: they share it.

        The spaces and the time limit stay as they are.
        """
        vector = self.vector_env
        env = vector.env
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(
                f"indices={indices!r}: the environments share their parameters, so set all at once"
            )
        value = checked_parameter(type(env), attr_name, value)
        if not isinstance(value, bool | int | float):
            raise TypeError(f"{attr_name}: only parameters that are numbers can be set")
        vector.env = vector._simulator.env = env._replace(**{attr_name: value})
        vector.close_extras()  # the renderer has the old one

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the environment, which holds the parameters and no state, for each index."""
        method = getattr(self.vector_env.env, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Return False for each index: there are no wrappers inside."""
        return [False] * len(list(self._get_indices(indices)))
