"""Checks at the border: what every public function refuses, and how it says so."""

import math
import operator
from collections.abc import Iterable
from functools import lru_cache
from numbers import Real
from typing import Any

import numba
import numpy as np

from fastpg.random import MAX_SEED

MAX_HORIZON = 2**40
MAX_TRAJECTORIES = 2**61  # so that the numbers of a seed's trajectories stay within int64
MAX_PARAMETERS = 100  # θ and the running score are unrolled


_EXAMPLES = {
    "env": "such as fastpg.make('CartPole-v1')",
    "policy": "such as fastpg.SoftmaxLinear.for_env(env)",
    "estimator": "such as fastpg.REINFORCE(baseline='mean')",
    "optimizer": "such as fastpg.Adam(0.1)",
}


def check_environment(env: Any) -> None:
    """Raise TypeError unless `env` is a NamedTuple with an environment's methods and attributes.

    ValueError if a parameter is NaN. (Infinity is for the environment to judge: it may mean "no limit".)
    What its own ``check_parameters()`` raises, if it has one, is for parameters that do not fit together.
    """
    if isinstance(env, str):
        raise TypeError(f"env={env!r}: must be an environment, not a name; use fastpg.make({env!r})")
    _check_named_tuple("env", env, ("reset", "observe", "step", "action_space", "horizon"))
    for name, value in zip(env._fields, env, strict=True):
        if isinstance(value, float) and value != value:  # which no comparison in a step would notice
            raise ValueError(f"env: {name} is nan, must be a number")
    if hasattr(type(env), "check_parameters"):
        env.check_parameters()


def check_action_space(space: Any) -> None:
    """Raise TypeError unless actions are integers or vectors of real numbers."""
    from gymnasium.spaces import Box, Discrete

    if not isinstance(space, Discrete) and not (isinstance(space, Box) and len(space.shape) == 1):
        raise TypeError(f"action_space={space}: must be Discrete, or a Box of one axis")


def check_policy(policy: Any, env: Any) -> None:
    """Raise TypeError unless `policy` has a policy's methods, ValueError unless it is one for `env`."""
    pair: Any = (type(policy), policy, type(env), env)
    try:
        _check_pair(*pair)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        _check_pair.__wrapped__(*pair)  # an environment with arrays


@lru_cache(256)
def _check_pair(policy_class, policy, env_class, env):
    """Once for each pair; the classes are given because tuples of several are equal."""
    _check_named_tuple("policy", policy, ("sample", "score", "n_parameters"))
    if hasattr(policy, "check_environment"):
        policy.check_environment(env)


def check_estimator(estimator: Any) -> None:
    """Raise TypeError unless `estimator` is a NamedTuple with an estimator's methods."""
    _check_named_tuple("estimator", estimator, ("check", "accumulator", "totals_shape", "gradient", "terms"))


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError unless `optimizer` has an optimizer's methods."""
    if isinstance(optimizer, type) or not (hasattr(optimizer, "initial") and hasattr(optimizer, "step")):
        raise TypeError(f"optimizer={optimizer!r}: must have initial() and step(), {_EXAMPLES['optimizer']}")


def _check_named_tuple(name, value, members):
    if not (isinstance(value, tuple) and hasattr(value, "_fields")):
        raise TypeError(
            f"{name}={value!r}: must be an instance of a typing.NamedTuple class, {_EXAMPLES[name]}"
        )
    if missing := _missing(type(value), members):
        raise TypeError(f"{name}={value!r}: {type(value).__name__} lacks {', '.join(missing)}")


@lru_cache(256)
def _missing(cls, members):
    return [member for member in members if not hasattr(cls, member)]


def check_theta(policy: Any, theta: Any, name: str = "theta") -> np.ndarray:
    """Return θ as a contiguous float64 vector of the policy's length, or raise."""
    if policy.n_parameters > MAX_PARAMETERS and not hasattr(policy, "factor"):
        raise ValueError(
            f"policy: has {policy.n_parameters} parameters, at most {MAX_PARAMETERS} can be compiled"
        )
    return check_vector(name, theta, policy.n_parameters)


def check_vector(name: str, theta: Any, length: int) -> np.ndarray:
    """Return a contiguous float64 vector of that length, finite, or raise."""
    try:
        array = np.asarray(theta)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"{array.dtype} given")
        array = np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: must be an array of {length} numbers ({error})") from None
    if np.shape(theta) != (length,):
        raise ValueError(f"{name}: has shape {np.shape(theta)}, must have ({length},)")
    if not np.isfinite(array).all():
        where = np.flatnonzero(~np.isfinite(array))
        raise ValueError(f"{name}: must be finite, but {name}[{where[0]}] is {array[where[0]]}")
    return array


def check_integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return an integer within bounds, or raise."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: must be an integer") from None
    if integer < minimum or (maximum is not None and integer > maximum):
        allowed = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return integer


def check_horizon(env: Any, horizon: Any) -> int:
    """Return the horizon, the environment's own if none is given, or raise."""
    if horizon is None and env.horizon is None:
        raise ValueError(f"horizon=None: {type(env).__name__} has no time limit of its own; give one")
    return check_integer("horizon", env.horizon if horizon is None else horizon, 1, MAX_HORIZON)


def check_dtype(dtype: Any) -> int:
    """Return the bits of a number, 32 or 64, or raise unless that is float32 or float64."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in ("float32", "float64") or dtype is None:
        raise ValueError(f"dtype={dtype!r}: must be float32 or float64")
    return int(name[-2:])


def check_discount(discount: Any, name: str = "discount") -> float:
    """Return the discount γ, or another number between 0 and 1, or raise."""
    if isinstance(discount, bool) or not isinstance(discount, Real):
        raise TypeError(f"{name}={discount!r}: must be a number")
    gamma = float(discount)
    if not 0 <= gamma <= 1:
        raise ValueError(f"{name}={discount!r}: must be between 0 and 1")
    return gamma


def check_number(name: str, value: Any) -> float:
    """Return a finite number, or raise."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}: must be a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}={value!r}: must be finite")
    return number


def check_positive(name: str, value: Any) -> float:
    """Return a finite number above 0, or raise."""
    if not check_number(name, value) > 0.0:
        raise ValueError(f"{name}={value!r}: must be positive")
    return float(value)


def hint(given: Any, known: Iterable[str]) -> str:
    """Return what may have been meant by a name that is not known, or all that are."""
    import difflib  # which few programs need

    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."


def check_baseline(baseline: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless a baseline is one of those that an estimator has."""
    if baseline not in allowed:
        raise ValueError(f"baseline={baseline!r}: not one of this estimator; {hint(baseline, allowed)}")


def check_seed(seed: Any) -> int:
    """Return the seed, or raise."""
    return check_integer("seed", seed, 0, MAX_SEED)


def check_threads(threads: Any) -> int | None:
    """Return the number of threads (None: as many as Numba is set to use), or raise."""
    if threads is None:
        return None
    return check_integer("threads", threads, 1, numba.config.NUMBA_NUM_THREADS)
