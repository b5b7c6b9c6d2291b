"""Start states from other intervals, by Gymnasium's options: ``reset(options={"low": -0.2, "high": 0.2})``.

An environment whose start states are uniform on intervals has a method ``start_bounds(self, *, ...)``, with
the options and their defaults as Gymnasium's environment has them, which returns two states: the lower ends
and the upper ones. A start state s of the default intervals [a, b) becomes the same random number in
another interval, low + (s - a) / (b - a) (high - low).
"""

import inspect
from typing import Any

import numpy as np

from fastpg.arguments import check_number


def chosen_bounds(env: Any, options: dict[str, Any] | None) -> Any:
    """Return what options make of the lower and upper ends of start states, None if they say nothing.

    As Gymnasium's environments do, it passes over options that an environment does not have.

    Raises
    ------
    TypeError, ValueError
        If an option is not a finite number, or a lower end above the upper one.
    """
    if not options or not hasattr(type(env), "start_bounds"):
        return None
    names = [name for name in inspect.signature(env.start_bounds).parameters if name in options]
    if not names:
        return None
    given = {name: check_number(f"options[{name!r}]", options[name]) for name in names}
    low, high = env.start_bounds(**given)
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"options={given!r}: the lower end of an interval is above the upper one")
    return low, high


def moved(env: Any, states: Any, bounds: Any) -> Any:
    """Return start states of the default intervals, moved into others; fields of one value stay."""
    defaults = env.start_bounds()
    fields = (
        state if a == b else np.clip(low + (state - a) / (b - a) * (high - low), low, high)
        for state, a, b, low, high in zip(states, *defaults, *bounds, strict=True)
    )
    return type(states)(*fields)
