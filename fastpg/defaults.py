"""Settings that are known to train each registered environment: what `fastpg train ENV` uses.

They are found by trial; ``python -m bench.training`` shows what they reach.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fastpg.optimizers import Adam, NaturalGradient
from fastpg.policies import policy_for
from fastpg.runs import has_default_parameters, id_of


class Settings(NamedTuple):
    """What `fastpg.train` is given; None: what it takes of its own accord."""

    policy: Any
    estimator: Any = None
    optimizer: Any = None
    n_updates: int | None = None
    n_trajectories: int | None = None
    horizon: int | None = None
    target_return: float | None = None


class _Known(NamedTuple):
    """The same before the environment is known."""

    policy: Callable[[Any], Any] = policy_for
    estimator: Any = None
    optimizer: Any = None
    n_updates: int | None = None
    n_trajectories: int | None = None
    horizon: int | None = None
    target_return: float | None = None


_KNOWN = {
    "CliffWalking-v1": _Known(
        optimizer=NaturalGradient(0.05, 0.01),
        n_updates=100,
        n_trajectories=1000,
        horizon=200,
        target_return=-13,
    ),
}


def settings_for(env: Any) -> Settings:
    """Return settings for training in an environment.

    For a registered environment what is known to work, whatever its parameters; for parameters other than
    the registered ones there is no `target_return`. For any other the policy that fits its spaces, and the
    rest left to `fastpg.train`.

    Raises
    ------
    ValueError
        If fastpg has no policy for the environment's spaces.
    """
    known = _KNOWN.get(id_of(env) or "", _Known())
    if not has_default_parameters(env):
        known = known._replace(target_return=None)
    return Settings(known.policy(env), *known[1:])
