"""fastpg's environments: dynamics only, one file each. The classes can be imported from here."""

import importlib
from typing import Any

_MODULES = {
    "Acrobot": "acrobot",
    "Bandit": "bandit",
    "Blackjack": "blackjack",
    "CartPole": "cartpole",
    "CartPoleV0": "cartpole",
    "Chain": "chain",
    "CliffWalking": "cliff_walking",
    "FiniteMDP": "finite_mdp",
    "FrozenLake": "frozen_lake",
    "FrozenLake8x8": "frozen_lake",
    "LinearQuadratic": "linear_quadratic",
    "MountainCar": "mountain_car",
    "MountainCarContinuous": "mountain_car_continuous",
    "Pendulum": "pendulum",
    "Taxi": "taxi",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for: most programs need one."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
