"""Many copies of an environment of fastpg's, as Gymnasium has them: `VectorEnv`.

Autoreset is that of `gymnasium.vector.SyncVectorEnv` (https://farama.org/Vector-Autoreset-Mode). Seeding is
not: see `VectorEnv`. Infos hold nothing else: Gymnasium's toy texts have "prob", the probability of what was
drawn, and Taxi an "action_mask", for which there is `action_mask` of `fastpg.envs.taxi.Taxi`.

* NEXT_STEP: the step after an episode's last ignores the action, pays 0 and returns the first
  observation of the next episode.
* SAME_STEP: the last step returns the first observation of the next episode; what was seen last is in
  ``infos["final_obs"]``, as an object array, where ``infos["_final_obs"]`` is true.
* DISABLED: ``reset(options={"reset_mask": over})`` begins the next episodes.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Space, Tuple
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from fastpg.arguments import (
    MAX_HORIZON,
    check_action_space,
    check_environment,
    check_horizon,
    check_integer,
    check_seed,
    check_threads,
)
from fastpg.environment import make
from fastpg.interop.rendering import Renderer, metadata_of
from fastpg.interop.reset_options import chosen_bounds, moved
from fastpg.nests import element
from fastpg.random import seed_key
from fastpg.simulator import Simulator

MAX_ENVS = 2**31
_MAX_INT64 = 2**63 - 1


class VectorEnv(gymnasium.vector.VectorEnv):
    """Copies of one environment, stepped by compiled code on all cores.

    Parameters
    ----------
    env : NamedTuple
        An environment, from `fastpg.make` or of your own class.
    num_envs : int
        1 to 2**31.
    autoreset_mode : gymnasium.vector.AutoresetMode or str
        "NextStep" unless given, "SameStep" or "Disabled".
    max_episode_steps : int, optional
        Steps after which an episode is truncated, -1 for no limit; the environment's horizon, if it has one,
        unless given.
    threads : int, optional
        All that Numba is set to use unless given; few environments use fewer. Results do not depend on it.
    render_mode : "rgb_array", optional
        `render` then returns a picture of each environment, its own (``env.picture``) or Gymnasium's.

    ``reset(seed=s)`` gives environment i in its episode e random numbers of its own, a function of (s, i,
    e): in the first episode those of trajectory i of `fastpg.policy_gradient` under seed s. A list of
    seeds gives each environment those that `Env` has under its seed. Without a seed, the first reset
    draws one from the operating system, and later ones go on.

    States can be read, ``states``, and set, ``set_states``, as a NamedTuple of arrays.
    """

    def __init__(
        self,
        env: Any,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        threads: int | None = None,
        render_mode: str | None = None,
    ):
        super().__init__()
        check_environment(env)
        self.env = env
        self.num_envs = check_integer("num_envs", num_envs, 1, MAX_ENVS)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**metadata_of(env, ("rgb_array",)), "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._renderer = Renderer(env, render_mode, ("rgb_array",))
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        check_action_space(env.action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._simulator = Simulator(
            env,
            self.num_envs,
            _horizon(env, max_episode_steps),
            _observation_dtype(self.single_observation_space),
            self.autoreset_mode is AutoresetMode.SAME_STEP,
            check_threads(threads),
        )
        shape, space = self._simulator.observation_shape, self.single_observation_space
        if shape != ((len(space.spaces),) if isinstance(space, Tuple) else space.shape):
            returned = f"an array of shape {shape}" if len(shape) > 1 else f"{math.prod(shape)} numbers"
            raise ValueError(f"observation_space={space}: observe returns {returned}")
        self._seeds: tuple[int, ...] | None = None
        self._autoreset = self.autoreset_mode is not AutoresetMode.DISABLED
        self._actions_shape = (self.num_envs, *self.single_action_space.shape)  # type: ignore[misc]
        self._action_kinds = "iu" if isinstance(self.single_action_space, Discrete) else "fiu"
        self._some_action = getattr(self.single_action_space, "start", 0)
        self._begun = False

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]  # as SyncVectorEnv has it
        """The seed of each environment."""
        if self._seeds is None:
            self._seed(None)
        return self._seeds  # type: ignore[return-value]

    @property
    def over(self) -> np.ndarray:
        """Whose episode has ended and not yet begun anew, shape (num_envs,)."""
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            return np.zeros(self.num_envs, np.bool_)
        return self._simulator.over.copy()

    @property
    def states(self) -> Any:
        """The states: the environment's NamedTuple, its fields with a first axis of length num_envs."""
        return self._simulator.states()

    def set_states(self, states: Any, where: Any = slice(None)) -> None:
        """Set all states, or those that an index picks; their episodes go on as if they had just begun.

        `states` is like `states`, with arrays as long as what `where` picks, or numbers.
        """
        self._simulator.set_states(states, where)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Begin new episodes, everywhere or where ``options["reset_mask"]`` is true.

        Other options are those of Gymnasium's environment, where it has some: "low" and "high" of CartPole,
        Acrobot and both MountainCars, "x_init" and "y_init" of Pendulum.
        """
        mask = None
        if options is not None and "reset_mask" in options:
            mask = options["reset_mask"]
            self._check_mask(mask)
        bounds = chosen_bounds(self.env, options)
        if seed is not None or self._seeds is None:
            self._seed(seed, mask)
        self._begun = True
        observations = self._simulator.reset(mask)
        if bounds is not None:
            begun, states = slice(None) if mask is None else mask, self.states
            starts = moved(self.env, type(states)(*(field[begun] for field in states)), bounds)
            self._simulator.set_states(starts, begun)
            observations = self._simulator.reset(np.zeros(self.num_envs, np.bool_))  # of the states there are
        return self._observed(observations), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Step all environments: observations, rewards, terminated, truncated, infos."""
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset before step")
        array = self._check_actions(actions)
        autoreset = self._autoreset
        if not autoreset and self._simulator.over.any():
            raise AssertionError(
                "an episode is over: reset(options={'reset_mask': terminated | truncated}) before step"
            )
        outcome = self._simulator.step(array, autoreset)
        if outcome is None and autoreset and self.over.any():  # whose actions count for nothing
            array = array.copy()
            array[self.over] = self._some_action
            outcome = self._simulator.step(array, autoreset)
        if outcome is None:
            raise self._invalid(actions)
        observations, final, rewards, terminated, truncated = outcome
        infos: dict[str, Any] = {}
        if self._simulator.same_step and (over := self._simulator.over).any():
            last = single_observations(self.single_observation_space, final[over])
            final_obs = np.full(self.num_envs, None, dtype=object)
            final_obs[over] = np.fromiter(last, object, len(last))
            infos = {
                "final_obs": final_obs,
                "_final_obs": over.copy(),
                "final_info": {},
                "_final_info": over.copy(),
            }
        return self._observed(observations), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each environment."""
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset before render")
        if not self._renderer.can_draw():
            return None
        states = self.states
        return tuple(self._renderer.draw(element(states, i)) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close the renderer."""
        self._renderer.close()

    def _seed(self, seed, where=None):
        where = slice(None) if where is None else where
        n = self.num_envs
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        if np.ndim(seed) == 0:
            seed = getattr(seed, "item", lambda: seed)()  # an array of no dimensions
            keys, numbers = seed_key(check_seed(seed)), np.arange(n)[where]
            seeds = [int(seed)] * n
        elif len(seed) != n:
            raise ValueError(f"seed: a list must have num_envs={n} seeds, not {len(seed)}")
        else:
            if self._seeds is None:
                self._seed(None)
            seeds = [
                old if s is None else check_seed(s) for s, old in zip(seed, self.np_random_seed, strict=True)
            ]
            given = np.array([s is not None for s in seed])  # None goes on with the stream there is
            where = given if isinstance(where, slice) else given & where
            keys, numbers = np.array([seed_key(s) for s in seeds], np.uint64)[where], 0
        self._simulator.seed(keys, numbers, where)
        if self._seeds is not None and not isinstance(where, slice):
            seeds = np.where(where, np.array(seeds, object), np.array(self._seeds, object)).tolist()
        self._seeds = tuple(seeds)

    def _check_actions(self, actions):
        """Actions as an array of the right shape; whether all are in the space, the simulator tells."""
        try:
            array = np.asarray(actions)
        except ValueError:  # rows of unequal length
            raise self._invalid(actions) from None
        if array.dtype == np.uint64 and array.size and array.max() > _MAX_INT64:
            raise self._invalid(actions)
        if array.shape != self._actions_shape or array.dtype.kind not in self._action_kinds:
            raise self._invalid(actions)
        return array

    def _invalid(self, actions):
        """An AssertionError, as in Gymnasium."""
        space = self.single_action_space
        if isinstance(space, Discrete):
            allowed = f"{self.num_envs} integers from {space.start} to {space.start + space.n - 1}"
        else:  # beyond the bounds the environment clips, as Gymnasium's do
            allowed = f"finite numbers of shape {self._actions_shape}"
        return AssertionError(f"{actions!r} ({type(actions)}) invalid: must be {allowed}")

    def _check_mask(self, mask):
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask']={mask!r}: must be an array of booleans")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"options['reset_mask']: has shape {mask.shape}, must have ({self.num_envs},)")
        if not mask.any():
            raise ValueError("options['reset_mask']: must be true somewhere")
        if not (self._begun or mask.all()):
            raise ValueError("options['reset_mask']: the first reset must be of all environments")

    def _observed(self, observations):
        if isinstance(self.single_observation_space, Tuple):
            return tuple(np.ascontiguousarray(column) for column in observations.T)
        return observations


def make_vec(
    id: str,
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    threads: int | None = None,
    render_mode: str | None = None,
    **parameters: Any,
) -> VectorEnv:
    """Return a `VectorEnv` of the environment of that name: ``make_vec("CartPole-v1", 1024, gravity=3.7)``.

    The other arguments are those of `VectorEnv`, and the environment's parameters, as in `fastpg.make`.
    """
    return VectorEnv(
        make(id, **parameters),
        num_envs,
        autoreset_mode=autoreset_mode,
        max_episode_steps=max_episode_steps,
        threads=threads,
        render_mode=render_mode,
    )


def make_vector(fastpg_id: str, **settings: Any) -> VectorEnv:
    """The entry point of `gymnasium.make_vec`."""
    return make_vec(fastpg_id, **settings)


def _horizon(env, max_episode_steps):
    if max_episode_steps == -1 or (max_episode_steps is None and env.horizon is None):
        return MAX_HORIZON  # -1: as in `gymnasium.make`
    if max_episode_steps is None:
        return check_horizon(env, None)
    return check_integer("max_episode_steps", max_episode_steps, 1, MAX_HORIZON)


def _autoreset_mode(mode):
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(repr(m.value) for m in AutoresetMode)
        raise ValueError(f"autoreset_mode={mode!r}: must be one of {allowed}") from None


def _observation_dtype(space: Space) -> Any:
    if isinstance(space, Box) and len(space.shape) > 0:
        return space.dtype
    if isinstance(space, Discrete):
        return np.int64
    if isinstance(space, Tuple) and all(isinstance(part, Discrete) for part in space.spaces):
        return np.int64
    raise TypeError(
        f"observation_space={space}: must be a Box with an axis, Discrete, or a Tuple of Discrete"
    )


def single_observations(space, observations):
    """A batch as a list of what the single environment returns."""
    if isinstance(space, Discrete):
        return observations.tolist()
    return list(map(tuple, observations.tolist())) if isinstance(space, Tuple) else list(observations)
