"""What an environment is, and making one by name.

An environment is a NamedTuple: its fields are its parameters, its methods its dynamics, written in
plain Python over scalars. That class runs in ordinary Python, step by step in a debugger, and is
compiled into every estimator::

    class State(NamedTuple): ...                      # floats, integers, booleans, arrays of them

    class MyEnvironment(NamedTuple):
        gravity: float = 9.8                          # a parameter; changing it recompiles nothing
        horizon = 500                                 # Gymnasium's time limit; no annotation, so no field
        observation_space = Box(...)                  # Gymnasium spaces; or properties
        action_space = Discrete(2)
        def reset(self, rng): return State(...)
        def observe(self, state): return state.x, state.x_dot
        def step(self, state, action, rng): return State(...), reward, terminated

Where what a user chooses is not what the fields hold (a map by name, say), a classmethod ``make(cls, ...)``
turns the one into the other, and `fastpg.make` calls it. A method ``check_parameters()`` raises ValueError
where fields do not fit together, however the environment was made. A parameter may be an array, read with
`fastpg.tables.lookup`. ``gymnasium_twin(render_mode)`` returns Gymnasium's own environment with the same
parameters, and ``render_state(twin, state)`` puts a state into it: then fastpg can play and draw there.

`rng` gives random numbers: ``fastpg.random.uniform(rng, 0)``, ``uniform(rng, 1)``, ... are the draws of
this step. Functions that the methods call live at module level under ``fastpg.inline``. A class like
this works with every function of fastpg as it is; registration only gives it a name.
"""

import importlib
import inspect
import math
import operator
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core.errors import NumbaError

from fastpg.arguments import hint
from fastpg.interop.registration import register_with_gymnasium
from fastpg.random import seed_key, trajectory_rng


class Spec(NamedTuple):
    """An entry of the registry."""

    id: str
    entry_point: str | Callable[..., Any]
    parameters: dict[str, Any]
    horizon: int | None = None

    def environment_class(self) -> Any:
        """Return the class, imported if need be."""
        return load_class(self.entry_point) if isinstance(self.entry_point, str) else self.entry_point


registry: dict[str, Spec] = {}
"""All environments that `make` knows, by id."""


def register(
    id: str,  # as gymnasium.register calls it
    entry_point: str | Callable[..., Any],
    *,
    horizon: int | None = None,
    **parameters: Any,
) -> None:
    """Give an environment a name for `make`, and "fastpg/<name>" for `gymnasium.make` and `make_vec`.

    Parameters
    ----------
    id : str
        The name, with a version as Gymnasium has it: "Name-v0".
    entry_point : class or str
        The NamedTuple class, or "module:Class", imported when it is first made.
    horizon : int, optional
        The class's horizon, which Gymnasium's registry has as `max_episode_steps`; to be given only if the
        class is a string.
    **parameters
        Values of the parameters under this name, if not the class's defaults.
    """
    if not isinstance(id, str) or not id:
        raise ValueError(f"id={id!r}: must be a name such as 'Name-v0'")
    if horizon is None and isinstance(getattr(entry_point, "horizon", None), int):
        horizon = entry_point.horizon  # type: ignore[union-attr]
    register_with_gymnasium(id, horizon)  # which may refuse the name
    registry[id] = Spec(id, entry_point, parameters, horizon)


def make(id: str, **parameters: Any) -> Any:
    """Return the environment of that name: an immutable NamedTuple of its parameters.

    Without a version ("CartPole"), its latest one. "module:name", as in Gymnasium, first imports the module,
    which registers it.

    Raises
    ------
    ImportError
        If there is no such module.
    ValueError
        If there is no such environment, or a parameter is NaN or infinite.
    TypeError
        If a parameter does not exist, or is not of the kind of its default.

    Examples
    --------
    >>> import fastpg
    >>> fastpg.make("CartPole-v1", gravity=3.7).gravity
    3.7
    """
    module, _, name = str(id).rpartition(":")
    if module:
        importlib.import_module(module)
        id = name
    id = latest_version(id)
    if id not in registry:
        raise ValueError(f"id={id!r}: there is no such environment; {hint(id, sorted(registry))}")
    spec = registry[id]
    cls = spec.environment_class()
    given = {**spec.parameters, **parameters}
    if hasattr(cls, "make"):
        for name, value in given.items():
            _check_name(cls, name, value, tuple(parameters_of(cls)))
        env = cls.make(**given)
    else:
        env = cls(**{name: checked_parameter(cls, name, value) for name, value in given.items()})
    if spec.horizon is not None and env.horizon != spec.horizon:
        raise ValueError(
            f"horizon={spec.horizon}: {id} is registered with it, and {cls.__name__} has {env.horizon}"
        )
    return env


def latest_version(id: Any) -> Any:
    """Return a name as it is, if it is registered or unknown, or with the latest of its versions."""
    if id in registry:
        return id
    pattern = re.compile(rf"{re.escape(str(id))}-v(\d+)")
    versions = [int(match[1]) for match in map(pattern.fullmatch, registry) if match]
    return f"{id}-v{max(versions)}" if versions else id


def parameters_of(cls: Any) -> dict[str, Any]:
    """Return the parameters that `make` takes for a class, with their defaults."""
    fields = {name: cls._field_defaults.get(name, inspect.Parameter.empty) for name in cls._fields}
    if not hasattr(cls, "make"):
        return fields
    parameters: dict[str, Any] = {}
    for base in cls.__mro__:  # a subclass may pass what it does not name on to its base's
        if "make" in vars(base):
            signature = inspect.signature(base.make).parameters.values()
            named = (p for p in signature if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))
            parameters = {p.name: p.default for p in named} | parameters
            if all(p.kind is not p.VAR_KEYWORD for p in signature):
                return parameters
    return fields | parameters


_observation_shapes: dict[tuple, tuple[int, ...]] = {}


def _shape(value):
    """What a type has of a value: the shapes of arrays, and of tuples within tuples."""
    return tuple(map(_shape, value)) if isinstance(value, tuple) else np.shape(value)


def observation_shape(env: Any) -> tuple[int, ...]:
    """Return the shape of an observation: (n,) of a tuple, () of an integer, an array's own.

    A matter of the environment's type (of its arrays' shapes too, where it has some), so asked once.
    """
    key = type(env), _shape(env)
    if key not in _observation_shapes:
        _observation_shapes[key] = np.shape(env.observe(some_state(env)))
    return _observation_shapes[key]


def some_state(env: Any) -> Any:
    """Return a state, for its types."""
    try:  # NumPy's numbers, for which nothing has to be compiled
        return env.reset(np.random.default_rng(0))
    except NumbaError:  # they went into a compiled function
        return env.reset(trajectory_rng(seed_key(0), 0))


def observation_length(env: Any) -> int:
    """Return the number of components of an observation, 0 if it is an integer."""
    shape = observation_shape(env)
    return math.prod(shape) if shape else 0


def load_class(path: str) -> Any:
    """Return the NamedTuple class named "module:Class" (or "module:Outer.Class"); imports the module.

    Raises
    ------
    ImportError, AttributeError
        If there is none of that name.
    TypeError
        If it is anything but a NamedTuple class, so that a name from a file cannot call what it likes.
    """
    module, _, name = path.partition(":")
    cls = operator.attrgetter(name)(importlib.import_module(module))
    if not (isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")):
        raise TypeError(f"{path!r}: must name a typing.NamedTuple class")
    return cls


def checked_parameter(cls: Any, name: str, value: Any) -> Any:
    """Return a parameter as its field's type has it, or raise."""
    _check_name(cls, name, value, cls._fields)
    default = cls._field_defaults.get(name)
    if isinstance(default, bool | int | float) and getattr(value, "ndim", None) == 0:
        value = value.item()  # a NumPy scalar, or an array of no dimensions
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r}: must be True or False")
        return value
    if isinstance(default, int | float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name}={value!r}: must be a number, like the default {default!r}")
        if not -sys.float_info.max <= value <= sys.float_info.max:  # an integer may be larger than any float
            raise ValueError(f"{name}={value!r}: must be finite")
        if isinstance(default, int) and value != int(value):
            raise TypeError(f"{name}={value!r}: must be an integer, like the default {default!r}")
        return type(default)(value)
    return value


def _check_name(cls, name, value, known):
    if name not in known:
        raise TypeError(f"{name}={value!r}: {cls.__name__} has no such parameter; {hint(name, known)}")


for _id, _entry_point, _horizon, _parameters in (
    ("Acrobot-v1", "acrobot:Acrobot", 500, {}),
    ("Bandit-v0", "bandit:Bandit", 1, {}),
    ("Blackjack-v1", "blackjack:Blackjack", None, {}),
    ("CartPole-v0", "cartpole:CartPoleV0", 200, {}),
    ("CartPole-v1", "cartpole:CartPole", 500, {}),
    ("Chain-v0", "chain:Chain", 1000, {}),
    ("CliffWalking-v1", "cliff_walking:CliffWalking", None, {}),
    ("CliffWalkingSlippery-v1", "cliff_walking:CliffWalking", None, {"is_slippery": True}),
    ("FrozenLake-v1", "frozen_lake:FrozenLake", 100, {}),
    ("FrozenLake8x8-v1", "frozen_lake:FrozenLake8x8", 200, {}),
    ("LinearQuadratic-v0", "linear_quadratic:LinearQuadratic", None, {}),
    ("MinAtar/Asterix-v0", "minatar_asterix:Asterix", None, {"use_minimal_action_set": False}),
    ("MinAtar/Asterix-v1", "minatar_asterix:Asterix", None, {}),
    ("MinAtar/Breakout-v0", "minatar_breakout:Breakout", None, {"use_minimal_action_set": False}),
    ("MinAtar/Breakout-v1", "minatar_breakout:Breakout", None, {}),
    ("MountainCar-v0", "mountain_car:MountainCar", 200, {}),
    ("MountainCarContinuous-v0", "mountain_car_continuous:MountainCarContinuous", 999, {}),
    ("Pendulum-v1", "pendulum:Pendulum", 200, {}),
    ("Taxi-v4", "taxi:Taxi", 200, {}),
):
    register(_id, f"fastpg.envs.{_entry_point}", horizon=_horizon, **_parameters)
